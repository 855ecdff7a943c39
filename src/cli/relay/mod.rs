//! `sendoff relay`: reads an outbox table in the team's own database and sends its rows to Sendoff over REST.
//! `sendoff outbox init` prints the table's DDL and grants. Come here when Sendoff's store is not in that database.
//!
//! * [`Source`](source::Source) is the connection to the team's database, and holds the relay's lock there.
//! * [`Schedule`](schedule::Schedule) decides which rows may be sent: it keeps the order of an ordering key, and delays
//!   rows that Sendoff rejected.
//! * [`Sender`](sender::Sender) posts rows to Sendoff.
//! * [`ddl`] is the table, for each dialect.
//!
//! # Invariants
//!
//! * A row is deleted only after Sendoff has confirmed that it stored the event. After a crash a row may be sent again;
//!   Sendoff recognizes its `event_id`, so the event is delivered once.
//! * Only one relay reads a table at a time; others wait for its lock. The lock belongs to the connection that reads
//!   and deletes, so a relay that has lost the lock cannot delete a row.
//! * Rows with the same ordering key are sent one after the other, in the order of their ids.
//! * A rejected row stays in the table and stops no other row, except later ones of its ordering key.

pub(super) mod ddl;
mod metrics_server;
mod schedule;
mod sender;
mod source;

use std::path::{Path, PathBuf};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::time::Instant;
use tracing::{info, warn};
use url::Url;

use super::{CliError, print_notice, token};
use crate::app::{AppError, ShutdownSignals};
use crate::config::{Config, parsers};
use crate::domain::OrgId;
use schedule::Schedule;
use sender::{SendResult, Sender};
use source::{RowHead, Source, SourceError, SourceLocation};

/// Rows per page of ids and sizes.
const PAGE_ROWS: usize = 500;
/// Rows per batch: read with their payloads, then sent together.
const BATCH_ROWS: usize = 64;
/// Payload bytes of such a batch; a larger first row is taken alone.
const BATCH_BYTES: i64 = 8 << 20;
/// Pause after a batch with a rejected row while no further backoff can be remembered.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Interval between measurements of the table's depth and age.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);
/// Delays before the database or Sendoff is tried again; the last one repeats.
const RETRY_DELAYS: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// Interval between attempts to take a lock that another relay holds.
const LOCK_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Lifetime of a token signed with the configured secret.
const TOKEN_TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Database with the outbox table: postgres://…, mysql://… (also MariaDB) or sqlite:PATH
    #[arg(long, value_name = "URL", required_unless_present = "from_file")]
    from: Option<String>,
    /// Read that URL from a file, which keeps its password out of the list of processes
    #[arg(long, value_name = "PATH", conflicts_with = "from")]
    from_file: Option<PathBuf>,
    /// Outbox table, with its schema if needed
    #[arg(long, value_name = "TABLE", default_value = ddl::DEFAULT_TABLE, value_parser = ddl::parse_table)]
    table: String,
    /// Send to this Sendoff instead of the configured one
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    /// Organization of the applications
    #[arg(long, value_name = "ORG", default_value = "org_default")]
    org: OrgId,
    /// Use this API key or token instead of a token signed with the configured secret
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Read that key from a file
    #[arg(long, value_name = "PATH", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Look for new rows this often
    #[arg(long, value_name = "SPAN", default_value = "500ms", value_parser = parse_interval)]
    poll: Duration,
    /// Stop when every row was sent or rejected
    #[arg(long)]
    once: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    parsers::span_within(Duration::from_millis(10), Duration::from_secs(3_600))(text)
}

/// A value given on the command line or in a file.
fn given(flag: &str, value: Option<&str>, file: Option<&Path>) -> Result<Option<String>, CliError> {
    let Some(path) = file else { return Ok(value.map(str::to_owned)) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) => Err(CliError::Usage(format!("{flag} {}: {error}", path.display()))),
    }
}

pub(super) async fn run(config: Config, options: Options) -> Result<(), CliError> {
    let from = given("--from-file", options.from.as_deref(), options.from_file.as_deref())?.unwrap_or_default();
    let location = SourceLocation::parse(&from).map_err(|what| CliError::Usage(format!("--from: {what}")))?;
    let token = match given("--token-file", options.token.as_deref(), options.token_file.as_deref())? {
        Some(token) => token,
        None => token::mint(&config, &options.org, None, TOKEN_TTL)?,
    };
    let address = config.http.listen;
    let server = match &options.server {
        Some(url) => url.clone(),
        None => config.http.public_url(address).map_err(|error| AppError::Start(format!("{address}: {error}")))?,
    };
    let sender = Sender::new(server, token)?;
    let metrics = match config.http.admin_listen {
        Some(address) => Some(metrics_server::start(address)?),
        None => None,
    };
    let mut signals = ShutdownSignals::listen()?;
    let relay = Relay { location, sender, options, max_payload: config.store.max_payload };
    let done = tokio::select! {
        done = relay.run() => done,
        () = signals.next() => Ok(()),
    };
    if let Some(metrics) = metrics {
        metrics.stop(false).await;
    }
    done
}

struct Relay {
    location: SourceLocation,
    sender: Sender,
    options: Options,
    /// Bytes: rows with a larger payload are not read.
    max_payload: usize,
}

/// The reason that a pass over the table ended early.
enum Interrupted {
    /// The team's database failed.
    Source(SourceError),
    /// Sendoff is unavailable or asks to wait.
    Server { why: String, retry_after: Option<Duration> },
}

impl From<SourceError> for Interrupted {
    fn from(error: SourceError) -> Interrupted {
        Interrupted::Source(error)
    }
}

/// The result of a pass.
#[derive(Default)]
struct PassReport {
    relayed: usize,
}

impl Relay {
    /// Passes over the table until `--once` is done. A shutdown drops this future: at worst, rows that Sendoff has
    /// stored are not deleted, and the next relay's sends are recognized as duplicates.
    async fn run(&self) -> Result<(), CliError> {
        let mut failures = 0_usize;
        loop {
            let why = match self.connect().await {
                Ok(source) => match self.relay_from(source, &mut failures).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if let SourceError::Unusable(what) = why {
                return Err(CliError::Failed(what));
            }
            let delay = RETRY_DELAYS[failures.min(RETRY_DELAYS.len() - 1)];
            warn!(cause = %why, "the outbox database is unavailable; trying again in {delay:?}");
            failures += 1;
            tokio::time::sleep(delay).await;
        }
    }

    /// Connects and waits for the lock.
    async fn connect(&self) -> Result<Source, SourceError> {
        let mut source = Source::connect(&self.location, &self.options.table).await?;
        let mut waited = false;
        while !source.try_lock().await? {
            if !waited {
                info!("another relay reads {}; waiting for it to stop", self.options.table);
                waited = true;
            }
            tokio::time::sleep(LOCK_POLL_INTERVAL).await;
        }
        // Fails if the table is missing or may not be read.
        source.heads(None, 1).await?;
        print_notice(&format!(
            "Relaying {} in {} to {}.",
            self.options.table,
            self.location.name(),
            self.sender.server()
        ));
        Ok(source)
    }

    async fn relay_from(&self, mut source: Source, failures: &mut usize) -> Result<(), SourceError> {
        let mut schedule = Schedule::default();
        let mut measured: Option<Instant> = None;
        loop {
            if measured.is_none_or(|at| at.elapsed() >= GAUGE_INTERVAL) {
                self.measure(&mut source, &schedule).await?;
                measured = Some(Instant::now());
            }
            match self.pass(&mut source, &mut schedule).await {
                Ok(report) if report.relayed > 0 => *failures = 0,
                Ok(_) => {
                    *failures = 0;
                    if self.options.once {
                        self.measure(&mut source, &schedule).await?;
                        return Ok(());
                    }
                    tokio::time::sleep(self.options.poll).await;
                }
                Err(Interrupted::Source(error)) => return Err(error),
                Err(Interrupted::Server { why, retry_after }) => {
                    let delay = retry_after.unwrap_or(RETRY_DELAYS[(*failures).min(RETRY_DELAYS.len() - 1)]);
                    warn!(cause = why, "Sendoff does not accept events; trying again in {delay:?}");
                    *failures += 1;
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// Reads the whole table once, from the smallest id: transactions commit out of order, so rows may appear below ids
    /// that were read before.
    async fn pass(&self, source: &mut Source, schedule: &mut Schedule) -> Result<PassReport, Interrupted> {
        let mut report = PassReport::default();
        let mut after = None;
        schedule.begin_pass();
        loop {
            let page = source.heads(after, PAGE_ROWS).await?;
            let last_page = page.len() < PAGE_ROWS;
            after = page.last().map(|head| head.id);
            let mut heads = page.into_iter().peekable();
            while heads.peek().is_some() {
                let batch = self.next_batch(&mut heads, schedule);
                if !batch.is_empty() {
                    report.relayed += self.send_batch(source, schedule, &batch).await?;
                }
            }
            if last_page {
                return Ok(report);
            }
        }
    }

    /// Takes rows that may be sent now, up to the budget of a batch.
    fn next_batch(
        &self,
        heads: &mut std::iter::Peekable<std::vec::IntoIter<RowHead>>,
        schedule: &mut Schedule,
    ) -> Vec<RowHead> {
        let (mut batch, mut bytes) = (Vec::new(), 0_i64);
        while let Some(head) = heads.peek() {
            if batch.len() == BATCH_ROWS || (!batch.is_empty() && bytes.saturating_add(head.bytes) > BATCH_BYTES) {
                break;
            }
            let Some(head) = heads.next() else { break };
            if !schedule.admits(&head, Instant::now()) {
                continue;
            }
            if head.bytes > self.max_payload as i64 {
                let why = format!("the payload has {} bytes; the limit is {}", head.bytes, self.max_payload);
                reject(schedule, &head, &why);
                continue;
            }
            bytes += head.bytes;
            batch.push(head);
        }
        batch
    }

    /// Sends a batch and deletes the rows that Sendoff has stored. Returns their number.
    async fn send_batch(
        &self,
        source: &mut Source,
        schedule: &mut Schedule,
        batch: &[RowHead],
    ) -> Result<usize, Interrupted> {
        let ids: Vec<i64> = batch.iter().map(|head| head.id).collect();
        let rows = source.rows(&ids).await?;
        let results = self.sender.send_all(schedule::in_order(rows)).await;
        let (mut done, mut interrupted, mut rejected) = (Vec::new(), None, false);
        for (id, result) in results {
            let head = batch.iter().find(|head| head.id == id);
            match result {
                SendResult::Accepted => {
                    counter!("sendoff_outbox_relayed_total").increment(1);
                    done.push(id);
                }
                SendResult::Duplicate => {
                    counter!("sendoff_outbox_duplicates_total").increment(1);
                    done.push(id);
                }
                SendResult::Rejected(why) => {
                    rejected = true;
                    if let Some(head) = head {
                        reject(schedule, head, &why);
                    }
                }
                SendResult::NotSent => {}
                SendResult::Unavailable { why, retry_after } => {
                    interrupted = Some(Interrupted::Server { why, retry_after });
                }
            }
        }
        source.delete(&done).await?;
        if rejected && schedule.is_full() {
            // Rows without a remembered backoff are sent in every pass; this bounds how often.
            tokio::time::sleep(FULL_PAUSE).await;
        }
        done.iter().for_each(|id| schedule.forget(*id));
        match interrupted {
            Some(interrupted) => Err(interrupted),
            None => Ok(done.len()),
        }
    }

    async fn measure(&self, source: &mut Source, schedule: &Schedule) -> Result<(), SourceError> {
        let depth = source.depth().await?;
        gauge!("sendoff_outbox_waiting").set(depth.rows as f64);
        gauge!("sendoff_outbox_oldest_seconds").set(depth.oldest_seconds as f64);
        gauge!("sendoff_outbox_stuck").set(schedule.rejected() as f64);
        Ok(())
    }
}

fn reject(schedule: &mut Schedule, head: &RowHead, why: &str) {
    let delay = schedule.reject(head, Instant::now());
    warn!(row = head.id, cause = why, "Sendoff rejected a row of the outbox; trying again in {} s", delay.as_secs());
}
