//! The results of a case, as a row of a Markdown table.

use std::fmt;

/// A figure, with or without a bound.
#[derive(Clone, Debug)]
pub struct Check {
    what: String,
    figure: String,
    bound: Option<String>,
    holds: bool,
}

impl Check {
    /// Requires `value` ≤ `bound`.
    pub fn at_most(what: &str, value: f64, bound: f64, unit: &str) -> Check {
        Check::bounded(what, value, ("≤", bound), unit, value <= bound)
    }

    /// Requires `value` ≥ `bound`.
    pub fn at_least(what: &str, value: f64, bound: f64, unit: &str) -> Check {
        Check::bounded(what, value, ("≥", bound), unit, value >= bound)
    }

    fn bounded(what: &str, value: f64, (sign, bound): (&str, f64), unit: &str, holds: bool) -> Check {
        let bound = Some(format!("{sign} {}{unit}", number(bound)));
        Check { what: what.to_owned(), figure: format!("{}{unit}", number(value)), bound, holds }
    }

    /// Requires `holds`; `figure` is the result.
    pub fn that(what: &str, figure: &str, bound: &str, holds: bool) -> Check {
        Check { what: what.to_owned(), figure: figure.to_owned(), bound: Some(bound.to_owned()), holds }
    }

    /// A figure without a bound.
    pub fn note(what: &str, value: f64, unit: &str) -> Check {
        Check { what: what.to_owned(), figure: format!("{}{unit}", number(value)), bound: None, holds: true }
    }
}

/// Formats a value with about three significant digits.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    // Drops trailing zeros after a decimal point.
    if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[derive(Clone, Debug)]
pub struct Row {
    pub case: &'static str,
    pub store: &'static str,
    /// The size of the case.
    pub size: String,
    pub checks: Vec<Check>,
}

impl Row {
    /// A case that panicked.
    pub fn failed(case: &'static str, store: &'static str) -> Row {
        let check = Check::that("the case", "failed", "can be measured", false);
        Row { case, store, size: "–".to_owned(), checks: vec![check] }
    }

    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// All figures, in bold where a bound does not hold.
    fn figures(&self) -> String {
        let one = |check: &Check| match check.holds {
            true => format!("{} {}", check.what, check.figure),
            false => format!("{} **{}**", check.what, check.figure),
        };
        self.checks.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    fn bounds(&self) -> String {
        let bounded = self.checks.iter().filter_map(|check| Some(format!("{} {}", check.what, check.bound.as_ref()?)));
        bounded.collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = if self.holds() { "holds" } else { "DOES NOT HOLD" };
        write!(f, "{}, {}, {}: {} ({}): {holds}", self.case, self.store, self.size, self.figures(), self.bounds())
    }
}

pub fn print(rows: &[Row]) {
    println!("\n| case | store | size | figures | bounds | |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        let holds = if row.holds() { "holds" } else { "**does not hold**" };
        println!("| {} | {} | {} | {} | {} | {holds} |", row.case, row.store, row.size, row.figures(), row.bounds());
    }
    println!();
}
