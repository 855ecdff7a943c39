//! Turns and steps: how background work gets done.
//!
//! * [`Turn`] – a lease of the work: one process at a time is at it, and hands it on after a while, so that long work does not hold up
//!   short work. A turn that was not handed on runs out.
//! * A **step** is one bounded transaction, which does a little and notes how far it has come: whoever is killed in the middle has done
//!   nothing, and nothing is done twice.

use std::time::Duration;

use crate::crash;
use crate::domain::deliveries::background::{Kind, Scope, Stage};
use crate::domain::{AppId, BackgroundId, EndpointId, OrgId, Time};
use crate::store::db::codec;
use crate::store::jobs::background::{Data, kind};
use crate::store::jobs::endpoint_cursor::{Place, Reached};
use crate::store::jobs::reconcile;
use crate::store::jobs::replay::{Room, Step};
use crate::store::jobs::resent;
use crate::store::queue::signals::Signal;
use crate::store::{Store, StoreError, Tx, on, read_vital};

/// How long a turn lasts unless a step renews it.
const LEASE: Duration = Duration::from_secs(10);
/// How many endpoints one step passes at most: most of them have nothing to send again.
const ENDPOINTS: usize = 50;

/// Whose turn it is, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub id: BackgroundId,
    until: Time,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// There is more to do, and it is still our turn.
    More(Turn),
    /// It is over.
    Ended(Stage),
    /// The turn has run out (somebody else is at the work), or the work is gone.
    Lost,
}

impl Store {
    /// Takes a turn at the background work that has waited longest for one; `None`: there is none, or others are at it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn take_turn(&self, now: Time) -> Result<Option<Turn>, StoreError> {
        self.repeated(|| async {
            // Most of the time there is none: no need to hold up the writer.
            const ANY: &str = "SELECT 1 FROM background WHERE state = 'running' LIMIT 1";
            let any: Option<i32> = read_vital!(self, db => sqlx::query_scalar(ANY).fetch_optional(db).await)?;
            if any.is_none() {
                return Ok(None);
            }
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let (until, longest) = (clock.plus(LEASE), clock.plus(LEASE * 2));
            // A lease that lasts longer than one can was given by a clock that has been set back since.
            const NEXT: &str =
                "SELECT id FROM background WHERE state = 'running' AND (leased_until <= $1 OR leased_until > $2)
             ORDER BY leased_until, id LIMIT 1";
            const TAKE: &str = "UPDATE background SET leased_until = $2 WHERE id = $1";
            let next: Option<BackgroundId> = match &mut tx {
                Tx::Sqlite(tx) => sqlx::query_scalar(NEXT).bind(clock).bind(longest).fetch_optional(&mut **tx).await?,
                Tx::Postgres(tx) => {
                    // Processes that come at the same moment take different work.
                    let sql = sqlx::AssertSqlSafe(format!("{NEXT} FOR UPDATE SKIP LOCKED"));
                    sqlx::query_scalar(sql).bind(clock).bind(longest).fetch_optional(&mut **tx).await?
                }
            };
            let Some(id) = next else { return Ok(None) };
            on!(tx, db => sqlx::query(TAKE).bind(id).bind(until).execute(db).await.map(drop))?;
            tx.commit_of(&[crash::CrashPoint::Lease]).await?;
            Ok(Some(Turn { id, until }))
        })
        .await
    }

    /// Hands a turn on: the work waits behind all other.
    ///
    /// # Errors
    /// The store is unavailable; the turn runs out by itself.
    pub async fn end_turn(&self, turn: Turn, now: Time) -> Result<(), StoreError> {
        self.repeated(|| async {
            const SQL: &str = "UPDATE background SET leased_until = $3 WHERE id = $1 AND leased_until = $2";
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            on!(tx, db => sqlx::query(SQL).bind(turn.id).bind(turn.until).bind(clock).execute(db).await.map(drop))?;
            tx.commit().await
        })
        .await
    }

    /// Does a step of background work whose turn is ours, and renews the turn: one transaction.
    ///
    /// # Errors
    /// The store is unavailable; or the work cannot be understood. Nothing was done.
    pub async fn step_background(&self, turn: Turn, now: Time) -> Result<Stepped, StoreError> {
        if let Some(work) = self.listed_work(turn.id).await? {
            return self.step_listed(turn, &work, now).await;
        }
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            let (next, row) = renew(&mut tx, turn, now).await?;
            let Some(Renewed { org, app, kind: word, mut data }) = row else { return ended(&mut tx, turn.id).await };
            let work = Work { id: turn.id, org, kind: kind(&word)?, scope: data.scope(app)?, now };
            let (stage, woken) = self.step(&mut tx, &work, &mut data).await?;
            if stage != Stage::Running && work.kind == Kind::Reconcile {
                reconcile::drop_received(&mut tx, work.id).await?;
            }
            self.end_step(tx, next, (&data, stage), woken, now).await
        })
        .await
    }

    /// Notes how far a step has come, commits it, and wakes the endpoints that have something to send.
    pub(super) async fn end_step(
        &self,
        mut tx: Tx,
        next: Turn,
        (data, stage): (&Data, Stage),
        woken: Vec<EndpointId>,
        now: Time,
    ) -> Result<Stepped, StoreError> {
        const NOTE: &str = "UPDATE background SET data = $2, state = $3, updated_at = $4 WHERE id = $1";
        let text = codec::json(data)?;
        on!(tx, db => {
            sqlx::query(NOTE).bind(next.id).bind(text).bind(stage.word()).bind(now).execute(db).await.map(drop)
        })?;
        tx.commit_of(&[crash::CrashPoint::Background]).await?;
        if !woken.is_empty() {
            self.inner.signals.send(Signal::Look(woken));
        }
        Ok(if stage == Stage::Running { Stepped::More(next) } else { Stepped::Ended(stage) })
    }

    /// Goes on from where `data` says, from endpoint to endpoint, until there is no more room or no more to do. Gives back where the work
    /// stands then, and the endpoints that have something to send.
    async fn step(&self, tx: &mut Tx, work: &Work, data: &mut Data) -> Result<(Stage, Vec<EndpointId>), StoreError> {
        let (filter, mut room, mut woken) = (data.filter(), Room::STEP, Vec::new());
        let mut place = data.place(work.scope)?;
        for _ in 0..ENDPOINTS {
            let Some((reached, at)) = self.endpoint_at(tx, work, place).await? else {
                if let Scope::Endpoint(..) = work.scope {
                    data.reason = Some("the endpoint was deleted".to_owned());
                    return Ok((Stage::Failed, woken));
                }
                return Ok((Stage::Finished, woken));
            };
            let step = Step {
                org: &work.org,
                app: at.app,
                endpoint: &reached.endpoint,
                slot: reached.slot,
                filter: &filter,
                room,
                now: work.now,
            };
            let done = match work.kind {
                Kind::Recover | Kind::BulkReplay => step.send_again(tx, at.message).await?,
                Kind::ReplayMissing => step.send_missing(tx, at.message).await?,
                Kind::Reconcile => {
                    let received = reconcile::received_of(tx, work.id).await?;
                    step.send_missed(tx, at.message, &received, data.bounded).await?
                }
            };
            resent::note(tx, work.id, reached.endpoint.id, &done.sent, data.sent).await?;
            data.looked += done.looked as i64;
            data.sent += done.sent.len() as i64;
            if !done.sent.is_empty() {
                woken.push(reached.endpoint.id);
            }
            let here = Place { message: done.last.map_or(at.message, |last| last.0), ..at };
            data.go_on_at(here);
            room = room.after(&done);
            if done.more {
                return Ok((Stage::Running, woken));
            }
            if let Scope::Endpoint(..) = work.scope {
                return Ok((Stage::Finished, woken));
            }
            // Through with this endpoint: its last message is the end of all of them.
            let through = Place { message: uuid::Uuid::max(), ..here };
            data.go_on_at(through);
            place = Some(through);
            if room.is_full() {
                break;
            }
        }
        Ok((Stage::Running, woken))
    }

    /// The endpoint that the work is at, or the next one, and from where to go on there. `None`: there is none.
    async fn endpoint_at(
        &self,
        tx: &mut Tx,
        work: &Work,
        place: Option<Place>,
    ) -> Result<Option<(Reached, Place)>, StoreError> {
        if let Some(at) = place.filter(|at| !at.message.is_max()) {
            match self.endpoint_in(tx, at.app, at.endpoint).await? {
                Some(reached) => return Ok(Some((reached, at))),
                None if matches!(work.scope, Scope::Endpoint(..)) => return Ok(None),
                None => {}
            }
        }
        let from = place.unwrap_or_else(Place::beginning);
        let next = self.endpoint_after(tx, &work.org, work.scope, from).await?;
        Ok(next.map(|reached| {
            let at = Place::before(&reached.endpoint);
            (reached, at)
        }))
    }
}

/// What a step is part of.
struct Work {
    id: BackgroundId,
    org: OrgId,
    kind: Kind,
    scope: Scope,
    now: Time,
}

/// Work whose turn is ours for longer.
pub(super) struct Renewed {
    org: OrgId,
    app: Option<AppId>,
    kind: String,
    pub data: Data,
}

/// Renews the turn before anything else: on PostgreSQL that keeps everybody else from stepping, and from canceling, until the commit.
/// `None`: it is not ours any more.
pub(super) async fn renew(tx: &mut Tx, turn: Turn, now: Time) -> Result<(Turn, Option<Renewed>), StoreError> {
    const RENEW: &str = "UPDATE background SET leased_until = $3
     WHERE id = $1 AND leased_until = $2 AND state = 'running' RETURNING org, app_id, kind, data";
    let clock = Store::lease_clock(tx, now).await?;
    let next = Turn { id: turn.id, until: clock.plus(LEASE) };
    let row: Option<(OrgId, Option<AppId>, String, String)> = on!(tx, db => {
        sqlx::query_as(RENEW).bind(turn.id).bind(turn.until).bind(next.until).fetch_optional(db).await
    })?;
    let renewed = |(org, app, kind, data): (OrgId, Option<AppId>, String, String)| {
        Ok::<_, StoreError>(Renewed { org, app, kind, data: codec::from_json(&data)? })
    };
    Ok((next, row.map(renewed).transpose()?))
}

/// Why a turn was not ours to go on with.
pub(super) async fn ended(tx: &mut Tx, id: BackgroundId) -> Result<Stepped, StoreError> {
    const SQL: &str = "SELECT 1 FROM background WHERE id = $1 AND state = 'canceled'";
    let canceled: Option<i32> = on!(tx, db => sqlx::query_scalar(SQL).bind(id).fetch_optional(db).await)?;
    Ok(canceled.map_or(Stepped::Lost, |_| Stepped::Ended(Stage::Canceled)))
}
