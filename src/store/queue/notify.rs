//! How processes that share a PostgreSQL tell each other what has just become due: NOTIFY, as an accelerator. An announcement that is
//! lost (a full queue, a connection that was cut, a pooler that does not let LISTEN through) costs nothing but the time until the
//! engine's next scan.
//!
//! * An **announcement** names endpoints; an empty one says: look everywhere. Another kind says that slots are free; lost, it costs the
//!   time until the next heartbeat.
//! * The announcer sends them after the commit, in transactions of their own that are not flushed. PostgreSQL lets one transaction
//!   with a NOTIFY commit at a time, in the whole server: inside the accepting transaction that would be for as long as its flush takes.
//! * The [`Ear`] of an engine hears the announcements of others.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use sqlx::Executor;
use sqlx::postgres::PgListener;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use crate::domain::EndpointId;
use crate::store::{Engine, Inner, Store, StoreError, Tx};
use crate::supervisor::Supervised;

/// Channels belong to a database, so that two Sendoffs on one server do not hear each other.
const CHANNEL: &str = "sendoff_due";
/// How many endpoints one announcement names: PostgreSQL takes less than 8,000 bytes.
const NAMED: usize = 200;
/// With more endpoints than this, an announcement names none.
const MOST: usize = 4 * NAMED;
/// What is announced in place of endpoints when slots were handed back.
const FREED: &str = "freed";

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
        let sql = announcing(inner.signals.name(), endpoints);
        if let Err(error) = engine.engine.execute(sqlx::AssertSqlSafe(sql)).await {
            tracing::debug!(%error, "what is due is not announced: others find it with their scan");
        }
    }
}

/// Statements that are sent together are one transaction.
fn announcing(process: Uuid, endpoints: BTreeSet<EndpointId>) -> String {
    let mut sql = "SET LOCAL synchronous_commit = off".to_owned();
    let named: Vec<String> = endpoints.iter().map(|endpoint| endpoint.0.simple().to_string()).collect();
    let named = if named.len() > MOST { Vec::new() } else { named };
    // Nothing of it was written by anybody: hexadecimal digits and spaces.
    let mut announce = |names: &[String]| {
        sql.push_str(&format!("; SELECT pg_notify('{CHANNEL}', '{} {}')", process.simple(), names.join(" ")));
    };
    if named.is_empty() {
        announce(&[]);
    }
    named.chunks(NAMED).for_each(&mut announce);
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
    /// What this process announced itself.
    Own,
}

/// Hears what other processes announce. It keeps a connection.
#[derive(Debug)]
pub struct Ear {
    listener: PgListener,
    process: Uuid,
}

impl Ear {
    /// Waits for the next announcement.
    ///
    /// # Errors
    /// The connection is gone and there is no other: listen anew.
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        Ok(match self.listener.try_recv().await? {
            Some(told) => understood(told.payload(), self.process),
            None => Heard::Anything,
        })
    }
}

/// Anybody who may connect to the database may announce: what cannot be understood makes us look, and nothing else.
fn understood(payload: &str, process: Uuid) -> Heard {
    let mut words = payload.split(' ').filter(|word| !word.is_empty());
    if words.next().is_some_and(|word| Uuid::try_parse(word) == Ok(process)) {
        return Heard::Own;
    }
    if words.clone().eq([FREED]) {
        return Heard::Freed;
    }
    let named: Result<Vec<EndpointId>, _> = words.map(|word| Uuid::try_parse(word).map(EndpointId)).collect();
    match named {
        Ok(named) if !named.is_empty() => Heard::Due(named),
        _ => Heard::Anything,
    }
}

/// Announces that slots are free, with the transaction that frees them: a rare one, so that it may be a commit that others wait for.
pub(in crate::store) async fn freed(tx: &mut Tx, process: Uuid) -> Result<(), StoreError> {
    if let Tx::Postgres(tx) = tx {
        let announcement = format!("{} {FREED}", process.simple());
        sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(announcement).execute(&mut **tx).await?;
    }
    Ok(())
}

impl Store {
    /// Begins to hear what other processes announce; `None`: no other process shares this store.
    ///
    /// # Errors
    /// The store is away.
    pub async fn listen(&self) -> Result<Option<Ear>, StoreError> {
        let Engine::Postgres(engine) = &self.inner.engine else { return Ok(None) };
        let mut listener = PgListener::connect_with(&engine.engine).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Ear { listener, process: self.inner.signals.name() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u128) -> BTreeSet<EndpointId> {
        (0..count).map(|n| EndpointId(Uuid::from_u128(n))).collect()
    }

    fn payloads(sql: &str) -> Vec<&str> {
        sql.split("pg_notify('sendoff_due', '").skip(1).filter_map(|rest| rest.split('\'').next()).collect()
    }

    #[test]
    fn what_is_announced_is_what_is_heard() {
        let (us, them) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sql = announcing(us, endpoints(450));
        let payloads = payloads(&sql);
        assert_eq!(payloads.len(), 3);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        let mut heard = BTreeSet::new();
        for payload in payloads {
            assert_eq!(understood(payload, us), Heard::Own);
            let Heard::Due(named) = understood(payload, them) else { panic!("{payload}") };
            heard.extend(named);
        }
        assert_eq!(heard, endpoints(450));
    }

    #[test]
    fn freed_slots_are_told_from_endpoints() {
        let us = Uuid::from_u128(1);
        let payload = format!("{} {FREED}", us.simple());
        assert_eq!(understood(&payload, Uuid::from_u128(2)), Heard::Freed);
        assert_eq!(understood(&payload, us), Heard::Own);
    }

    #[test]
    fn too_many_to_name_and_nonsense_make_everybody_look() {
        let sql = announcing(Uuid::from_u128(1), endpoints(100_000));
        for payload in payloads(&sql).into_iter().chain(["", "hello", "0 1 2"]) {
            assert_eq!(understood(payload, Uuid::from_u128(2)), Heard::Anything, "{payload}");
        }
    }
}
