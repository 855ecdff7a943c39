//! What the process says about itself: log lines to standard error, and the numbers behind `/metrics`.

use std::io::IsTerminal;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Seconds: the dashboard's bounds, and those between which timeouts lie.
const DURATIONS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];
/// Seconds that one step of the engine's event loop takes.
const STEPS: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25];
/// Items that shared a transaction.
const BATCHES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Notes of libraries that say nothing to an operator: workers that start and stop, "already exists, skipping", and as errors what
/// any stranger can cause by sending something that is no HTTP. Whoever wants them names them in the filter.
const QUIET: &str = "actix_server=warn,actix_http=off,sqlx::postgres::notice=warn";

/// Begins to write log lines. Said twice in one process, the first counts.
pub fn log(config: &LogConfig) {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.filter)).unwrap_or_default();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
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
