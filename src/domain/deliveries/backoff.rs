//! Retry backoff: the schedule, its jitter, and the effect of `Retry-After`.

use std::time::Duration;

use crate::domain::{Invalid, limits};

/// The longest wait, scheduled or requested by `Retry-After`.
pub const WAIT_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Jitter as a share of the wait: ±20 %.
const JITTER: f64 = 0.2;

/// The waits between attempts: the n-th wait follows the n-th failure. The last wait is followed by the last attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule(Vec<Duration>);

impl Default for RetrySchedule {
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
    fn default() -> RetrySchedule {
        RetrySchedule([5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400].map(Duration::from_secs).into())
    }
}

impl RetrySchedule {
    /// A schedule of `waits`; none means a single attempt.
    ///
    /// # Errors
    /// More than [`limits::RETRIES`] waits, or one longer than [`WAIT_LIMIT`].
    pub fn new(field: &str, waits: Vec<Duration>) -> Result<RetrySchedule, Invalid> {
        let most = limits::RETRIES;
        if waits.len() > most {
            return Err(Invalid::new(field, format!("may have at most {most} waits, got {}", waits.len())));
        }
        match waits.iter().find(|wait| **wait > WAIT_LIMIT) {
            Some(wait) => {
                let reason = format!("may wait at most {} s, got {} s", WAIT_LIMIT.as_secs(), wait.as_secs());
                Err(Invalid::new(field, reason))
            }
            None => Ok(RetrySchedule(waits)),
        }
    }

    /// The waits, in order.
    pub fn waits(&self) -> &[Duration] {
        &self.0
    }

    /// The wait after failure number `step` (from 0); `None` after the last attempt.
    ///
    /// `jitter` in 0..=1 maps to ±20 % of the wait. `retry_after` can only lengthen the wait, up to [`WAIT_LIMIT`].
    pub fn wait(&self, step: usize, jitter: f64, retry_after: Option<Duration>) -> Option<Duration> {
        let wait = self.0.get(step)?.mul_f64(1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0));
        Some(wait.max(retry_after.unwrap_or_default().min(WAIT_LIMIT)))
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::deliveries::backoff::*;

    #[test]
    fn the_default_schedule_makes_ten_attempts_over_three_days() {
        let schedule = RetrySchedule::default();
        let total: Duration = (0..).map_while(|step| schedule.wait(step, 0.5, None)).sum();
        assert_eq!(schedule.waits().len(), 9);
        assert_eq!(total, Duration::from_secs(5 + 300 + 1_800 + 3600 * (2 + 5 + 10 + 14 + 20 + 24)));
        assert_eq!(schedule.wait(9, 0.5, Some(Duration::from_secs(1))), None, "Retry-After adds no attempt");
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let schedule = RetrySchedule::new("retrySchedule", vec![Duration::from_secs(100)]).unwrap();
        let wait = |jitter| schedule.wait(0, jitter, None).unwrap().as_secs_f64();
        assert!(
            (wait(0.0) - 80.0).abs() < 1e-6 && (wait(1.0) - 120.0).abs() < 1e-6 && (wait(7.0) - 120.0).abs() < 1e-6
        );
    }

    #[test]
    fn retry_after_only_ever_lengthens_and_not_for_ever() {
        let schedule = RetrySchedule::new("retrySchedule", vec![Duration::from_secs(100)]).unwrap();
        let wait = |after| schedule.wait(0, 0.5, Some(after));
        assert_eq!(wait(Duration::from_secs(1)), Some(Duration::from_secs(100)));
        assert_eq!(wait(Duration::from_secs(300)), Some(Duration::from_secs(300)));
        assert_eq!(wait(Duration::MAX), Some(WAIT_LIMIT));
    }

    #[test]
    fn a_schedule_has_bounds() {
        assert!(RetrySchedule::new("f", vec![Duration::ZERO; 21]).is_err());
        assert!(RetrySchedule::new("f", vec![WAIT_LIMIT + Duration::from_secs(1)]).is_err());
        assert_eq!(RetrySchedule::new("f", vec![]).unwrap().wait(0, 0.5, None), None);
    }
}
