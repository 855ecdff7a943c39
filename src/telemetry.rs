//! Log lines to standard error, and the metrics behind `/metrics`.
//!
//! Logging is best effort: [`Lines`] never blocks, never panics, and counts what it drops. A server prints only
//! through it.

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

/// Buckets in seconds, as on the dashboard, plus those around usual timeouts.
const DURATIONS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];
/// Buckets in seconds for one step of the event loop.
const STEPS: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25];
/// Buckets for write transactions of the store, in seconds.
const WRITES: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0];
/// Buckets for the number of items per transaction.
const BATCHES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Silences library messages that are useless to operators: starts and stops of workers, "already exists, skipping",
/// and errors that any client can cause with invalid HTTP. A log filter can re-enable them.
const QUIET: &str = "actix_server=warn,actix_http=off,sqlx::postgres::notice=warn";

/// The longest wait of an exiting process for unwritten lines.
const LAST_LINES: Duration = Duration::from_secs(1);

static ERRORS: OnceLock<Lines> = OnceLock::new();
static OUTPUT: OnceLock<Lines> = OnceLock::new();

fn errors() -> &'static Lines {
    ERRORS.get_or_init(|| Lines::to(std::io::stderr()))
}

/// Starts logging, including panics. A second call in one process has no effect.
pub fn log(config: &LogConfig) {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.filter)).unwrap_or_default();
    // The formatter would print its internal errors past the queue.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let lines = lines.with_writer(errors);
    let begun = match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    if begun.is_ok() {
        // The default hook writes to standard error directly, and may block.
        std::panic::set_hook(Box::new(panicked));
    }
}

fn panicked(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("without a message");
    // Controlled by RUST_BACKTRACE, as usual.
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(trace));
    tracing::error!(%place, trace, "panicked: {message}");
}

/// Queues a line for standard error, after queued log lines.
pub fn print_error(line: &str) {
    errors().push(format!("{line}\n").into_bytes());
}

/// Queues a line for standard output. A server must not wait for its reader.
pub fn print(line: &str) {
    OUTPUT.get_or_init(|| Lines::to(std::io::stdout())).push(format!("{line}\n").into_bytes());
}

/// Waits until queued lines are written, at most 1 s. Call before the process exits.
pub fn flush() {
    [&OUTPUT, &ERRORS].into_iter().filter_map(OnceLock::get).for_each(|lines| lines.flush(LAST_LINES));
}

/// Updates the metric of dropped lines, which are counted before metrics exist.
pub fn count_dropped_lines() {
    let dropped = errors().dropped();
    for (reason, lines) in [("full", dropped.full), ("failed", dropped.failed)] {
        metrics::counter!("sendoff_log_lines_dropped_total", "reason" => reason).absolute(lines);
    }
}

/// Starts the metrics of this process. The caller must run [`PrometheusHandle::run_upkeep`] regularly, or unread
/// histograms grow.
///
/// # Errors
/// Another recorder is installed in this process.
pub fn count() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("sendoff_attempt_duration_seconds".to_owned()), &DURATIONS)?
        .set_buckets_for_metric(Matcher::Full("sendoff_engine_step_seconds".to_owned()), &STEPS)?
        .set_buckets_for_metric(Matcher::Full("sendoff_store_write_seconds".to_owned()), &WRITES)?
        .set_buckets_for_metric(Matcher::Full("sendoff_batch_size".to_owned()), &BATCHES)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

/// Descriptions of metrics; docs/operations.md lists all metrics. Names of durations and times end with `_seconds`.
const COUNTERS: [(&str, &str); 13] = [
    ("sendoff_accepted_total", "Messages accepted, through REST and the outbox."),
    ("sendoff_http_requests_total", "Requests to the REST API, by route, method and status."),
    ("sendoff_fanned_out_total", "Deliveries of wide messages moved into the queue."),
    ("sendoff_outbox_relayed_total", "Outbox rows that became messages."),
    ("sendoff_outbox_duplicates_total", "Outbox rows that repeated an event id."),
    (
        "sendoff_payloads_invalid_total",
        "Payloads that did not match the schema of their event type, by result and way.",
    ),
    ("sendoff_attempts_total", "Attempts, by outcome."),
    ("sendoff_attempts_not_made_total", "Attempts that could not be made for a local reason, by reason."),
    (
        "sendoff_log_lines_dropped_total",
        "Log lines that were not written, by reason: the queue was full, or writing failed.",
    ),
    ("sendoff_task_failures_total", "Tasks that panicked or ended unexpectedly, by task."),
    ("sendoff_deliveries_dead_total", "Deliveries that were given up, by reason."),
    ("sendoff_mails_total", "Attempts to send mail to a contact, by outcome."),
    ("sendoff_maintenance_failures_total", "Failed turns of maintenance tasks, by task."),
];
const GAUGES: [(&str, &str); 12] = [
    ("sendoff_dead_deliveries", "Deliveries whose attempts were exhausted in the last 24 hours."),
    ("sendoff_engine_lanes", "Endpoints in the engine's memory, with deliveries queued, in flight or recent."),
    ("sendoff_in_flight", "Requests in flight."),
    ("sendoff_pace_behind", "Rate limit of backlogged endpoints, together, in deliveries per second; 0: unlimited."),
    ("sendoff_pending", "Deliveries that wait for their first attempt or a retry."),
    ("sendoff_oldest_pending_seconds", "How long the oldest due delivery has waited."),
    ("sendoff_outbox_waiting", "Outbox rows not yet taken by the relay."),
    ("sendoff_partitions", "PostgreSQL: message partitions."),
    ("sendoff_partitions_oldest_timestamp_seconds", "PostgreSQL: start of the oldest partition except the first."),
    ("sendoff_partitions_newest_timestamp_seconds", "PostgreSQL: end of the newest partition."),
    ("sendoff_outbox_stuck", "Outbox rows that cannot be routed."),
    (
        "sendoff_maintenance_last_success_timestamp_seconds",
        "When this process last completed a turn of a maintenance task, in Unix time; 0: never.",
    ),
];
const HISTOGRAMS: [(&str, &str); 4] = [
    ("sendoff_attempt_duration_seconds", "Duration of attempts."),
    ("sendoff_engine_step_seconds", "Duration of one step of the engine's event loop."),
    ("sendoff_store_write_seconds", "Duration of write transactions, by kind."),
    ("sendoff_batch_size", "Items per transaction, by kind."),
];

fn describe() {
    let unit = |name: &str| if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
    for (name, text) in COUNTERS {
        describe_counter!(name, text);
    }
    for (name, text) in GAUGES {
        describe_gauge!(name, unit(name), text);
    }
    for (name, text) in HISTOGRAMS {
        describe_histogram!(name, unit(name), text);
    }
}
