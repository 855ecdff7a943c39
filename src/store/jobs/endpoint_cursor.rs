//! How background work reaches its endpoints: one, or one after the other along their ids.
//!
//! * [`Place`] – where it is: an endpoint, and the last message that was looked at there. It is the same for a step, which notes it in
//!   the work's row, and for who counts beforehand.

use uuid::Uuid;

use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::deliveries::background::Scope;
use crate::domain::{AppId, EndpointId, OrgId};
use crate::store::db::codec::{ENDPOINT, EndpointRow};
use crate::store::{Store, StoreError, Tx, on};

/// An endpoint that work has reached.
pub(in crate::store) struct Reached {
    pub endpoint: Endpoint,
    pub slot: u8,
}

/// Where background work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(in crate::store) app: AppId,
    pub(in crate::store) endpoint: EndpointId,
    /// The last message that was looked at; nil: none was.
    pub(in crate::store) message: Uuid,
}

impl Place {
    /// Before the first message of an endpoint.
    pub(in crate::store) fn before(endpoint: &Endpoint) -> Place {
        Place { app: endpoint.app_id, endpoint: endpoint.id, message: Uuid::nil() }
    }

    /// Before everything.
    pub(in crate::store) fn beginning() -> Place {
        Place { app: AppId(Uuid::nil()), endpoint: EndpointId(Uuid::nil()), message: Uuid::nil() }
    }
}

impl Store {
    /// The endpoint as it is inside `tx`; `None`: it is deleted.
    pub(in crate::store) async fn endpoint_in(
        &self,
        tx: &mut Tx,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<Reached>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {ENDPOINT} FROM endpoint WHERE id = $1 AND app_id = $2 AND deleted_at IS NULL"
        ));
        let row: Option<EndpointRow> = on!(tx, db => sqlx::query_as(sql).bind(id).bind(app).fetch_optional(db).await)?;
        Ok(row.map(|row| Reached { slot: row.slot(), endpoint: row.endpoint(&self.inner.master) }))
    }

    /// The first endpoint after `place` that work of this scope goes to, along the indexes of applications and their endpoints.
    /// Operational ones and, in the wider scopes, disabled ones are passed over.
    pub(in crate::store) async fn endpoint_after(
        &self,
        tx: &mut Tx,
        org: &OrgId,
        scope: Scope,
        place: Place,
    ) -> Result<Option<Reached>, StoreError> {
        Ok(self.endpoints_after(tx, org, scope, place, 1).await?.pop())
    }

    /// The same for up to `most` endpoints. Fewer mean that there are no more.
    pub(in crate::store) async fn endpoints_after(
        &self,
        tx: &mut Tx,
        org: &OrgId,
        scope: Scope,
        place: Place,
        most: usize,
    ) -> Result<Vec<Reached>, StoreError> {
        let columns: Vec<String> = ENDPOINT.split(", ").map(|column| format!("e.{}", column.trim())).collect();
        let of = match scope {
            Scope::Endpoint(..) => "p.id = $2 AND e.app_id = $2 AND e.id > $3",
            Scope::Application(_) => "p.id = $2 AND e.app_id = $2 AND e.id > $3 AND NOT e.disabled",
            Scope::Organization => "(p.id > $2 OR (p.id = $2 AND e.id > $3)) AND p.id >= $2 AND NOT e.disabled",
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
        let reached = |row: EndpointRow| Reached { slot: row.slot(), endpoint: row.endpoint(&self.inner.master) };
        Ok(rows.into_iter().map(reached).collect())
    }
}
