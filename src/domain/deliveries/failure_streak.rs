//! Warnings about endpoints that only fail, and disabling them.
//!
//! A **failure streak** begins with the first failure after the last successful delivery (or after the endpoint was
//! enabled). It ends with the **newest failure**, not now: an idle endpoint's failure streak does not grow.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// The lengths of a streak that trigger the first and second warning. A warning not due before the endpoint is disabled
/// is skipped.
pub const WARNINGS: [Duration; 2] = [DAY, DAY.saturating_mul(3)];

/// The action a streak triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreakAction {
    /// The warning with this number, from 1.
    Warn(i16),
    Disable,
}

/// The action due for a streak of length `lasted` after `warned` warnings. Warnings that were missed are skipped, not
/// repeated.
pub fn action_due(lasted: Duration, warned: i16, disable_after: Duration) -> Option<StreakAction> {
    if lasted >= disable_after {
        return Some(StreakAction::Disable);
    }
    let reached = WARNINGS.iter().filter(|after| **after < disable_after && **after <= lasted).count() as i16;
    (reached > warned).then_some(StreakAction::Warn(reached))
}

/// The length of a streak at which the next action is due after `warned` warnings.
pub fn next_threshold(warned: i16, disable_after: Duration) -> Duration {
    let warning = usize::try_from(warned).ok().and_then(|warned| WARNINGS.get(warned));
    warning.copied().unwrap_or(disable_after).min(disable_after)
}

#[cfg(test)]
mod tests {
    use crate::domain::deliveries::failure_streak::*;

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3_600)
    }

    #[test]
    fn each_warning_comes_once_and_then_the_end() {
        let five = hours(120);
        let (mut warned, mut seen) = (0, Vec::new());
        for hour in 0..=120 {
            match action_due(hours(hour), warned, five) {
                Some(StreakAction::Warn(number)) => {
                    seen.push((hour, number));
                    warned = number;
                }
                Some(StreakAction::Disable) => seen.push((hour, 0)),
                None => {}
            }
        }
        assert_eq!(seen, [(24, 1), (72, 2), (120, 0)]);
    }

    #[test]
    fn a_warning_that_would_come_too_late_is_left_out() {
        for (days, first, second) in [(5, 1, 3), (3, 1, 3), (2, 1, 2), (1, 1, 1), (30, 1, 3)] {
            let (after, day) = (hours(days * 24), |days: u64| hours(days * 24));
            assert_eq!(
                (next_threshold(0, after), next_threshold(1, after), next_threshold(2, after)),
                (day(first), day(second), after),
                "{days} d"
            );
            assert_eq!(action_due(after, 0, after), Some(StreakAction::Disable));
        }
        assert_eq!(action_due(hours(25), 0, hours(24)), Some(StreakAction::Disable));
        assert_eq!(action_due(hours(71), 1, hours(72)), None);
    }

    #[test]
    fn missed_warnings_are_skipped() {
        assert_eq!(action_due(hours(80), 0, hours(120)), Some(StreakAction::Warn(2)));
        assert_eq!(action_due(hours(80), 2, hours(120)), None);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        for disable_after in [hours(1), hours(30), hours(72), hours(120), hours(9_000)] {
            for warned in 0..=2 {
                let next = next_threshold(warned, disable_after);
                assert_eq!(action_due(next - Duration::from_micros(1), warned, disable_after), None);
                assert!(action_due(next, warned, disable_after).is_some(), "{warned}, {disable_after:?}");
            }
        }
    }
}
