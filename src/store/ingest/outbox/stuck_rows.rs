//! Rows that could not be routed: the mark, the operational event and the organization of each.
//!
//! A row belongs to the organization of the application it names. A row whose application does not exist belongs to
//! none: its event goes to the default organization.

use std::collections::HashMap;

use uuid::Uuid;

use super::relay::{OutboxRow, OutboxRowId};
use crate::domain::{AppId, OrgId, Time};
use crate::store::db::codec;
use crate::store::ingest::message_routing;
use crate::store::queue::signals::Admission;
use crate::store::recording::operational;
use crate::store::recording::operational_event::{EventDetail, OperationalEvent};
use crate::store::{AppRef, Inner, Store, StoreError, Tx};

/// Marks rows as stuck, with their reasons. Emits `outbox.stuck` for those that were not stuck before; the result must
/// be [signaled](operational::signal_emitted) after the commit.
pub(in crate::store) async fn mark(
    inner: &Inner,
    tx: &mut Tx,
    rows: &[(&OutboxRow, String)],
    now: Time,
) -> Result<Vec<Admission>, StoreError> {
    for (row, reason) in rows {
        update(tx, row, reason, now).await?;
    }
    let new: Vec<&(&OutboxRow, String)> = rows.iter().filter(|(row, _)| row.stuck_since().is_none()).collect();
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let owners = owners(tx, new.iter().filter_map(|(row, _)| row.app())).await?;
    let event = |(row, reason): &&(&OutboxRow, String)| {
        let owner = row.app().and_then(|app| owners.get(&app).cloned());
        let (org, app) = owner.unwrap_or_else(|| (OrgId::default_org(), AppId(Uuid::nil())));
        let what = EventDetail::OutboxStuck {
            row: row.number(),
            application: row.name(),
            event_type: row.event_type(),
            reason: reason.chars().take(300).collect(),
        };
        OperationalEvent { org, app, at: now, what }
    };
    operational::emit(inner, tx, new.iter().map(event).collect()).await
}

async fn update(tx: &mut Tx, row: &OutboxRow, reason: &str, now: Time) -> Result<(), StoreError> {
    let (look_at, since) = (row.next_retry(now), row.stuck_since().unwrap_or(now));
    let reason = codec::without_nul(reason);
    match (tx, &row.row) {
        (Tx::Sqlite(tx), OutboxRowId::Id(id)) => {
            const SQL: &str = "UPDATE outbox SET stuck_reason = $2, look_at = $3, stuck_since = $4 WHERE rowid = $1";
            sqlx::query(SQL).bind(id).bind(reason).bind(look_at).bind(since).execute(&mut **tx).await?;
        }
        (Tx::Postgres(tx), OutboxRowId::Place(place)) => {
            const SQL: &str = "UPDATE outbox SET stuck_reason = $2, look_at = $3, stuck_since = $4
                 WHERE ctid = CAST($1::text AS tid)";
            sqlx::query(SQL).bind(place).bind(reason).bind(look_at).bind(since).execute(&mut **tx).await?;
        }
        _ => {}
    }
    Ok(())
}

/// The organization and id of each application that exists and is not ambiguous.
pub(super) async fn owners(
    tx: &mut Tx,
    apps: impl Iterator<Item = AppRef>,
) -> Result<HashMap<AppRef, (OrgId, AppId)>, StoreError> {
    let keys: Vec<message_routing::AppKey> = apps.map(|app| (None, app)).collect();
    let found = message_routing::apps(tx, &keys).await?;
    Ok(keys.into_iter().filter_map(|(_, app)| Some((app.clone(), found.owner(&app)?))).collect())
}

impl Store {
    /// The organization of each of these applications, as written in outbox rows; `None`: there is no such application,
    /// or several organizations have one.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn outbox_owners(&self, applications: &[Option<&str>]) -> Result<Vec<Option<OrgId>>, StoreError> {
        let refs: Vec<Option<AppRef>> =
            applications.iter().map(|name| name.and_then(|name| AppRef::parse(name).ok())).collect();
        let mut tx = self.inner.snapshot().await?;
        let owners = owners(&mut tx, refs.iter().flatten().cloned()).await?;
        let org = |app: Option<AppRef>| app.and_then(|app| owners.get(&app).map(|(org, _)| org.clone()));
        Ok(refs.into_iter().map(org).collect())
    }
}
