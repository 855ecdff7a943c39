//! The backlog throttle. A lane is **backlogged** while the store holds more deliveries for it than memory does.
//! Without a limit it would send for minutes as fast as the machine allows, and low-traffic endpoints would queue
//! behind it for CPU and disk. Backlogged lanes therefore share a rate limit that follows the latency of the other
//! lanes. Latency is the time from accepting a delivery until it is in its lane. Above one and a half times the usual
//! latency the rate falls, otherwise it rises. It never falls below the rate of the other lanes, and without other
//! lanes there is no limit.
//!
//! This is delay-based congestion control, as in networks: start slowly, increase a little, decrease a lot.

use std::time::Duration;

/// Longer samples are clamped to this: a latency of minutes shows no more congestion than one of a second.
const MAX_SAMPLE: Duration = Duration::from_secs(1);
/// An epoch lasts at least this long, and until it has `MIN_SAMPLES` samples, but at most `MAX_EPOCH`.
const EPOCH: Duration = Duration::from_millis(50);
const MIN_SAMPLES: usize = 16;
/// More samples per epoch add no information.
const MAX_SAMPLES: usize = 4_096;
/// The longest epoch. Two such epochs with fewer than `MIN_SAMPLES` samples and nothing queued mean that no other lane
/// is active.
const MAX_EPOCH: Duration = Duration::from_secs(1);
/// The first and the lowest rate, in deliveries per second.
const INITIAL_RATE: f64 = 1_000.0;
const MIN_RATE: f64 = 100.0;
/// The factors of the rate: before the latency first rose, after it did, and while it is high.
const FAST_INCREASE: f64 = 1.5;
const SLOW_INCREASE: f64 = 1.05;
const DECREASE: f64 = 0.6;
/// Latency is high above this multiple of the usual one, plus `MIN_LATENCY`.
const HIGH_LATENCY: f64 = 1.5;
const MIN_LATENCY: Duration = Duration::from_micros(100);
/// The usual latency changes by at most this share per epoch, so one disk stall does not shift it.
const MAX_DRIFT: f64 = 0.03;
/// Unused allowance is kept for this long. Timers are no finer than a fifth of it.
const SLACK: Duration = Duration::from_millis(5);

/// The shared rate limit of backlogged lanes.
#[derive(Debug)]
pub struct BacklogThrottle {
    /// In deliveries per second.
    rate: f64,
    /// Whether the latency has been high since the limit began.
    latency_rose: bool,
    /// The last epoch had too few samples.
    few_samples: bool,
    /// No other lane is active: there is no limit.
    unlimited: bool,
    /// Backlogged lanes sent something under the limit in the last epoch.
    limited: bool,
    /// The time at which a backlogged lane may send next.
    next_at: Duration,
    /// The start of this epoch, its latency samples, and its deliveries to other and to backlogged lanes.
    began: Duration,
    samples: Vec<Duration>,
    sent: (u32, u32),
    /// The latency while backlogged lanes send no more than the others.
    usual_latency: Option<Duration>,
}

impl BacklogThrottle {
    pub fn new() -> BacklogThrottle {
        BacklogThrottle {
            rate: INITIAL_RATE,
            latency_rose: false,
            few_samples: true,
            unlimited: true,
            limited: false,
            next_at: Duration::ZERO,
            began: Duration::ZERO,
            samples: Vec::new(),
            sent: (0, 0),
            usual_latency: None,
        }
    }

    /// The limit in deliveries per second. `None`: unlimited.
    pub fn rate(&self) -> Option<f64> {
        self.limited.then_some(self.rate)
    }

    /// Adds the latency of a delivery to a lane without backlog.
    pub fn sample(&mut self, took: Duration) {
        if self.samples.len() < MAX_SAMPLES {
            self.samples.push(took.min(MAX_SAMPLE));
        }
    }

    /// The time until which backlogged lanes must wait. `None`: they may send now.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        (!self.unlimited && now < self.next_at).then_some(self.next_at)
    }

    /// Counts a delivery that starts.
    pub fn count_send(&mut self, behind: bool, now: Duration) {
        if !behind {
            self.sent.0 += 1;
            return;
        }
        self.sent.1 += 1;
        if !self.unlimited {
            self.next_at = self.next_at.max(now.saturating_sub(SLACK)) + Duration::from_secs_f64(1.0 / self.rate);
        }
    }

    /// Adjusts the rate at the end of an epoch. `others_wait`: something is queued for lanes without backlog.
    pub fn update(&mut self, now: Duration, others_wait: bool) {
        let lasted = now.saturating_sub(self.began);
        if lasted < EPOCH || (self.samples.len() < MIN_SAMPLES && lasted < MAX_EPOCH) {
            return;
        }
        let [others, behind] = [self.sent.0, self.sent.1].map(|count| f64::from(count) / lasted.as_secs_f64());
        let few_samples = self.samples.len() < MIN_SAMPLES;
        // Samples are rare on an overloaded machine too, which is no reason to send more.
        self.unlimited = few_samples && !others_wait && (self.unlimited || self.few_samples);
        self.few_samples = few_samples;
        self.limited = !self.unlimited && behind > 0.0;
        if self.unlimited || behind == 0.0 {
            (self.rate, self.latency_rose) = (INITIAL_RATE, false);
        }
        if few_samples && others_wait {
            self.latency_rose = true;
            self.rate = (self.rate.min(behind) * DECREASE).max(others).max(MIN_RATE);
        }
        if !few_samples {
            let least = others.max(MIN_RATE);
            let present = median(&mut self.samples);
            // The actual rate deviates from the limit by a few percent.
            let usual_latency = self.learn(present, behind <= least * 1.1);
            self.rate = match usual_latency {
                // Unknown usual latency: slow down and learn it.
                None => least,
                Some(usual_latency) if present > usual_latency.mul_f64(HIGH_LATENCY) + MIN_LATENCY => {
                    self.latency_rose = true;
                    (self.rate.min(behind) * DECREASE).max(least)
                }
                Some(_) => {
                    let more = self.rate * if self.latency_rose { SLOW_INCREASE } else { FAST_INCREASE };
                    // A limit that is not reached says nothing about the machine, so it does not grow far beyond the
                    // actual rate.
                    more.min((behind * 2.0).max(INITIAL_RATE)).max(least)
                }
            };
        }
        self.began = now;
        self.samples.clear();
        self.sent = (0, 0);
    }

    /// Updates the usual latency while backlogged lanes cannot affect it, and whenever the current one is better.
    fn learn(&mut self, present: Duration, unaffected: bool) -> Option<Duration> {
        let usual_latency = self.usual_latency.unwrap_or(present);
        if unaffected || (self.usual_latency.is_some() && present < usual_latency) {
            let near = present.clamp(usual_latency.mul_f64(1.0 - MAX_DRIFT), usual_latency.mul_f64(1.0 + MAX_DRIFT));
            self.usual_latency = Some(near.max(MIN_LATENCY));
        }
        self.usual_latency
    }
}

fn median(took: &mut [Duration]) -> Duration {
    let middle = took.len() / 2;
    *took.select_nth_unstable(middle).1
}

#[cfg(test)]
mod tests;
