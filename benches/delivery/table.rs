//! Prints the results of all rounds as a Markdown table.

use super::common::median;
use super::load::{Load, Measurement};
use super::server::Target;

/// A target and its results per round.
pub type Row = (Target, Vec<Measurement>);

/// Prints medians, and shares of the same round's ceiling if it was measured.
pub fn print(load: Load, rows: &[Row]) {
    let rounds = rows.first().map_or(0, |(_, measured)| measured.len());
    println!("\n{load}: medians of {rounds} rounds, and as shares of the ceiling\n");
    println!(
        "| store | accepted/s | delivered/s | of the ceiling | p50 | p99 | CPU per delivery: Sendoff | database | \
         bytes written | rows | index entries | memory |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let ceiling = rows.iter().find(|(target, _)| *target == Target::Ceiling).map(|(_, measured)| measured);
    for (target, measured) in rows {
        println!("| {} | {} |", target.name(), cells(measured, ceiling).join(" | "));
    }
    println!();
}

fn cells(measured: &[Measurement], ceiling: Option<&Vec<Measurement>>) -> Vec<String> {
    let number = |of: fn(&Measurement) -> f64| median(measured.iter().map(of).collect());
    let optional = |of: fn(&Measurement) -> Option<f64>, unit: &str, digits: usize| {
        let values: Vec<f64> = measured.iter().filter_map(of).collect();
        if values.is_empty() { "–".to_owned() } else { format!("{:.digits$}{unit}", median(values)) }
    };
    let shares = ceiling.map(|ceiling| {
        let pairs = measured.iter().zip(ceiling);
        median(pairs.map(|(one, ceiling)| one.delivered_per_second / ceiling.delivered_per_second).collect())
    });
    vec![
        format!("{:.0}", number(|one| one.accepted_per_second)),
        format!("{:.0}", number(|one| one.delivered_per_second)),
        shares.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0)),
        format!("{:.1} ms", number(|one| one.p50_ms)),
        format!("{:.1} ms", number(|one| one.p99_ms)),
        optional(|one| one.cpu_us, " µs", 0),
        optional(|one| one.database_cpu_us, " µs", 0),
        optional(|one| one.written_bytes, " B", 0),
        optional(|one| one.rows, "", 2),
        optional(|one| one.index_entries, "", 2),
        optional(|one| one.memory.map(|bytes| bytes / 1e6), " MB", 0),
    ]
}
