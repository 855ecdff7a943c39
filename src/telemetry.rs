//! What the process says about itself: log lines to standard error, and the numbers behind `/metrics`.
//!
//! Logging is best effort: [`Lines`] never block and never panic, and count what they drop. Everything that a server prints goes
//! through them.

mod lines;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};
use lines::Lines;

/// Seconds: the dashboard's bounds, and those between which timeouts lie.
const DURATIONS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];
/// Seconds that one step of the engine's event loop takes.
const STEPS: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25];
/// Items that shared a transaction.
const BATCHES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Notes of libraries that say nothing to an operator: workers that start and stop, "already exists, skipping", and as errors what
/// any stranger can cause by sending something that is no HTTP. Whoever wants them names them in the filter.
const QUIET: &str = "actix_server=warn,actix_http=off,sqlx::postgres::notice=warn";

/// How long the end of the process waits for the lines that are still to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

static ERRORS: OnceLock<Lines> = OnceLock::new();
static OUTPUT: OnceLock<Lines> = OnceLock::new();

fn errors() -> &'static Lines {
    ERRORS.get_or_init(|| Lines::to(std::io::stderr()))
}

/// Begins to write log lines, panics among them. Said twice in one process, the first counts.
pub fn log(config: &LogConfig) {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.filter)).unwrap_or_default();
    // What the formatter has to say of its own errors, it would print past the queue.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let lines = lines.with_writer(errors);
    let begun = match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    if begun.is_ok() {
        // The default hook writes to standard error itself, and blocks with it.
        std::panic::set_hook(Box::new(panicked));
    }
}

fn panicked(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("without a message");
    // RUST_BACKTRACE decides, as usual.
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(trace));
    tracing::error!(%place, trace, "panicked: {message}");
}

/// Queues a line for standard error, behind the log's.
pub fn print_error(line: &str) {
    errors().push(format!("{line}\n").into_bytes());
}

/// Queues a line for standard output, for a process that serves: it must not wait for whoever reads it.
pub fn print(line: &str) {
    OUTPUT.get_or_init(|| Lines::to(std::io::stdout())).push(format!("{line}\n").into_bytes());
}

/// Waits until what was printed is written, for 1 s at the longest: for the end of the process.
pub fn flush() {
    [&OUTPUT, &ERRORS].into_iter().filter_map(OnceLock::get).for_each(|lines| lines.flush(LAST_LINES));
}

/// Brings the count of dropped lines up to date, which is kept from before there were metrics.
pub fn count_dropped_lines() {
    let dropped = errors().dropped();
    for (reason, lines) in [("full", dropped.full), ("failed", dropped.failed)] {
        metrics::counter!("sendoff_log_lines_dropped_total", "reason" => reason).absolute(lines);
    }
}

/// Begins to count, for the whole process. The handle renders what was counted and has to be tidied now and then
/// ([`PrometheusHandle::run_upkeep`]), or histograms that nobody asks for grow.
///
/// # Errors
/// Something else in this process counts already.
pub fn count() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("sendoff_attempt_duration_seconds".to_owned()), &DURATIONS)?
        .set_buckets_for_metric(Matcher::Full("sendoff_engine_step_seconds".to_owned()), &STEPS)?
        .set_buckets_for_metric(Matcher::Full("sendoff_batch_size".to_owned()), &BATCHES)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

/// The list of docs/operations.md.
fn describe() {
    describe_counter!("sendoff_accepted_total", "Messages accepted, through REST and the outbox.");
    describe_counter!("sendoff_http_requests_total", "Requests to the REST API, by route, method and status.");
    describe_counter!("sendoff_fanned_out_total", "Deliveries of wide messages that were moved into the queue.");
    describe_counter!("sendoff_outbox_relayed_total", "Outbox rows that became messages.");
    describe_counter!("sendoff_outbox_duplicates_total", "Outbox rows that were repeats of an event id.");
    describe_counter!("sendoff_attempts_total", "Attempts, by what they came to (outcome).");
    describe_counter!(
        "sendoff_attempts_not_made_total",
        "Attempts that could not be made, for a reason of Sendoff's machine, by the reason."
    );
    describe_counter!(
        "sendoff_log_lines_dropped_total",
        "Lines of the log that were not written: there was no room (full), or the system refused them (failed)."
    );
    describe_counter!("sendoff_task_failures_total", "Tasks that panicked or ended by themselves, by the task.");
    describe_counter!("sendoff_deliveries_dead_total", "Deliveries that were given up, by the reason.");
    describe_counter!("sendoff_mails_total", "Tries to hand over a mail to a contact, by what they came to (outcome).");
    describe_gauge!("sendoff_dead_deliveries", "Deliveries that died by their attempts within the last 24 hours.");
    describe_gauge!(
        "sendoff_engine_lanes",
        "Endpoints that the engine has in memory because they have something to do."
    );
    describe_gauge!("sendoff_in_flight", "POSTs being made right now.");
    describe_gauge!(
        "sendoff_pace_behind",
        "Deliveries a second that may go to endpoints behind, as others come first."
    );
    describe_gauge!("sendoff_pending", "Deliveries that wait for their first attempt or a retry.");
    describe_gauge!(
        "sendoff_oldest_pending_seconds",
        Unit::Seconds,
        "How long the oldest delivery that is due has waited."
    );
    describe_gauge!("sendoff_outbox_waiting", "Outbox rows that the relay has not taken yet.");
    describe_gauge!("sendoff_partitions", "PostgreSQL: partitions of the messages.");
    describe_gauge!(
        "sendoff_partitions_oldest_timestamp_seconds",
        "PostgreSQL: when the oldest partition begins, but for the first."
    );
    describe_gauge!("sendoff_partitions_newest_timestamp_seconds", "PostgreSQL: when the newest partition ends.");
    describe_gauge!("sendoff_outbox_stuck", "Outbox rows that can't be routed.");
    describe_gauge!(
        "sendoff_maintenance_last_success_timestamp_seconds",
        Unit::Seconds,
        "When this process last finished a turn of a maintenance task, since 1970; 0: never."
    );
    describe_counter!("sendoff_maintenance_failures_total", "Turns of maintenance tasks that failed, by task.");
    describe_histogram!("sendoff_attempt_duration_seconds", Unit::Seconds, "How long attempts take.");
    describe_histogram!(
        "sendoff_engine_step_seconds",
        Unit::Seconds,
        "How long one step of the engine's event loop takes."
    );
    describe_histogram!("sendoff_batch_size", "How many items shared a transaction, by its kind.");
}
