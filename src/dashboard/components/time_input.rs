//! Times as people type them.

use std::time::Duration;

use crate::domain::Time;

/// Parses RFC 3339; `2026-11-22` and `2026-11-22 09:30`, with optional seconds, in UTC; or `30m`, `2h`, `7d` before
/// `now`.
pub fn parse_time(text: &str, now: Time) -> Option<Time> {
    let text = text.trim();
    if let Some((number, unit)) = text.split_at_checked(text.len().saturating_sub(1))
        && let Ok(number) = number.parse::<u32>()
    {
        let seconds = match unit {
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => 0,
        };
        if seconds > 0 {
            return Some(now.minus(Duration::from_secs(u64::from(number) * seconds)));
        }
    }
    if let Ok(time) = Time::parse(text) {
        return Some(time);
    }
    let (day, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let clock = clock.trim();
    let seconds = if clock.matches(':').count() == 1 { ":00" } else { "" };
    Time::parse(&format!("{day}T{clock}{seconds}Z")).ok()
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::time_input::*;

    #[test]
    fn parses_typed_times() {
        let now = Time::parse("2026-11-22T14:30:00Z").unwrap();
        for (text, wanted) in [
            ("2026-11-22T09:30:00Z", "2026-11-22T09:30:00Z"),
            ("2026-11-22T09:30:00+01:00", "2026-11-22T08:30:00Z"),
            (" 2026-11-22 09:30 ", "2026-11-22T09:30:00Z"),
            ("2026-11-22T09:30:05", "2026-11-22T09:30:05Z"),
            ("2026-11-22T09:30", "2026-11-22T09:30:00Z"),
            ("2026-11-22", "2026-11-22T00:00:00Z"),
            ("90m", "2026-11-22T13:00:00Z"),
            ("2h", "2026-11-22T12:30:00Z"),
            ("7d", "2026-11-15T14:30:00Z"),
        ] {
            assert_eq!(parse_time(text, now), Some(Time::parse(wanted).unwrap()), "{text}");
        }
        for odd in ["", "yesterday", "h", "-2h", "2w", "22.11.2026", "2026-13-01", "ü", "99999999999d"] {
            assert_eq!(parse_time(odd, now), None, "{odd}");
        }
    }
}
