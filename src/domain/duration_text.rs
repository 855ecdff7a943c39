//! Durations as text: a whole number and a unit, e.g. `250ms`, `5s`, `30m`, `2h`, `7d`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// The rest of a sentence that begins with the text, e.g. "has no unit …".
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("is not a duration".to_owned());
    }
    if unit.is_empty() {
        return Err("has no unit (ms, s, m, h, d)".to_owned());
    }
    let found = UNITS.iter().find(|(name, _)| *name == unit);
    let (_, millis) = found.ok_or_else(|| "has an unknown unit (known: ms, s, m, h, d)".to_owned())?;
    let number: u64 = number.parse().map_err(|_| "is too long".to_owned())?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(|| "is too long".to_owned())
}

/// Formats a duration for [`parse`], in the largest unit that divides it. Fractions of a millisecond are dropped.
pub fn format(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let unit = UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    unit.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatted_durations_are_parsed() {
        for text in ["0s", "250ms", "1500ms", "5s", "90s", "30m", "2h", "7d", "25h"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(format(Duration::from_secs(3_600)), "1h");
        for bad in ["", "5", "s", "5 s", "5x", "-5s", "99999999999999999999s", "9999999999999999d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
