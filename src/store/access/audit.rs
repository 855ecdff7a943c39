//! The audit log. A store handle [with an actor](Store::by) writes an entry for each change, in the transaction of the
//! change.

use std::sync::Arc;

use sqlx::QueryBuilder;

use crate::domain::access::audit::{ACTIONS, Actor, ActorKind};
use crate::domain::{AppId, AuditId, OrgId, Time};
use crate::store::db::codec;
use crate::store::query::page::SCAN;
use crate::store::{PageRequest, Scanned, Store, StoreError, Tenant, Tx, on, read, write_one};

/// Maximum characters of a detail.
const DETAIL: usize = 500;

/// An entry to write.
#[derive(Clone, Copy, Debug)]
pub struct NewAuditEntry<'a> {
    pub org: &'a OrgId,
    pub app: Option<AppId>,
    /// One of [`ACTIONS`].
    pub act: &'static str,
    /// The target: an id or a name.
    pub target: &'a str,
    /// Further details, or empty. Never a secret.
    pub detail: &'a str,
}

impl<'a> NewAuditEntry<'a> {
    /// An act on a target in an organization.
    pub fn of(org: &'a OrgId, act: &'static str, target: &'a str) -> NewAuditEntry<'a> {
        NewAuditEntry { org, app: None, act, target, detail: "" }
    }

    /// Adds the application.
    pub fn within(self, app: AppId) -> NewAuditEntry<'a> {
        NewAuditEntry { app: Some(app), ..self }
    }

    /// Adds details.
    pub fn with(self, detail: &'a str) -> NewAuditEntry<'a> {
        NewAuditEntry { detail, ..self }
    }
}

/// Selects entries; `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub act: Option<String>,
    /// The actor's display name, compared exactly.
    pub who: Option<String>,
}

/// A stored entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: AuditId,
    pub at: Time,
    pub actor: Actor,
    pub act: String,
    pub app: Option<AppId>,
    pub target: String,
    pub detail: String,
}

impl Store {
    /// A handle whose changes are audited as `actor`'s.
    pub fn by(&self, actor: impl Into<Arc<Actor>>) -> Store {
        Store { actor: Some(actor.into()), ..self.clone() }
    }

    /// Writes an entry in the transaction of the change. Does nothing on a handle without an actor.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(in crate::store) async fn audit(
        &self,
        tx: &mut Tx,
        entry: NewAuditEntry<'_>,
        now: Time,
    ) -> Result<(), StoreError> {
        debug_assert!(ACTIONS.contains(&entry.act), "{} is not among the acts that the log's page offers", entry.act);
        let Some(actor) = self.actor.as_deref() else { return Ok(()) };
        write(tx, actor, entry, now).await
    }

    /// Commits a change with its entry.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(in crate::store) async fn commit_audited(
        &self,
        mut tx: Tx,
        entry: NewAuditEntry<'_>,
        now: Time,
    ) -> Result<(), StoreError> {
        self.audit(&mut tx, entry, now).await?;
        tx.commit().await
    }

    /// Writes an entry before an act that changes nothing in the store, such as revealing a secret.
    ///
    /// # Errors
    /// The store is unavailable; the caller must not act.
    pub async fn write_audit_entry(&self, entry: NewAuditEntry<'_>, now: Time) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let tx = self.begin().await?;
            self.commit_audited(tx, entry, now).await
        })
        .await
    }

    /// The tenant's audit log, in the order of `page`. With a filter, a page scans at most [`SCAN`] entries and may end
    /// early.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn audit_log(
        &self,
        tenant: &Tenant,
        filter: &AuditFilter,
        page: &PageRequest<AuditId>,
    ) -> Result<Scanned<AuditEntry, AuditId>, StoreError> {
        let _scan = if *filter == AuditFilter::default() && tenant.only.is_none() {
            None
        } else {
            Some(self.scan(tenant).await?)
        };
        let (compare, direction) = page.sql();
        let end = if *filter == AuditFilter::default() { None } else { self.end_of_audit_scan(tenant, page).await? };
        type Row = (AuditId, Time, String, String, String, Option<AppId>, String, String);
        let rows: Vec<Row> = read!(self, db => {
            let mut sql = QueryBuilder::<Db>::new("SELECT id, at, kind, who, act, app_id, thing, detail FROM audit WHERE org = ");
            sql.push_bind(tenant.org.clone()).push(format!(" AND id {compare} ")).push_bind(page.bound());
            if let Some(only) = tenant.only {
                sql.push(" AND app_id = ").push_bind(only);
            }
            if let Some(act) = &filter.act {
                sql.push(" AND act = ").push_bind(act.clone());
            }
            if let Some(who) = &filter.who {
                sql.push(" AND who = ").push_bind(who.clone());
            }
            if let Some(end) = end {
                sql.push(format!(" AND NOT id {compare} ")).push_bind(end);
            }
            sql.push(format!(" ORDER BY id {direction} LIMIT ")).push_bind(page.rows());
            sql.build_query_as().fetch_all(db).await
        })?;
        let entry = |(id, at, kind, who, act, app, target, detail): Row| {
            let kind = ActorKind::from_word(&kind)
                .ok_or_else(|| StoreError::Damaged(format!("an actor of kind {kind:?} in the audit log")))?;
            Ok(AuditEntry { id, at, actor: Actor { kind, who }, act, app, target, detail })
        };
        let all: Result<Vec<_>, StoreError> = rows.into_iter().map(entry).collect();
        Ok(Scanned::new(page.page(all?), end))
    }

    /// The last entry that a filtered page scans; `None`: the log ends before.
    async fn end_of_audit_scan(
        &self,
        tenant: &Tenant,
        page: &PageRequest<AuditId>,
    ) -> Result<Option<AuditId>, StoreError> {
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id FROM audit WHERE org = $1 AND id {compare} $2 ORDER BY id {direction} LIMIT 1 OFFSET $3"
        ));
        let last = SCAN as i64 - 1;
        Ok(read!(self, db => {
            sqlx::query_scalar(sql).bind(&tenant.org).bind(page.bound()).bind(last).fetch_optional(db).await
        })?)
    }

    /// Deletes up to `limit` entries older than `before`. Returns their number.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_old_audit_entries(&self, before: Time, limit: i64) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)";
        write_one!(self, sqlx::query(SQL).bind(before).bind(limit))
    }
}

/// Writes an entry of `actor`.
pub(in crate::store) async fn write(
    tx: &mut Tx,
    actor: &Actor,
    entry: NewAuditEntry<'_>,
    now: Time,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO audit (id, org, at, kind, who, act, app_id, thing, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let (who, target) = (codec::without_nul(&actor.who), codec::without_nul(entry.target));
    let detail: String = codec::without_nul(entry.detail).chars().take(DETAIL).collect();
    on!(tx, db => {
        sqlx::query(SQL)
            .bind(AuditId::new(now)).bind(entry.org).bind(now).bind(actor.kind.word()).bind(who).bind(entry.act)
            .bind(entry.app).bind(target).bind(detail)
            .execute(db).await.map(drop)
    })?;
    Ok(())
}

/// The host of an endpoint's URL, for audit details. Path and query may contain secrets.
pub(in crate::store) fn host(url: &str) -> &str {
    let host = url.split("://").nth(1).unwrap_or_default();
    host.split(['/', '?', '#']).next().unwrap_or_default().rsplit('@').next().unwrap_or_default()
}
