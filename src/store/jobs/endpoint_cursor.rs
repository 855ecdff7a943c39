//! The position of a background task: an endpoint, and the last message scanned there. Wider scopes take endpoints by
//! id.
//!
//! Steps store a [`TaskPosition`] with the task; estimates keep it in memory.

use uuid::Uuid;

use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::deliveries::background::TaskScope;
use crate::domain::{AppId, EndpointId, OrgId};
use crate::store::db::codec::{ENDPOINT, EndpointRow};
use crate::store::{Store, StoreError, Tx, on};

/// An endpoint to process.
pub(in crate::store) struct ScopedEndpoint {
    pub endpoint: Endpoint,
    pub slot: u8,
}

/// The position of a background task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskPosition {
    pub(in crate::store) app: AppId,
    pub(in crate::store) endpoint: EndpointId,
    /// The last scanned message; nil: none.
    pub(in crate::store) message: Uuid,
}

impl TaskPosition {
    /// The start of an endpoint.
    pub(in crate::store) fn before(endpoint: &Endpoint) -> TaskPosition {
        TaskPosition { app: endpoint.app_id, endpoint: endpoint.id, message: Uuid::nil() }
    }

    /// The start of the first endpoint.
    pub(in crate::store) fn beginning() -> TaskPosition {
        TaskPosition { app: AppId(Uuid::nil()), endpoint: EndpointId(Uuid::nil()), message: Uuid::nil() }
    }
}

impl Store {
    /// The endpoint inside `tx`; `None`: deleted.
    pub(in crate::store) async fn endpoint_in(
        &self,
        tx: &mut Tx,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<ScopedEndpoint>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {ENDPOINT} FROM endpoint WHERE id = $1 AND app_id = $2 AND deleted_at IS NULL"
        ));
        let row: Option<EndpointRow> = on!(tx, db => sqlx::query_as(sql).bind(id).bind(app).fetch_optional(db).await)?;
        Ok(row.map(|row| ScopedEndpoint { slot: row.slot(), endpoint: row.endpoint(&self.inner.master) }))
    }

    /// The first endpoint of the scope after `place`. Skips operational endpoints and, in the wider scopes, disabled
    /// ones.
    pub(in crate::store) async fn endpoint_after(
        &self,
        tx: &mut Tx,
        org: &OrgId,
        scope: TaskScope,
        place: TaskPosition,
    ) -> Result<Option<ScopedEndpoint>, StoreError> {
        Ok(self.endpoints_after(tx, org, scope, place, 1).await?.pop())
    }

    /// Up to `most` endpoints of the scope after `place`. Fewer mean that there are no more.
    pub(in crate::store) async fn endpoints_after(
        &self,
        tx: &mut Tx,
        org: &OrgId,
        scope: TaskScope,
        place: TaskPosition,
        most: usize,
    ) -> Result<Vec<ScopedEndpoint>, StoreError> {
        let columns: Vec<String> = ENDPOINT.split(", ").map(|column| format!("e.{}", column.trim())).collect();
        let of = match scope {
            TaskScope::Endpoint(..) => "p.id = $2 AND e.app_id = $2 AND e.id > $3",
            TaskScope::Application(_) => "p.id = $2 AND e.app_id = $2 AND e.id > $3 AND NOT e.disabled",
            TaskScope::Organization => "(p.id > $2 OR (p.id = $2 AND e.id > $3)) AND p.id >= $2 AND NOT e.disabled",
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {} FROM application p CROSS JOIN endpoint e
             WHERE p.org = $1 AND p.deleted_at IS NULL AND NOT p.operational AND e.app_id = p.id AND e.deleted_at IS NULL
                 AND {of} AND ($4 IS NULL OR e.id = $4) ORDER BY p.id, e.id LIMIT $5",
            columns.join(", ")
        ));
        let app = scope.app().unwrap_or(place.app);
        let rows: Vec<EndpointRow> = on!(tx, db => {
            sqlx::query_as(sql)
                .bind(org).bind(app).bind(place.endpoint).bind(scope.endpoint()).bind(most as i64)
                .fetch_all(db).await
        })?;
        let reached =
            |row: EndpointRow| ScopedEndpoint { slot: row.slot(), endpoint: row.endpoint(&self.inner.master) };
        Ok(rows.into_iter().map(reached).collect())
    }
}
