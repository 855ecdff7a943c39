//! The backlog throttle. A lane is **backlogged** while the store holds more deliveries for it than memory does. For
//! minutes it could send as fast as the machine allows, and low-traffic endpoints would queue behind it for CPU and
//! disk. So backlogged lanes share a rate limit that follows the latency of the others: the time from accepting a
//! delivery until its lane has it. Above one and a half times the usual latency the rate falls, otherwise it rises.
//! It never falls below the rate of the other lanes, and without other lanes there is no limit.
//!
//! This is delay-based congestion control, as in networks: start slowly, increase a little, decrease a lot.

use std::time::Duration;

/// Longer samples count as this: minutes say no more about congestion than a second does.
const LONGEST_SAMPLE: Duration = Duration::from_secs(1);
/// The rate changes after this time and this many samples,
const EPOCH: Duration = Duration::from_millis(50);
const SAMPLES: usize = 16;
/// More samples per epoch add no information.
const MOST_SAMPLES: usize = 4_096;
/// but at the latest after this time. Two epochs with fewer samples and nothing queued mean that no other lane is
/// active.
const LONGEST_EPOCH: Duration = Duration::from_secs(1);
/// The first and the lowest rate, in deliveries per second.
const FIRST: f64 = 1_000.0;
const LEAST: f64 = 100.0;
/// The factors of the rate: before the latency first rose, after it did, and while it is high.
const SOONER: f64 = 1.5;
const SOON: f64 = 1.05;
const LATER: f64 = 0.6;
/// Latency is high above this multiple of the usual one, plus `GRAIN`.
const NOTICED: f64 = 1.5;
const GRAIN: Duration = Duration::from_micros(100);
/// The usual latency changes by at most this share per epoch, so one disk stall does not shift it.
const DRIFT: f64 = 0.03;
/// Unused allowance is kept for this long. Timers are no finer than a fifth of it.
const SLACK: Duration = Duration::from_millis(5);

/// The shared rate limit of backlogged lanes.
#[derive(Debug)]
pub struct BacklogThrottle {
    /// In deliveries per second.
    pace: f64,
    /// Whether the latency has ever been high.
    noticed: bool,
    /// The last epoch had too few samples.
    few: bool,
    /// No other lane is active: there is no limit.
    alone: bool,
    /// Backlogged lanes sent something under the limit in the last epoch.
    paced: bool,
    /// When a backlogged lane may send next.
    next_at: Duration,
    /// The start of this epoch, its latency samples, and its deliveries to other and to backlogged lanes.
    began: Duration,
    took: Vec<Duration>,
    left: (u32, u32),
    /// The latency while backlogged lanes send no more than the others.
    usual: Option<Duration>,
}

impl BacklogThrottle {
    pub fn new() -> BacklogThrottle {
        BacklogThrottle {
            pace: FIRST,
            noticed: false,
            few: true,
            alone: true,
            paced: false,
            next_at: Duration::ZERO,
            began: Duration::ZERO,
            took: Vec::new(),
            left: (0, 0),
            usual: None,
        }
    }

    /// The limit in deliveries per second. `None`: unlimited.
    pub fn pace(&self) -> Option<f64> {
        self.paced.then_some(self.pace)
    }

    /// Adds the latency of a delivery to a lane without backlog.
    pub fn came(&mut self, took: Duration) {
        if self.took.len() < MOST_SAMPLES {
            self.took.push(took.min(LONGEST_SAMPLE));
        }
    }

    /// Until when backlogged lanes must wait. `None`: they may send now.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        (!self.alone && now < self.next_at).then_some(self.next_at)
    }

    /// Counts a delivery that starts.
    pub fn leaves(&mut self, behind: bool, now: Duration) {
        if !behind {
            self.left.0 += 1;
            return;
        }
        self.left.1 += 1;
        if !self.alone {
            self.next_at = self.next_at.max(now.saturating_sub(SLACK)) + Duration::from_secs_f64(1.0 / self.pace);
        }
    }

    /// Adjusts the rate at the end of an epoch. `others_wait`: something is queued for lanes without backlog.
    pub fn look(&mut self, now: Duration, others_wait: bool) {
        let lasted = now.saturating_sub(self.began);
        if lasted < EPOCH || (self.took.len() < SAMPLES && lasted < LONGEST_EPOCH) {
            return;
        }
        let [others, behind] = [self.left.0, self.left.1].map(|count| f64::from(count) / lasted.as_secs_f64());
        let few = self.took.len() < SAMPLES;
        // Samples are rare on an overloaded machine too, which is no reason to send more.
        self.alone = few && !others_wait && (self.alone || self.few);
        self.few = few;
        self.paced = !self.alone && behind > 0.0;
        if self.alone || behind == 0.0 {
            (self.pace, self.noticed) = (FIRST, false);
        }
        if few && others_wait {
            self.noticed = true;
            self.pace = (self.pace.min(behind) * LATER).max(others).max(LEAST);
        }
        if !few {
            let least = others.max(LEAST);
            let present = median(&mut self.took);
            // The limit is met to within a few percent.
            let usual = self.learn(present, behind <= least * 1.1);
            self.pace = match usual {
                // Unknown usual latency: slow down and learn it.
                None => least,
                Some(usual) if present > usual.mul_f64(NOTICED) + GRAIN => {
                    self.noticed = true;
                    (self.pace.min(behind) * LATER).max(least)
                }
                Some(_) => {
                    let more = self.pace * if self.noticed { SOON } else { SOONER };
                    // An unused limit proves nothing.
                    more.min((behind * 2.0).max(FIRST)).max(least)
                }
            };
        }
        self.began = now;
        self.took.clear();
        self.left = (0, 0);
    }

    /// Updates the usual latency while backlogged lanes cannot affect it, and whenever the current one is better.
    fn learn(&mut self, present: Duration, in_nobodys_way: bool) -> Option<Duration> {
        let usual = self.usual.unwrap_or(present);
        if in_nobodys_way || (self.usual.is_some() && present < usual) {
            let near = present.clamp(usual.mul_f64(1.0 - DRIFT), usual.mul_f64(1.0 + DRIFT));
            self.usual = Some(near.max(GRAIN));
        }
        self.usual
    }
}

fn median(took: &mut [Duration]) -> Duration {
    let middle = took.len() / 2;
    *took.select_nth_unstable(middle).1
}

#[cfg(test)]
mod tests;
