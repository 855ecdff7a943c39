//! Shared by all benches: arguments, an HTTP client and receiver that cost little, open and closed loops, a month of
//! history with the pages over it, and readings from the kernel and PostgreSQL.
//!
//! Each bench is its own binary, has `tests/support` as `crate::support`, and uses a part of this.
#![allow(dead_code)]

pub mod arguments;
pub mod client;
pub mod closed_loop;
pub mod history;
pub mod meter;
pub mod open_loop;
pub mod pages;
pub mod process;
pub mod receiver;
pub mod rest;

/// The median; 0 for no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A percentile of sorted microseconds, in milliseconds; 0 for no values.
pub fn percentile_ms(sorted: &[u32], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |micros| f64::from(*micros) / 1_000.0)
}

/// Syncs an SQLite file that was written with `synchronous = OFF`. Otherwise the first fsync of the measured process
/// would pay for it.
pub fn sync_file(url: &str) {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    std::fs::File::open(path).and_then(|file| file.sync_all()).expect("the file is on the disk");
}
