//! Background tasks: start, read, list, cancel, delete.
//!
//! * [`BackgroundSpec`]: the request: kind, scope, selection, requester and expected size.
//! * [`Background`]: the task with its stage and progress.

use serde::{Deserialize, Serialize};

use crate::domain::access::audit::action;
use crate::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use crate::domain::{AppId, BackgroundId, Time, TimeRange};
use crate::store::access::audit::NewAuditEntry;
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::jobs::reconcile::{ReceivedMessageIds, ReconcileSpec};
use crate::store::jobs::reconcile_task;
use crate::store::jobs::resent_deliveries;
use crate::store::jobs::task_data::TaskData;
use crate::store::query::delivery_list::DeliveryFilter;
use crate::store::query::endpoint_messages::EndpointMessageFilter;
use crate::store::{Page, PageRequest, Store, StoreError, Tenant, Tx, on, read};

/// Maximum concurrent tasks of an application, and of the organization scope: tasks are expensive, and any token of
/// the application may start one.
const MAX_RUNNING: i64 = 5;

/// The expected number of deliveries, counted before the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedCount {
    pub count: i64,
    /// Counting stopped at its limit.
    pub more: bool,
}

/// The request for a background task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackgroundSpec {
    pub kind: TaskKind,
    pub scope: TaskScope,
    pub selection: TaskSelection,
    /// Display name of the requester.
    pub by: String,
    /// `None`: not counted.
    pub total: Option<ExpectedCount>,
}

/// The deliveries of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskSelection {
    /// The deliveries of matching messages, within the task's scope.
    Messages(EndpointMessageFilter),
    /// The deliveries of a list.
    Listed(DeliveryFilter),
}

impl TaskSelection {
    /// The times at which the messages were accepted.
    pub fn accepted(&self) -> TimeRange {
        match self {
            TaskSelection::Messages(filter) => filter.accepted,
            TaskSelection::Listed(filter) => filter.accepted,
        }
    }

    /// The filter of messages; `None`: a list.
    pub fn messages(&self) -> Option<&EndpointMessageFilter> {
        match self {
            TaskSelection::Messages(filter) => Some(filter),
            TaskSelection::Listed(_) => None,
        }
    }

    /// The filter of a list; `None`: messages.
    pub fn listed(&self) -> Option<&DeliveryFilter> {
        match self {
            TaskSelection::Messages(_) => None,
            TaskSelection::Listed(filter) => Some(filter),
        }
    }
}

/// A background task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Background {
    pub id: BackgroundId,
    pub spec: BackgroundSpec,
    pub stage: TaskStage,
    /// Messages scanned so far.
    pub looked: i64,
    /// Deliveries queued so far.
    pub sent: i64,
    /// The error of a failed task, or a note that it was canceled.
    pub reason: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The result of starting a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartResult {
    Started(Box<Background>),
    /// The limit of this many running tasks of the application, or of the organization scope, is reached.
    TooMany(i64),
    /// The tenant has no such application or endpoint.
    NotFound,
}

from_row! {
    struct Row {
        id: BackgroundId,
        app_id: Option<AppId>,
        kind: String,
        state: String,
        data: String,
        created_at: Time,
        updated_at: Time,
    }
}

const COLUMNS: &str = Row::COLUMNS;

impl Row {
    /// Whether the tenant can see the task. A token of one application does not see tasks of the organization scope.
    fn seen_by(&self, tenant: &Tenant) -> bool {
        self.app_id.map_or(tenant.only.is_none(), |app| tenant.sees(app))
    }

    fn background(self) -> Result<Background, StoreError> {
        let data: TaskData = codec::from_json(&self.data)?;
        let scope = data.scope(self.app_id)?;
        let selection = match &data.listed {
            None => TaskSelection::Messages(data.filter()),
            Some(listed) => TaskSelection::Listed(listed.filter(self.app_id)),
        };
        Ok(Background {
            id: self.id,
            spec: BackgroundSpec { kind: kind(&self.kind)?, scope, selection, by: data.by, total: data.total },
            stage: TaskStage::from_word(&self.state)
                .ok_or_else(|| StoreError::Damaged(format!("background task with stage {:?}", self.state)))?,
            looked: data.looked,
            sent: data.sent,
            reason: data.reason,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// Parses a stored kind.
pub(in crate::store) fn kind(word: &str) -> Result<TaskKind, StoreError> {
    TaskKind::from_word(word).ok_or_else(|| StoreError::Damaged(format!("background task of kind {word:?}")))
}

impl Store {
    /// Starts a background task. An engine runs it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn start_background(
        &self,
        tenant: &Tenant,
        spec: BackgroundSpec,
        now: Time,
    ) -> Result<StartResult, StoreError> {
        self.start_task(tenant, &spec, None, now).await
    }

    /// Starts a reconciliation: messages that the receiver did not list are resent.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn start_reconciliation(
        &self,
        tenant: &Tenant,
        spec: &ReconcileSpec<'_>,
        by: &str,
        now: Time,
    ) -> Result<StartResult, StoreError> {
        let scope = TaskScope::Endpoint(spec.app, spec.endpoint);
        let selection = TaskSelection::Messages(spec.filter());
        let work = BackgroundSpec { kind: TaskKind::Reconcile, scope, selection, by: by.to_owned(), total: None };
        self.start_task(tenant, &work, Some(spec), now).await
    }

    async fn start_task(
        &self,
        tenant: &Tenant,
        spec: &BackgroundSpec,
        reconciles: Option<&ReconcileSpec<'_>>,
        now: Time,
    ) -> Result<StartResult, StoreError> {
        self.retry_conflicts(|| async {
            let id = BackgroundId::new(now);
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &id.to_string()).await?;
            if !scope_exists(&mut tx, tenant, spec.scope).await? {
                return Ok(StartResult::NotFound);
            }
            const RUNNING: &str = "SELECT count(*) FROM background WHERE state = 'running' AND org = $2
             AND (app_id = $1 OR ($1 IS NULL AND app_id IS NULL))";
            let app = spec.scope.app();
            let running: i64 = on!(tx, db => {
                sqlx::query_scalar(RUNNING).bind(app).bind(&tenant.org).fetch_one(db).await
            })?;
            if running >= MAX_RUNNING {
                return Ok(StartResult::TooMany(running));
            }
            let mut data = TaskData::new(spec);
            if let Some(reconciles) = reconciles {
                data.cursor = reconciles.after.map(|id| id.to_string());
                data.bounded = reconciles.bounded;
                data.digest = matches!(reconciles.received, ReceivedMessageIds::Digest(_));
                reconcile_task::store_received_ids(&mut tx, id, reconciles.received).await?;
            }
            let row = Row {
                id,
                app_id: app,
                kind: spec.kind.word().to_owned(),
                state: TaskStage::Running.word().to_owned(),
                data: codec::json(&data)?,
                created_at: now,
                updated_at: now,
            };
            const SQL: &str = "INSERT INTO background (id, org, app_id, kind, state, data, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
            on!(tx, db => {
                sqlx::query(SQL)
                    .bind(row.id).bind(&tenant.org).bind(app).bind(&row.kind).bind(&row.state).bind(&row.data).bind(now)
                    .execute(db).await.map(drop)
            })?;
            let (target, detail) = (id.to_string(), spec.kind.word());
            self.audit(
                &mut tx,
                NewAuditEntry { org: &tenant.org, app, act: action::RESEND_BEGUN, target: &target, detail },
                now,
            )
            .await?;
            tx.commit().await?;
            Ok(StartResult::Started(Box::new(row.background()?)))
        })
        .await
    }

    /// Cancels a running task: no further step starts. Deliveries it has queued stay pending. `false`: there is no such
    /// task, or it has ended.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn cancel_background(&self, tenant: &Tenant, id: BackgroundId, now: Time) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            // A step locks the row until it commits, so this runs before or after it.
            const END: &str = "UPDATE background SET state = 'canceled', updated_at = $3
             WHERE id = $1 AND org = $2 AND state = 'running' AND ($4 IS NULL OR app_id = $4) RETURNING app_id, data";
            const NOTE: &str = "UPDATE background SET data = $2 WHERE id = $1";
            let row: Option<(Option<AppId>, String)> = on!(tx, db => {
                sqlx::query_as(END).bind(id).bind(&tenant.org).bind(now).bind(tenant.only).fetch_optional(db).await
            })?;
            let Some((app, data)) = row else { return Ok(false) };
            let mut data: TaskData = codec::from_json(&data)?;
            data.reason = Some("canceled".to_owned());
            let data = codec::json(&data)?;
            on!(tx, db => sqlx::query(NOTE).bind(id).bind(data).execute(db).await.map(drop))?;
            let target = id.to_string();
            self.audit(
                &mut tx,
                NewAuditEntry { org: &tenant.org, app, act: action::RESEND_CANCELED, target: &target, detail: "" },
                now,
            )
            .await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// A task of the tenant.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn background(&self, tenant: &Tenant, id: BackgroundId) -> Result<Option<Background>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM background WHERE id = $1 AND org = $2"));
        let row: Option<Row> =
            read!(self, db => sqlx::query_as(sql).bind(id).bind(&tenant.org).fetch_optional(db).await)?;
        row.filter(|row| row.seen_by(tenant)).map(Row::background).transpose()
    }

    /// The tenant's tasks by id, filtered by stages (none: all) and by kind.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn backgrounds(
        &self,
        tenant: &Tenant,
        stages: &[TaskStage],
        kind: Option<TaskKind>,
        page: &PageRequest<BackgroundId>,
    ) -> Result<Page<Background>, StoreError> {
        let (compare, direction) = page.sql();
        let words: Vec<String> = stages.iter().map(|stage| format!("'{}'", stage.word())).collect();
        let among = if words.is_empty() { String::new() } else { format!("AND state IN ({})", words.join(", ")) };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM background WHERE org = $1 AND id {compare} $2
                 AND ($3 IS NULL OR app_id = $3) AND ($4 IS NULL OR kind = $4) {among}
             ORDER BY id {direction} LIMIT $5"
        ));
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(sql)
                .bind(&tenant.org).bind(page.bound()).bind(tenant.only).bind(kind.map(TaskKind::word)).bind(page.rows())
                .fetch_all(db).await
        })?;
        let all: Result<Vec<_>, _> = rows.into_iter().map(Row::background).collect();
        Ok(page.page(all?))
    }

    /// Deletes tasks that ended before `before` with their records: one transaction per task, of at most
    /// [`resent_deliveries::MOST`] and a few rows.
    ///
    /// # Errors
    /// The store is unavailable. Committed deletions stay.
    pub async fn delete_old_background(&self, before: Time) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            reconcile_task::delete_received_ids(&mut tx).await?;
            tx.commit().await
        })
        .await?;
        while self.retry_conflicts(|| self.delete_one(before)).await? {}
        Ok(())
    }

    /// `false`: there is none left.
    async fn delete_one(&self, before: Time) -> Result<bool, StoreError> {
        const NEXT: &str = "SELECT id FROM background WHERE state <> 'running' AND updated_at < $1 ORDER BY id LIMIT 1";
        const FORGET: &str = "DELETE FROM background WHERE id = $1";
        let next: Option<BackgroundId> =
            read!(self, db => sqlx::query_scalar(NEXT).bind(before).fetch_optional(db).await)?;
        let Some(id) = next else { return Ok(false) };
        let mut tx = self.begin().await?;
        resent_deliveries::delete(&mut tx, id).await?;
        on!(tx, db => sqlx::query(FORGET).bind(id).execute(db).await.map(drop))?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Whether the tenant has the application and endpoint of the scope.
pub(in crate::store::jobs) async fn scope_exists(
    tx: &mut Tx,
    tenant: &Tenant,
    scope: TaskScope,
) -> Result<bool, StoreError> {
    const APP: &str = "SELECT 1 FROM application WHERE id = $1 AND org = $2 AND deleted_at IS NULL AND NOT operational";
    const ENDPOINT: &str = "SELECT 1 FROM endpoint e JOIN application p ON p.id = e.app_id
         WHERE e.id = $3 AND p.id = $1 AND p.org = $2 AND e.deleted_at IS NULL AND p.deleted_at IS NULL";
    let found: Option<i32> = match scope {
        TaskScope::Organization => return Ok(tenant.only.is_none()),
        TaskScope::Application(app) | TaskScope::Endpoint(app, _) if !tenant.sees(app) => return Ok(false),
        TaskScope::Application(app) => on!(tx, db => {
            sqlx::query_scalar(APP).bind(app).bind(&tenant.org).fetch_optional(db).await
        })?,
        TaskScope::Endpoint(app, endpoint) => on!(tx, db => {
            sqlx::query_scalar(ENDPOINT).bind(app).bind(&tenant.org).bind(endpoint).fetch_optional(db).await
        })?,
    };
    Ok(found.is_some())
}
