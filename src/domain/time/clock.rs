//! The clock: where the loops and the handlers get the time from.
//!
//! * The **wall clock** – what the machine says the time is. Anybody may set it, by a second or by a year, wrongly or at last rightly.
//! * The **uptime** – how long the machine has been up, its sleep included. Nobody sets it.
//! * **Sendoff's time** – the wall clock's at the process's first look, carried on by the uptime, and drawn to the wall clock slowly.
//!
//! Sendoff goes by its own time in all that it does: what is due, what is too old, who failed for days. So a wall clock that is set while it
//! runs fires no retry early, holds nothing up, deletes nothing and disables nobody. What others check by *their* clocks goes by the
//! wall clock: `webhook-timestamp`, a token's `exp` and `nbf`.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Time;

/// How fast Sendoff's time is drawn to the wall clock: by a tenth of what passes. An hour is made good in ten, and no retry comes more
/// than a tenth too early or too late for it.
const DRAWN: i64 = 10;
/// How often the wall clock is looked at.
const LOOK: Duration = Duration::from_secs(1);

static STEADY: LazyLock<Mutex<Steady>> = LazyLock::new(|| Mutex::new(Steady::new(wall(), uptime())));

/// Tells the time. Every one of a process tells the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Sendoff's time, now. Never earlier than it was.
    pub fn now(self) -> Time {
        STEADY.lock().unwrap_or_else(PoisonError::into_inner).read(wall(), uptime())
    }

    /// The wall clock, now: for what others check by theirs.
    pub fn wall(self) -> Time {
        wall()
    }

    /// How far the wall clock is ahead of Sendoff's time, in seconds; below zero: behind.
    pub fn gap(self) -> f64 {
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

/// Elsewhere the time that a machine sleeps may be made good slowly, like a clock that was set.
#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// Sendoff's time, as it was at the last look at the wall clock.
#[derive(Debug)]
pub struct Steady {
    at: Time,
    uptime: Duration,
    /// How far the wall clock was ahead, in microseconds.
    gap: i64,
}

impl Steady {
    /// That of a process that looks for the first time.
    pub fn new(wall: Time, uptime: Duration) -> Steady {
        Steady { at: wall, uptime, gap: 0 }
    }

    /// The time, when the wall clock says `wall` and the machine has been up for `uptime`.
    pub fn read(&mut self, wall: Time, uptime: Duration) -> Time {
        let passed = uptime.saturating_sub(self.uptime);
        let micros = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        let drawn = self.gap.clamp(-micros / DRAWN, micros / DRAWN);
        let now = Time::from_micros(self.at.micros().saturating_add(micros).saturating_add(drawn));
        if passed >= LOOK {
            *self = Steady { at: now, uptime, gap: wall.micros().saturating_sub(now.micros()) };
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const YEAR: i64 = 365 * 24 * HOUR;

    /// A machine whose wall clock is set by `jump` when it has run for ten seconds; read every `every` for `span`, each time with what
    /// has really passed.
    fn run(jump: i64, every: Duration, span: Duration, mut each: impl FnMut(Duration, Time)) {
        let start = Time::from_micros(1_763_800_000_000_000);
        let mut steady = Steady::new(start, Duration::ZERO);
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
        // Each reading passes less than a look, and even less than what a tenth can be taken of.
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
        assert!(other.now() >= first && one.gap().abs() < 60.0);
    }
}
