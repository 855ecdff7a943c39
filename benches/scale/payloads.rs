//! A backlog of large payloads, which must not all be in memory and still be sent from the first second.

use super::fan_out::{once, rate};
use super::pending::drain_payloads;
use super::plan::{Case, Plan};
use super::support::Kind;
use super::table::{Check, Row};

/// Applications that share the payloads, each with one endpoint.
const ENDPOINTS: usize = 32;
/// An upper bound of the JSON around a payload's text.
const JSON_OVERHEAD: usize = 100;

pub async fn measure(plan: &Plan, store: Kind) -> Vec<Row> {
    let mut rows = Vec::new();
    for (count, kib) in [(plan.large, 256), (plan.huge, 16 * 1_024)] {
        let messages = count.div_ceil(ENDPOINTS);
        let drained = drain_payloads(plan, store, (ENDPOINTS, messages), kib * 1_024 - JSON_OVERHEAD).await;
        let count = ENDPOINTS * messages;
        rows.push(Row {
            case: Case::Payloads.name(),
            store: store.name(),
            size: format!("{count} × {kib} KiB"),
            checks: vec![
                Check::at_most("memory", drained.memory / 1e6, 300.0, " MB"),
                Check::at_most("start to first attempt", drained.first.as_secs_f64(), 1.0, " s"),
                once(&drained.seen, count as u64),
                Check::note("delivered", rate(&drained.seen) * kib as f64 / 1_024.0, " MiB/s"),
            ],
        });
    }
    rows
}
