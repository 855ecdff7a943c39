//! Batches that form themselves. A writer takes whatever queued up while its last commit ran, stores it in one
//! transaction, and answers everybody after the commit. No timer, no least delay: one message alone goes at once, a
//! thousand share a commit.
//!
//! On SQLite there is one writer for everything, so accepts, records and relayed rows that wait go into the *same*
//! transaction. On PostgreSQL each kind has a writer of its own.

mod loading;
mod queue;

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::loading::Loading;
pub(in crate::store) use self::queue::{Queues, queues};
use self::queue::{Write, gather, gone};
use super::accept::{AcceptItem, AcceptedBatch, ItemOutcome, Rejection, accept_in};
use super::outbox::RelayReport;
use crate::crash::CrashPoint;
use crate::domain::AppId;
use crate::store::db::budget::{self, Budget, AdaptiveBudget};
use crate::store::db::retry::{ConflictError, retry_conflicts};
use crate::store::db::sqlite::Sqlite;
use crate::store::ingest::outbox::relay::relay_in;
use crate::store::queue::signals::{Admission, Signal};
use crate::store::recording::operational;
use crate::store::recording::record::{RowCheck, FinishedAttempt, RecordOutcome, record_in};
use crate::store::{Backend, Inner, StoreError, Tx};
use crate::supervisor::Component;

/// SQLite's lock is left free between two transactions when more is waiting, so that the team's own writers get their
/// turn: they poll for it, up to 100 ms apart, so what counts is the share of the time for which it is free. That is
/// at least this long,
const BREATH: Duration = Duration::from_millis(1);
/// at most this long,
const LONGEST_BREATH: Duration = Duration::from_millis(20);
/// and in between this part of what the transaction took: as long as it took when others have written lately, else a
/// tenth.
const SHARE_OF_NOBODY: u32 = 10;
/// For how long after a commit of others they are taken to be there.
const OTHERS_STAY: Duration = Duration::from_secs(60);
/// A transaction that takes longer than this is given up: its callers would rather hear 503.
const PATIENCE: Duration = Duration::from_secs(30);

/// A writer: runs until the store is dropped.
pub(in crate::store) async fn run(store: Weak<Inner>, mut queue: mpsc::Receiver<Write>) {
    let mut others = Others::default();
    // How long SQLite's lock was held since it was free for others.
    let mut held = Duration::ZERO;
    let mut adaptive_budget = AdaptiveBudget::new();
    // What found no room in the last transaction goes first.
    let mut left: Vec<Write> = Vec::new();
    let mut loading = Loading::default();
    loop {
        if left.is_empty() {
            tokio::select! {
                first = queue.recv() => match first {
                    Some(first) => left.push(first),
                    None => return,
                },
                ready = loading.ready() => left = ready,
            }
        }
        let Some(inner) = store.upgrade() else { return };
        let begun = Instant::now();
        let batch = gather(std::mem::take(&mut left), &mut queue);
        Component::Writer.panic_point();
        metrics::histogram!("sendoff_batch_size", "kind" => "write").record(batch.len() as f64);
        let settled = settle(&inner, batch, &mut adaptive_budget).await;
        left = settled.left;
        loading.wait(&inner, settled.not_loaded, queue.max_capacity());
        if let Some(error) = settled.away {
            // Whoever waits has waited for this answer long enough: nobody waits for one such time after another.
            for write in left.drain(..) {
                write.fail(&error);
            }
            while let Ok(write) = queue.try_recv() {
                write.fail(&error);
            }
        }
        held += begun.elapsed();
        match &inner.backend {
            Backend::Sqlite(_) if left.is_empty() && queue.is_empty() => held = Duration::ZERO,
            Backend::Sqlite(backend) => {
                // A timer is no finer than a breath: shorter ones are saved up.
                if held / SHARE_OF_NOBODY >= BREATH {
                    let share = if others.are_there(backend).await { 1 } else { SHARE_OF_NOBODY };
                    let breath = (held / share).min(LONGEST_BREATH);
                    held = Duration::ZERO;
                    drop(inner);
                    tokio::time::sleep(breath).await;
                }
            }
            Backend::Postgres(_) => {}
        }
    }
}

/// Whether other processes write to the file, as far as can be seen: SQLite counts the commits of others for each
/// connection.
#[derive(Default)]
struct Others {
    version: Option<i64>,
    seen: Option<Instant>,
}

impl Others {
    async fn are_there(&mut self, backend: &Sqlite) -> bool {
        let version = backend.data_version().await.ok();
        let before = std::mem::replace(&mut self.version, version);
        if before.is_some() && before != version {
            self.seen = Some(Instant::now());
        }
        self.seen.is_some_and(|seen| seen.elapsed() < OTHERS_STAY)
    }
}

impl ConflictError for Failed {
    fn is_conflict(&self) -> bool {
        matches!(self, Failed::Within(error) if error.is_conflict())
    }
}

/// Where a transaction failed.
enum Failed {
    /// Before it began: the store is away, for everybody.
    Beginning(StoreError),
    Within(StoreError),
}

/// What came of a batch.
#[derive(Default)]
struct Settled {
    /// The error, if the store is away.
    away: Option<StoreError>,
    /// What found no room in the transaction.
    left: Vec<Write>,
    /// Messages whose application has to be loaded first.
    not_loaded: Vec<(AppId, Write)>,
}

/// Stores what of `batch` fits into one transaction and answers it. When the store refuses a value, the batch is
/// halved until the culprit is alone.
async fn settle(inner: &Inner, mut batch: Vec<Write>, adaptive_budget: &mut AdaptiveBudget) -> Settled {
    if batch.is_empty() {
        return Settled::default();
    }
    let begun = Instant::now();
    let stored = tokio::time::timeout(PATIENCE, async {
        match retry_conflicts(|| store(inner, &batch, adaptive_budget)).await {
            // A partition was dropped since it was last looked at: the second try makes it.
            Err(Failed::Within(StoreError::Unavailable(_))) if inner.partitions_forgotten() => {
                store(inner, &batch, adaptive_budget).await
            }
            stored => stored,
        }
    })
    .await;
    let (error, away) = match stored {
        Ok(Ok(Some((stored, rows)))) => {
            adaptive_budget.adjust(rows, begun.elapsed());
            return stored.answer(inner, batch);
        }
        Ok(Ok(None)) => (StoreError::Damaged("a record was neither written nor refused".into()), false),
        Ok(Err(Failed::Beginning(error))) => (error, true),
        Ok(Err(Failed::Within(error))) => (error, false),
        Err(_) => (StoreError::Unavailable(format!("a transaction took longer than {} s", PATIENCE.as_secs())), false),
    };
    if away || !matches!(error, StoreError::Refused(_)) {
        // One that took too long is not tried again as it was.
        adaptive_budget.adjust(budget::MOST_ROWS, begun.elapsed());
        batch.into_iter().for_each(|write| write.fail(&error));
        return Settled { away: away.then_some(error), ..Settled::default() };
    }
    if batch.len() > 1 {
        let second = batch.split_off(batch.len() / 2);
        let first = Box::pin(settle(inner, batch, adaptive_budget)).await;
        let second = Box::pin(settle(inner, second, adaptive_budget)).await;
        let left = first.left.into_iter().chain(second.left).collect();
        let not_loaded = first.not_loaded.into_iter().chain(second.not_loaded).collect();
        return Settled { away: second.away.or(first.away), left, not_loaded };
    }
    if let Some(write) = batch.pop() {
        refuse(inner, write, &error).await;
    }
    Settled::default()
}

/// Stores what of `batch` fits into one transaction; gives back how many rows that was. `None`: not even after each
/// statement had told what it wrote.
async fn store(inner: &Inner, batch: &[Write], adaptive_budget: &AdaptiveBudget) -> Result<Option<(Stored, usize)>, Failed> {
    for check in [RowCheck::Counted, RowCheck::Returned] {
        let mut budget = adaptive_budget.budget();
        let mut tx = inner.begin().await.map_err(Failed::Beginning)?;
        match write(inner, &mut tx, batch, check, &mut budget).await {
            Ok(Some(stored)) => {
                tx.commit_of(&places(batch)).await.map_err(Failed::Within)?;
                return Ok(Some((stored, budget.spent())));
            }
            Ok(None) => tx.roll_back().await.map_err(Failed::Within)?,
            Err(error) => {
                // Now: PostgreSQL tells of an error before it lets go of the rows, and the relay's next step would
                // pass over them.
                let _ = tx.roll_back().await;
                return Err(Failed::Within(error));
            }
        }
    }
    Ok(None)
}

/// Answers for the one write that the store refuses.
async fn refuse(inner: &Inner, write: Write, error: &StoreError) {
    match write {
        Write::Accept(_, answer) => drop(answer.send(Ok(Err(Rejection::by_store(&error.to_string()))))),
        Write::Record(finished, answer) => drop(answer.send(record_apart(inner, &finished).await)),
        Write::Relay(..) => write.fail(error),
    }
}

/// Records a refused batch one by one; what still is refused is recorded without what the receiver sent.
async fn record_apart(inner: &Inner, finished: &[FinishedAttempt]) -> Result<Vec<RecordOutcome>, StoreError> {
    let mut recorded = Vec::with_capacity(finished.len());
    for one in finished {
        let mut done = retry_conflicts(|| record_one(inner, one)).await;
        if let Err(StoreError::Refused(reason)) = &done {
            let mut one = one.clone();
            tracing::error!(message = %one.attempt.message_id, %reason, "an attempt is recorded without its answer");
            one.attempt.outcome.response_headers.clear();
            one.attempt.outcome.response_body = bytes::Bytes::new();
            one.attempt.outcome.detail = "the receiver's answer could not be stored".into();
            done = retry_conflicts(|| record_one(inner, &one)).await;
        }
        recorded.push(done?);
    }
    Ok(recorded)
}

async fn record_one(inner: &Inner, one: &FinishedAttempt) -> Result<RecordOutcome, StoreError> {
    let mut tx = inner.begin().await?;
    let nothing = || StoreError::Refused("nothing was recorded".into());
    let finished = std::slice::from_ref(one);
    let (recorded, emitted) = record_in(inner, &mut tx, finished, RowCheck::Returned).await?.ok_or_else(nothing)?;
    tx.commit_of(&[CrashPoint::Record]).await?;
    operational::signal_emitted(inner, emitted);
    recorded.into_iter().next().ok_or_else(nothing)
}

/// What a transaction stored, in the order of its batch's kinds.
struct Stored {
    accepted: Option<AcceptedBatch>,
    recorded: Vec<Vec<RecordOutcome>>,
    /// What the records make the engine tell the organizations.
    emitted: Vec<Admission>,
    relayed: Vec<(RelayReport, Vec<Admission>, Vec<AppId>)>,
}

/// Writes what of `batch` fits. `None`: something of it was not as [expected](RowCheck::Counted), and nothing is to be
/// committed.
async fn write(
    inner: &Inner,
    tx: &mut Tx,
    batch: &[Write],
    check: RowCheck,
    budget: &mut Budget,
) -> Result<Option<Stored>, StoreError> {
    let items: Vec<&AcceptItem> = batch
        .iter()
        .filter_map(|write| match write {
            Write::Accept(item, _) => Some(item),
            _ => None,
        })
        .collect();
    let mut stored = Stored { accepted: None, recorded: Vec::new(), emitted: Vec::new(), relayed: Vec::new() };
    if !items.is_empty() {
        stored.accepted = Some(accept_in(tx, inner, &items, budget).await?);
    }
    // The records come last: they may change applications, and what the others remember of those must be what is
    // committed.
    for write in batch {
        if let Write::Relay(request, _) = write {
            stored.relayed.push(relay_in(inner, tx, request, budget).await?);
        }
    }
    for write in batch {
        if let Write::Record(finished, _) = write {
            let Some((recorded, emitted)) = record_in(inner, tx, finished, check).await? else {
                return Ok(None);
            };
            stored.recorded.push(recorded);
            stored.emitted.extend(emitted);
        }
    }
    Ok(Some(stored))
}

/// What a batch brings into the store, for the tests that crash there.
fn places(batch: &[Write]) -> Vec<CrashPoint> {
    let mut places: Vec<CrashPoint> = Vec::with_capacity(3);
    for write in batch {
        let place = match write {
            Write::Accept(..) => CrashPoint::Accept,
            Write::Record(..) => CrashPoint::Record,
            Write::Relay(..) => CrashPoint::Relay,
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

impl Stored {
    /// Tells the engine what is due, then everybody what became of theirs. Gives back what found no room, in its
    /// order, and what waits to be loaded.
    fn answer(self, inner: &Inner, batch: Vec<Write>) -> Settled {
        let (mut outcomes, mut due) = match self.accepted {
            Some(accepted) => {
                inner.wakeups.wake(accepted.apps());
                if accepted.packed {
                    inner.packed.store(true, Ordering::Release);
                }
                (accepted.outcomes.into_iter(), accepted.admissions)
            }
            None => (Vec::new().into_iter(), Vec::new()),
        };
        let mut recorded = self.recorded.into_iter();
        metrics::counter!("sendoff_accepted_total", "way" => "rest").increment(
            outcomes.as_slice().iter().filter(|outcome| matches!(outcome, ItemOutcome::Decided(Ok(_)))).count() as u64,
        );
        let mut relayed = Vec::with_capacity(self.relayed.len());
        for (result, admissions, apps) in self.relayed {
            inner.wakeups.wake(apps);
            metrics::counter!("sendoff_accepted_total", "way" => "outbox").increment(result.accepted as u64);
            due.extend(admissions);
            relayed.push(result);
        }
        let mut relayed = relayed.into_iter();
        if !due.is_empty() {
            inner.signals.send(Signal::Accepted(due));
        }
        operational::signal_emitted(inner, self.emitted);
        let mut settled = Settled::default();
        for write in batch {
            match write {
                Write::Accept(item, answer) => match outcomes.next() {
                    Some(ItemOutcome::Decided(verdict)) => drop(answer.send(Ok(verdict))),
                    Some(ItemOutcome::NotLoaded(app)) => settled.not_loaded.push((app, Write::Accept(item, answer))),
                    None => settled.left.push(Write::Accept(item, answer)),
                },
                Write::Record(_, answer) => drop(answer.send(recorded.next().ok_or_else(gone))),
                Write::Relay(_, answer) => drop(answer.send(relayed.next().ok_or_else(gone))),
            }
        }
        settled
    }
}
