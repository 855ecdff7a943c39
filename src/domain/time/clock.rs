//! The process clock, which does not jump when the wall clock is set.
//!
//! * The **wall clock** is the system time. Administrators and NTP may set it at any moment, by a second or by a year.
//! * The **uptime** is the time since boot, including sleep. It cannot be set.
//! * **Sendoff's time** starts as the wall clock at process start, advances with the uptime and is slewed towards the
//!   wall clock.
//!
//! Retries, retention and failure streaks use Sendoff's time, so setting the wall clock neither fires nor delays a
//! retry, deletes data or disables an endpoint. Values that other machines check use the wall clock:
//! `webhook-timestamp`, a token's `exp` and `nbf`.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Time;

/// The slew rate: a tenth of elapsed time. A gap of an hour closes in ten, and slewing shifts a retry by at most a
/// tenth of its delay.
const SLEW_DIVISOR: i64 = 10;
/// The interval between readings of the wall clock.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

static STEADY: LazyLock<Mutex<SteadyClock>> = LazyLock::new(|| Mutex::new(SteadyClock::new(wall(), uptime())));

/// The process clock. All instances share one state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Sendoff's time. Never goes back.
    pub fn now(self) -> Time {
        STEADY.lock().unwrap_or_else(PoisonError::into_inner).read(wall(), uptime())
    }

    /// The wall clock, for values that other machines check.
    pub fn wall(self) -> Time {
        wall()
    }

    /// Wall clock minus Sendoff's time, in seconds.
    pub fn wall_offset(self) -> f64 {
        (wall().micros() - self.now().micros()) as f64 / 1e6
    }
}

fn wall() -> Time {
    Time::ZERO.plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(read.tv_sec.unsigned_abs(), read.tv_nsec.unsigned_abs() as u32)
}

/// On other systems the uptime may exclude sleep; the gap is then slewed as if the clock had been set.
#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// Sendoff's time at the last reading of the wall clock.
#[derive(Debug)]
pub struct SteadyClock {
    at: Time,
    uptime: Duration,
    /// Wall clock minus Sendoff's time, in microseconds.
    gap: i64,
}

impl SteadyClock {
    /// The state at process start.
    pub fn new(wall: Time, uptime: Duration) -> SteadyClock {
        SteadyClock { at: wall, uptime, gap: 0 }
    }

    /// Sendoff's time for these readings of the wall clock and the uptime.
    pub fn read(&mut self, wall: Time, uptime: Duration) -> Time {
        let passed = uptime.saturating_sub(self.uptime);
        let micros = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        let slew = self.gap.clamp(-micros / SLEW_DIVISOR, micros / SLEW_DIVISOR);
        let now = Time::from_micros(self.at.micros().saturating_add(micros).saturating_add(slew));
        if passed >= SAMPLE_INTERVAL {
            *self = SteadyClock { at: now, uptime, gap: wall.micros().saturating_sub(now.micros()) };
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const YEAR: i64 = 365 * 24 * HOUR;

    /// Simulates a machine whose wall clock jumps by `jump` after ten seconds, read every `every` for `span`. Yields
    /// the elapsed time and the reading.
    fn run(jump: i64, every: Duration, span: Duration, mut each: impl FnMut(Duration, Time)) {
        let start = Time::from_micros(1_763_800_000_000_000);
        let mut steady = SteadyClock::new(start, Duration::ZERO);
        let mut passed = Duration::ZERO;
        let mut before = start;
        while passed < span {
            passed += every;
            let set = if passed > Duration::from_secs(10) { jump } else { 0 };
            let wall = Time::from_micros(start.micros() + passed.as_micros() as i64 + set);
            let now = steady.read(wall, passed);
            assert!(now >= before, "never backward");
            before = now;
            each(passed, Time::from_micros(now.micros() - start.micros()));
        }
    }

    #[test]
    fn a_clock_that_is_set_moves_the_time_by_a_tenth_of_what_passes() {
        for jump in [HOUR, -HOUR, YEAR, -YEAR] {
            run(jump, Duration::from_millis(50), Duration::from_secs(120), |passed, now| {
                let off = now.micros().abs_diff(passed.as_micros() as i64);
                assert!(off <= passed.as_micros() as u64 / 10, "{jump}: {off} µs off after {passed:?}");
            });
        }
    }

    #[test]
    fn the_wall_clock_is_reached_in_the_end_and_followed() {
        for jump in [HOUR, -HOUR] {
            let mut last = 0;
            run(jump, Duration::from_secs(3), Duration::from_secs(11 * 3_600), |passed, now| {
                last = now.micros() - passed.as_micros() as i64 - jump;
            });
            assert!(last.abs() < 1_000, "{jump}: {last} µs off in the end");
        }
    }

    #[test]
    fn however_often_it_is_asked_it_gets_there() {
        // The readings are closer than a sampling interval, and too close for a tenth in whole microseconds.
        let mut last = 0;
        run(200_000, Duration::from_micros(700), Duration::from_secs(15), |passed, now| {
            last = now.micros() - passed.as_micros() as i64;
        });
        assert_eq!(last, 200_000);
    }

    #[test]
    fn the_clocks_of_a_process_agree() {
        let (one, other) = (Clock, Clock);
        let first = one.now();
        assert!(other.now() >= first && one.wall_offset().abs() < 60.0);
    }
}
