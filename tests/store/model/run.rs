//! The comparison: a sequence of acts on a store and on its model, whose answers must be the same.
//!
//! * [`World`] – a store (through two handles in turn, as two processes have them) and its model, with what an engine has in its hands:
//!   attempts that are on their way, turns at background work. It is [`clear`](World::clear)ed between sequences.
//! * [`run`] – runs a sequence, act by act. Its error names the difference and the act.
//!
//! Ids grow with the clock and never go back, so each sequence begins later than all before it, at the same time of day.

mod behind;
mod things;
mod traffic;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sendoff::domain::Time;
use sendoff::domain::deliveries::background::TaskStage;
use sendoff::domain::deliveries::delivery::Progress;
use sendoff::domain::{AppId, AttemptId, BackgroundId, EndpointId, MessageId, OrgId};
use sendoff::store::ingest::idempotency::IdempotencyKey;
use sendoff::store::jobs::background::{Background, BackgroundSpec};
use sendoff::store::jobs::job_lease::TaskLease;
use sendoff::store::recording::record::FinishedAttempt;
use sendoff::store::{Store, StoreError};
use sqlx::{AssertSqlSafe, Executor};

use super::acts::{Act, Look, Who};
use super::state::Model;
use super::things::{Word, word};
use super::views::VIEWS;
use crate::home::{Home, NOW, Raw};
use crate::support::Kind;
use crate::support::kind::OnStore;

pub use behind::{process, sent_filter};
pub use things::{CHANNELS, TYPES};

/// What differed.
pub type Checked = Result<(), String>;

pub fn same<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Checked {
    if found == wanted { Ok(()) } else { Err(format!("{what}\n  the store: {found:?}\n  the model: {wanted:?}")) }
}

/// An answer, with the kind of its error.
pub fn told<T>(answer: Result<T, StoreError>) -> Result<T, Word> {
    answer.map_err(|error| word(&error))
}

/// What the store says where nothing can go wrong.
pub fn said<T>(answer: Result<T, StoreError>) -> Result<T, String> {
    answer.map_err(|error| format!("the store refuses: {error}"))
}

/// Whether the store did something exactly if it may.
pub fn agree<T: Debug>(what: &str, found: Result<T, StoreError>, may: Result<(), Word>) -> Result<Option<T>, String> {
    match (told(found), may) {
        (Ok(done), Ok(())) => Ok(Some(done)),
        (Err(found), Err(wanted)) if found == wanted => Ok(None),
        (found, wanted) => Err(format!("{what}\n  the store: {found:?}\n  the model: {wanted:?}")),
    }
}

/// Background work that has just begun.
pub fn begun(id: BackgroundId, spec: BackgroundSpec, now: Time) -> Background {
    Background {
        id,
        spec,
        stage: TaskStage::Running,
        looked: 0,
        sent: 0,
        reason: None,
        created_at: now,
        updated_at: now,
    }
}

/// An attempt that is on its way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub org: OrgId,
    pub app: AppId,
    pub message: MessageId,
    pub endpoint: EndpointId,
    pub before: Progress,
    pub slot: u8,
    pub epoch: i64,
    pub id: AttemptId,
    pub at: Time,
}

/// The tables of what belongs to a sequence.
const TABLES: [&str; 20] = [
    "application",
    "endpoint",
    "endpoint_secret",
    "event_type",
    "message",
    "message_key",
    "delivery",
    "attempt",
    "rollup",
    "rollup_hour",
    "rollup_day",
    "outbox",
    "process",
    "api_key",
    "once",
    "background",
    "audit",
    "login_link",
    "session",
    "portal_link",
];

/// How long a lease of the database's own clock lasts, less a good deal: a sequence that takes longer proves nothing.
const PATIENCE: Duration = Duration::from_secs(8);

/// The flags of a look at the list of deliveries by one of them alone.
const BY_STATUS: u8 = 0b0000_0001;
const BY_CLASS: u8 = 0b0110_0000;

/// A store and its model.
pub struct World {
    pub name: &'static str,
    pub home: Home,
    stores: [Store; 2],
    raw: Raw,
    pub model: Model,
    pub now: Time,
    begun: Instant,
    acts: usize,
    pub(super) flights: Vec<Flight>,
    /// What is to be recorded once more.
    pub(super) again: Vec<FinishedAttempt>,
    pub(super) turns: Vec<(TaskLease, (BackgroundId, u64))>,
    pub(super) rows: u64,
}

impl OnStore for World {
    async fn on(kind: Kind) -> World {
        World::of(kind.name(), Home::on(kind).await).await
    }
}

impl World {
    async fn of(name: &'static str, home: Home) -> World {
        // One of them packs whatever goes to two endpoints or more.
        let (stores, raw) = ([home.store.clone(), home.another_that_packs(1).await], home.connect().await);
        let model = Model::new(!home.is_sqlite());
        let (flights, again, turns) = (Vec::new(), Vec::new(), Vec::new());
        World {
            name,
            home,
            stores,
            raw,
            model,
            now: NOW,
            begun: Instant::now(),
            acts: 0,
            flights,
            again,
            turns,
            rows: 0,
        }
    }

    /// A handle to the store: now this one, now that one.
    pub fn store(&self) -> &Store {
        &self.stores[self.acts % 2]
    }

    /// The other one.
    pub fn another(&self) -> &Store {
        &self.stores[(self.acts + 1) % 2]
    }

    /// The handle that acts under a key, if there is one.
    pub(super) fn acting(&self, once: Option<&IdempotencyKey>) -> Store {
        once.map_or_else(|| self.store().clone(), |once| self.store().with_idempotency_key(once.clone()))
    }

    /// A call's key.
    pub(super) fn once(&self, key: Option<u8>) -> Option<IdempotencyKey> {
        key.map(|key| IdempotencyKey { hash: [key; 32], body: [key + 1; 32], at: self.now })
    }

    /// Does what only somebody else, or time, could.
    pub(super) async fn sql(&mut self, sql: &str) -> Checked {
        let sql = AssertSqlSafe(sql.to_owned());
        let done = match &mut self.raw {
            Raw::Sqlite(connection) => connection.execute(sql).await.map(drop),
            Raw::Postgres(connection) => connection.execute(sql).await.map(drop),
        };
        done.map_err(|error| format!("the statement of the test: {error}"))
    }

    /// An empty store, at a time when nothing has happened yet.
    pub async fn clear(&mut self, begin: Time) -> Checked {
        let deletes: Vec<String> = TABLES.iter().map(|table| format!("DELETE FROM {table};")).collect();
        let slots = "UPDATE slot SET owner = NULL, epoch = 0, expires_at = 0 WHERE epoch <> 0;";
        self.sql(&format!("BEGIN; {} {slots} COMMIT", deletes.concat())).await?;
        self.model = Model::new(!self.home.is_sqlite());
        (self.flights, self.again, self.turns) = (Vec::new(), Vec::new(), Vec::new());
        (self.now, self.begun, self.acts) = (begin, Instant::now(), 0);
        Ok(())
    }

    /// Does one act.
    pub async fn act(&mut self, act: &Act, now: Time) -> Checked {
        (self.now, self.acts) = (now, self.acts + 1);
        let done = match act {
            Act::Look(look) => self.view(look).await,
            Act::Wait(_) => Ok(()),
            other => self.act_on(other).await,
        };
        done.map_err(|difference| format!("{}, act {} {act:?}: {difference}", self.name, self.acts))
    }

    /// Who has no right to it tries first.
    async fn act_on(&mut self, act: &Act) -> Checked {
        let other = if self.acts.is_multiple_of(2) { Who::Stranger } else { Who::Neighbour };
        if let Some(tried) = act.with_token_of(other) {
            self.act_as(&tried).await.map_err(|difference| format!("as {other:?}: {difference}"))?;
        }
        self.act_as(act).await
    }

    async fn act_as(&mut self, act: &Act) -> Checked {
        if let Some(done) = self.act_on_things(act).await {
            return done;
        }
        if let Some(done) = self.act_on_traffic(act).await {
            return done;
        }
        self.act_behind(act).await
    }

    /// Looks at everything there is to see, and at the lists by what became of the last attempt, which chance seldom asks for.
    async fn look_around(&self) -> Checked {
        let place = |name: &str| VIEWS.iter().position(|view| *view == name).expect("a view") as u8;
        let look = |view, thing, filter| {
            let (who, newest) = if thing == 1 { (Who::Customer, false) } else { (Who::Owner, true) };
            Look { view, who, app: thing, thing, limit: 2 + 2 * (thing % 2), newest, filter }
        };
        let (deliveries, sent) = (place("list of deliveries"), place("an endpoint's messages"));
        let mut looks = Vec::new();
        for view in 0..VIEWS.len() as u8 {
            looks.extend([look(view, 0, 0), look(view, 1, view.wrapping_mul(37).wrapping_add(11))]);
        }
        looks.extend((2..8).map(|status| look(deliveries, status, BY_STATUS)));
        looks.extend((2..5).map(|class| look(deliveries, class, BY_CLASS)));
        looks.extend([130, 194, 162].into_iter().flat_map(|class| [look(sent, 0, class), look(sent, 2, class)]));
        for one in looks {
            let seen = self.view(&one).await;
            seen.map_err(|difference| format!("{}, in the end, {one:?}: {difference}", self.name))?;
        }
        Ok(())
    }
}

/// How many rows there are, also of what nobody sees: messages, event ids, deliveries, attempts, attempts without a delivery, secrets, what
/// waits in the outbox; and the sum of all epochs.
type Rows = (i64, i64, i64, i64, i64, i64, i64, i64);
const ROWS: &str =
    "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM message_key), (SELECT count(*) FROM delivery),
     (SELECT count(*) FROM attempt), (SELECT count(*) FROM attempt a WHERE NOT EXISTS (SELECT 1 FROM delivery d
         WHERE d.message_id = a.message_id AND d.endpoint_id = a.endpoint_id)), (SELECT count(*) FROM endpoint_secret),
     (SELECT count(*) FROM outbox), (SELECT CAST(sum(epoch) AS BIGINT) FROM slot)";

impl World {
    async fn count_rows(&mut self) -> Checked {
        let found: Result<Rows, sqlx::Error> = match &mut self.raw {
            Raw::Sqlite(connection) => sqlx::query_as(ROWS).fetch_one(connection).await,
            Raw::Postgres(connection) => sqlx::query_as(ROWS).fetch_one(connection).await,
        };
        let found = found.map_err(|error| format!("the statement of the test: {error}"))?;
        let model = &self.model;
        // Of a message that went while it was on its way, the attempt is kept all the same.
        let alone = |one: &&sendoff::domain::deliveries::attempt::Attempt| {
            !model.deliveries.contains_key(&(one.message_id, one.endpoint_id))
        };
        let wanted = (
            model.messages.len() as i64,
            model.event_ids.len() as i64,
            model.deliveries.len() as i64,
            model.attempts.len() as i64,
            model.attempts.values().filter(alone).count() as i64,
            model.ends.values().map(|end| end.secrets.len() as i64).sum(),
            model.outbox.len() as i64,
            model.slots.iter().map(|slot| slot.epoch).sum(),
        );
        same(&format!("{}, rows in the end", self.name), found, wanted)
    }
}

/// Later than all before it, at the same time of day.
pub fn fresh_time() -> Time {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let span = Duration::from_secs(128 * 86_400);
    NOW.plus(span * COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What became of a sequence.
#[derive(Debug, PartialEq)]
pub enum Ran {
    Through,
    /// The machine was too busy for it to mean anything.
    TooSlow,
}

/// Runs `acts` on the store, and compares all views at the end.
pub async fn run(world: &mut World, acts: &[Act]) -> Result<Ran, String> {
    let begin = fresh_time();
    let longest = begin.plus(Duration::from_secs(120 * 86_400));
    world.clear(begin).await?;
    let mut now = begin;
    for act in super::sequences::beginning().iter().chain(acts) {
        let waited = if let Act::Wait(seconds) = act { u64::from(*seconds) } else { 0 };
        let later = now.plus(Duration::from_millis(1) + Duration::from_secs(waited));
        now = if later > longest { now.plus(Duration::from_millis(1)) } else { later };
        let done = world.act(act, now).await;
        if world.begun.elapsed() > PATIENCE {
            return Ok(Ran::TooSlow);
        }
        done?;
    }
    world.look_around().await?;
    world.count_rows().await?;
    Ok(Ran::Through)
}
