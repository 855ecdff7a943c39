//! LISTEN and NOTIFY between processes that share a PostgreSQL: notifications of due deliveries and released slots.
//! Notifications only reduce latency. A lost one (full queue, broken connection) delays the work until the engine's
//! next scan.
//!
//! * Each engine listens on its own channel and gets the endpoints of the slots that it owns. The notifying statement
//!   looks up the owners. An empty notification stands for all endpoints.
//! * All engines listen on [`SLOTS_RELEASED`]: slots were released. If it is lost, the next heartbeat takes them.
//! * A task sends the notifications after the commit, in their own transactions with `synchronous_commit = off`.
//!   PostgreSQL serializes the commits of all transactions with NOTIFY in the whole server: inside the accepting
//!   transaction, each flush would block all others.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use sqlx::Executor;
use sqlx::postgres::PgListener;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use crate::domain::EndpointId;
use crate::store::{Backend, Inner, Store, StoreError, Tx};
use crate::supervisor::Component;

/// The prefix of an engine's channel; its process id without hyphens follows. Channels are local to a database.
const DUE: &str = "sendoff_due_";
/// The channel for released slots; the payload is the id of the process that released them.
const SLOTS_RELEASED: &str = "sendoff_freed";
/// Endpoints per notification: PostgreSQL limits the payload to 8,000 bytes.
const NAMED: usize = 200;
/// With more endpoints than this, an empty notification is sent.
pub(super) const MOST: usize = 4 * NAMED;

/// Sends notifications until the store is dropped. Endpoints that arrive during one transaction are sent together in
/// the next. The queue survives a panic of this task.
pub(in crate::store) async fn run(store: Weak<Inner>, queue: Arc<Mutex<mpsc::Receiver<Vec<EndpointId>>>>) {
    let mut queue = queue.lock().await;
    while let Some(first) = queue.recv().await {
        let mut endpoints: BTreeSet<EndpointId> = first.into_iter().collect();
        while let Ok(more) = queue.try_recv() {
            endpoints.extend(more);
        }
        Component::Announcer.panic_point();
        let Some(inner) = store.upgrade() else { return };
        let Backend::Postgres(backend) = &inner.backend else { return };
        let sql = notify_statements(inner.signals.owner(), endpoints);
        if let Err(error) = backend.engine.execute(sqlx::AssertSqlSafe(sql)).await {
            tracing::debug!(%error, "cannot notify other processes of due deliveries; they will find them by scanning");
        }
    }
}

/// The statements that notify the other owners. Sent together, they are one transaction.
fn notify_statements(own: Option<Uuid>, endpoints: BTreeSet<EndpointId>) -> String {
    // No SQL injection: only UUIDs are formatted into the text.
    let others = own.map_or(String::new(), |own| format!(" AND slot.owner <> '{own}'"));
    let select = format!("SELECT pg_notify('{DUE}' || replace(CAST(slot.owner AS text), '-', ''), ");
    let mut sql = "SET LOCAL synchronous_commit = off".to_owned();
    if endpoints.is_empty() || endpoints.len() > MOST {
        sql.push_str(&format!("; {select}'') FROM slot WHERE slot.owner IS NOT NULL{others} GROUP BY slot.owner"));
        return sql;
    }
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("'{}'", endpoint.0)).collect();
    for named in endpoints.chunks(NAMED) {
        sql.push_str(&format!(
            "; {select}string_agg(replace(CAST(endpoint.id AS text), '-', ''), ' '))
             FROM endpoint JOIN slot ON slot.slot = endpoint.slot
             WHERE endpoint.id IN ({}) AND slot.owner IS NOT NULL{others} GROUP BY slot.owner",
            named.join(", ")
        ));
    }
    sql
}

/// A received notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// These endpoints have due deliveries.
    Due(Vec<EndpointId>),
    /// Another process released slots.
    SlotsReleased,
    /// Any endpoint may have due deliveries: too many to list, or notifications were lost while reconnecting.
    AnyEndpoint,
}

/// Listens for notifications from other processes, on a connection of its own.
#[derive(Debug)]
pub struct NotificationListener {
    listener: PgListener,
    process: Uuid,
}

impl NotificationListener {
    /// Waits for the next notification.
    ///
    /// # Errors
    /// The connection is lost and cannot be reopened: call [`Store::listen`] again.
    pub async fn next(&mut self) -> Result<Notification, StoreError> {
        loop {
            let Some(notification) = self.listener.try_recv().await? else { return Ok(Notification::AnyEndpoint) };
            match notification.channel() {
                SLOTS_RELEASED if Uuid::try_parse(notification.payload()) == Ok(self.process) => {}
                SLOTS_RELEASED => return Ok(Notification::SlotsReleased),
                _ => return Ok(parse_due(notification.payload())),
            }
        }
    }
}

/// Any database user can send notifications: an invalid payload only causes a scan.
fn parse_due(payload: &str) -> Notification {
    let words = payload.split(' ').filter(|word| !word.is_empty());
    let named: Result<Vec<EndpointId>, _> = words.map(|word| Uuid::try_parse(word).map(EndpointId)).collect();
    match named {
        Ok(named) if !named.is_empty() => Notification::Due(named),
        _ => Notification::AnyEndpoint,
    }
}

/// Notifies of released slots, inside the transaction that releases them. Releases are rare enough for a serialized
/// commit.
pub(in crate::store) async fn notify_slots_released(tx: &mut Tx, process: Uuid) -> Result<(), StoreError> {
    if let Tx::Postgres(tx) = tx {
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(SLOTS_RELEASED)
            .bind(process.to_string())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

impl Store {
    /// Listens for notifications to this process's engine, which owns slots as `process`. `None`: the store cannot be
    /// shared.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn listen(&self, process: Uuid) -> Result<Option<NotificationListener>, StoreError> {
        let Backend::Postgres(backend) = &self.inner.backend else { return Ok(None) };
        self.inner.signals.set_owner(process);
        let mut listener = PgListener::connect_with(&backend.engine).await?;
        listener.listen_all([SLOTS_RELEASED, format!("{DUE}{}", process.simple()).as_str()]).await?;
        Ok(Some(NotificationListener { listener, process }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u128) -> BTreeSet<EndpointId> {
        (0..count).map(|n| EndpointId(Uuid::from_u128(n))).collect()
    }

    #[test]
    fn a_notification_is_bounded_and_names_every_endpoint() {
        let own = Uuid::from_u128(1);
        let sql = notify_statements(Some(own), endpoints(450));
        assert_eq!(sql.matches("pg_notify").count(), 3);
        assert!(endpoints(450).iter().all(|endpoint| sql.contains(&format!("'{}'", endpoint.0))));
        assert_eq!(sql.matches(&format!("slot.owner <> '{own}'")).count(), 3);
        const { assert!(NAMED * 33 < 8_000, "PostgreSQL's limit of a payload") };
        for many in [0, MOST as u128 + 1, 100_000] {
            let sql = notify_statements(None, endpoints(many));
            assert_eq!(sql.matches("pg_notify").count(), 1, "{many}");
            assert!(sql.len() < 400, "it names none of {many}");
        }
    }

    #[test]
    fn an_invalid_payload_causes_a_scan() {
        let named = EndpointId(Uuid::from_u128(7));
        assert_eq!(parse_due(&format!("{0} {0}", named.0.simple())), Notification::Due(vec![named, named]));
        for payload in ["", "hello", "0 1 2"] {
            assert_eq!(parse_due(payload), Notification::AnyEndpoint, "{payload}");
        }
    }
}
