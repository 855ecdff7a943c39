//! How processes that share a PostgreSQL tell each other what has just become due: NOTIFY, as an accelerator. An announcement that is
//! lost (a full queue, a connection that was cut, a pooler that does not let LISTEN through) costs nothing but the time until the
//! engine's next scan.
//!
//! - Each engine listens on a channel of its own, and is sent the endpoints of the slots that it owns. The database finds the owners, in the
//!   statement that notifies them. An empty announcement says: look everywhere.
//! - All engines listen on [`FREED`]: slots were handed back. Lost, it costs the time until the next heartbeat.
//! - The announcer sends them after the commit, in transactions of their own that are not flushed. PostgreSQL lets one transaction
//!   with a NOTIFY commit at a time, in the whole server: inside the accepting transaction that would be for as long as its flush takes.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use sqlx::Executor;
use sqlx::postgres::PgListener;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use crate::domain::EndpointId;
use crate::store::{Engine, Inner, Store, StoreError, Tx};
use crate::supervisor::Supervised;

/// An engine's own channel is this, and its process id without hyphens. Channels belong to a database, so that two Sendoffs on one
/// server do not hear each other.
const DUE: &str = "sendoff_due_";
/// The channel on which processes say that they have handed slots back; the payload is their id.
const FREED: &str = "sendoff_freed";
/// How many endpoints one announcement names: PostgreSQL takes less than 8,000 bytes.
const NAMED: usize = 200;
/// With more endpoints than this, an announcement names none.
pub(super) const MOST: usize = 4 * NAMED;

/// Announces until the store is dropped. What comes up while one is under way goes together with the next. The queue outlives a run that
/// panicked.
pub(in crate::store) async fn run(store: Weak<Inner>, queue: Arc<Mutex<mpsc::Receiver<Vec<EndpointId>>>>) {
    let mut queue = queue.lock().await;
    while let Some(first) = queue.recv().await {
        let mut endpoints: BTreeSet<EndpointId> = first.into_iter().collect();
        while let Ok(more) = queue.try_recv() {
            endpoints.extend(more);
        }
        Supervised::Announcer.panic_point();
        let Some(inner) = store.upgrade() else { return };
        let Engine::Postgres(engine) = &inner.engine else { return };
        let sql = announcing(inner.signals.owner(), endpoints);
        if let Err(error) = engine.engine.execute(sqlx::AssertSqlSafe(sql)).await {
            tracing::debug!(%error, "what is due is not announced: others find it with their scan");
        }
    }
}

/// The statements that tell the other owners. Sent together, they are one transaction.
fn announcing(own: Option<Uuid>, endpoints: BTreeSet<EndpointId>) -> String {
    // Nothing of it was written by anybody: hexadecimal digits, spaces and commas.
    let others = own.map_or(String::new(), |own| format!(" AND slot.owner <> '{own}'"));
    let tell = format!("SELECT pg_notify('{DUE}' || replace(CAST(slot.owner AS text), '-', ''), ");
    let mut sql = "SET LOCAL synchronous_commit = off".to_owned();
    if endpoints.is_empty() || endpoints.len() > MOST {
        sql.push_str(&format!("; {tell}'') FROM slot WHERE slot.owner IS NOT NULL{others} GROUP BY slot.owner"));
        return sql;
    }
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("'{}'", endpoint.0)).collect();
    for named in endpoints.chunks(NAMED) {
        sql.push_str(&format!(
            "; {tell}string_agg(replace(CAST(endpoint.id AS text), '-', ''), ' '))
             FROM endpoint JOIN slot ON slot.slot = endpoint.slot
             WHERE endpoint.id IN ({}) AND slot.owner IS NOT NULL{others} GROUP BY slot.owner",
            named.join(", ")
        ));
    }
    sql
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something of these endpoints has become due.
    Due(Vec<EndpointId>),
    /// Slots were handed back: they are for whoever is short of them.
    Freed,
    /// Of any endpoint: too many to name, or there was a time in which nothing could be heard.
    Anything,
}

/// Listens for notifications from other processes. It keeps a connection.
#[derive(Debug)]
pub struct Listener {
    listener: PgListener,
    process: Uuid,
}

impl Listener {
    /// Waits for the next announcement.
    ///
    /// # Errors
    /// The connection is gone and there is no other: listen anew.
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        loop {
            let Some(told) = self.listener.try_recv().await? else { return Ok(Heard::Anything) };
            match told.channel() {
                FREED if Uuid::try_parse(told.payload()) == Ok(self.process) => {}
                FREED => return Ok(Heard::Freed),
                _ => return Ok(understood(told.payload())),
            }
        }
    }
}

/// Anybody who may connect to the database may announce: what cannot be understood makes us look, and nothing else.
fn understood(payload: &str) -> Heard {
    let words = payload.split(' ').filter(|word| !word.is_empty());
    let named: Result<Vec<EndpointId>, _> = words.map(|word| Uuid::try_parse(word).map(EndpointId)).collect();
    match named {
        Ok(named) if !named.is_empty() => Heard::Due(named),
        _ => Heard::Anything,
    }
}

/// Announces that slots are free, with the transaction that frees them: a rare one, so that it may be a commit that others wait for.
pub(in crate::store) async fn freed(tx: &mut Tx, process: Uuid) -> Result<(), StoreError> {
    if let Tx::Postgres(tx) = tx {
        sqlx::query("SELECT pg_notify($1, $2)").bind(FREED).bind(process.to_string()).execute(&mut **tx).await?;
    }
    Ok(())
}

impl Store {
    /// Begins to listen for what other processes announce to the engine of this one, which owns slots as `process`; `None`: no other
    /// process shares this store.
    ///
    /// # Errors
    /// The store is away.
    pub async fn listen(&self, process: Uuid) -> Result<Option<Listener>, StoreError> {
        let Engine::Postgres(engine) = &self.inner.engine else { return Ok(None) };
        self.inner.signals.set_owner(process);
        let mut listener = PgListener::connect_with(&engine.engine).await?;
        listener.listen_all([FREED, format!("{DUE}{}", process.simple()).as_str()]).await?;
        Ok(Some(Listener { listener, process }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u128) -> BTreeSet<EndpointId> {
        (0..count).map(|n| EndpointId(Uuid::from_u128(n))).collect()
    }

    #[test]
    fn an_announcement_is_bounded_and_names_every_endpoint() {
        let own = Uuid::from_u128(1);
        let sql = announcing(Some(own), endpoints(450));
        assert_eq!(sql.matches("pg_notify").count(), 3);
        assert!(endpoints(450).iter().all(|endpoint| sql.contains(&format!("'{}'", endpoint.0))));
        assert_eq!(sql.matches(&format!("slot.owner <> '{own}'")).count(), 3);
        // What one statement sends at most: PostgreSQL takes less than 8,000 bytes.
        const { assert!(NAMED * 33 < 8_000) };
        for many in [0, MOST as u128 + 1, 100_000] {
            let sql = announcing(None, endpoints(many));
            assert_eq!(sql.matches("pg_notify").count(), 1, "{many}");
            assert!(sql.len() < 400, "it names none of {many}");
        }
    }

    #[test]
    fn what_cannot_be_understood_makes_us_look_everywhere() {
        let named = EndpointId(Uuid::from_u128(7));
        assert_eq!(understood(&format!("{0} {0}", named.0.simple())), Heard::Due(vec![named, named]));
        for payload in ["", "hello", "0 1 2"] {
            assert_eq!(understood(payload), Heard::Anything, "{payload}");
        }
    }
}
