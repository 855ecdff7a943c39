//! The backlog throttle. A lane for which more waits in the store than in memory is **behind**: it could send as fast as the machine goes, for minutes,
//! and whoever is sent something now and then would wait each time for the processor, the disk and the store. So those that are behind
//! keep to a pace, together, that follows how the others fare: how long it takes from the acceptance of a delivery until its lane has it,
//! for lanes that keep up. While that is more than half as much again as usual, those behind send less; else they send more. They never
//! send less than the others do, and where there are no others they send as they can.
//!
//! It is what networks do against congestion, by delay: slow to begin with, up by a small share, down by a large one.

use std::time::Duration;

/// What took longer counts as this: one that took minutes says no more about congestion than one that took a second.
const LONGEST_SAMPLE: Duration = Duration::from_secs(1);
/// For how long, and for how many deliveries, others are watched before the pace is changed:
const EPOCH: Duration = Duration::from_millis(50);
const SAMPLES: usize = 16;
/// More of them say nothing new.
const MOST_SAMPLES: usize = 4_096;
/// but not for longer than this. If there were fewer twice in a row, and nothing of others waits, there are no others to speak of.
const LONGEST_EPOCH: Duration = Duration::from_secs(1);
/// The pace to begin with, and the least one, in deliveries a second.
const FIRST: f64 = 1_000.0;
const LEAST: f64 = 100.0;
/// What it is multiplied by where the others do not notice (before they ever did, and since), and where they do.
const SOONER: f64 = 1.5;
const SOON: f64 = 1.05;
const LATER: f64 = 0.6;
/// What others notice: so many times what is usual, and more than this.
const NOTICED: f64 = 1.5;
const GRAIN: Duration = Duration::from_micros(100);
/// What is usual changes by so large a part of itself in an epoch: a disk that stalls once is not usual.
const DRIFT: f64 = 0.03;
/// What was not made use of may be made good within so long. Timers are no finer than a fifth of it.
const SLACK: Duration = Duration::from_millis(5);

/// The pace of those that are behind, and what it is made from.
#[derive(Debug)]
pub struct BacklogThrottle {
    /// In deliveries a second.
    pace: f64,
    /// Whether others have noticed, since there were some.
    noticed: bool,
    /// There were too few samples in the last epoch.
    few: bool,
    /// There are no others: the pace does not count.
    alone: bool,
    /// Something left for those behind in the last epoch, at this pace.
    paced: bool,
    /// When somebody who is behind may send next.
    next_at: Duration,
    /// When this epoch began, how long deliveries to those that keep up took in it, and how many left: for those, and for those behind.
    began: Duration,
    took: Vec<Duration>,
    left: (u32, u32),
    /// How long they take where those behind send no more than the others do.
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

    /// How many a second may leave for those behind; `None`: as many as can.
    pub fn pace(&self) -> Option<f64> {
        self.paced.then_some(self.pace)
    }

    /// A delivery to an endpoint that keeps up took so long to come here.
    pub fn came(&mut self, took: Duration) {
        if self.took.len() < MOST_SAMPLES {
            self.took.push(took.min(LONGEST_SAMPLE));
        }
    }

    /// Until when nothing may leave for those behind; `None`: it may now.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        (!self.alone && now < self.next_at).then_some(self.next_at)
    }

    /// Something leaves, for somebody who is `behind` or not.
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

    /// Sets the pace anew, if it is time to. `others_wait`: something waits to be sent to endpoints that keep up.
    pub fn look(&mut self, now: Duration, others_wait: bool) {
        let lasted = now.saturating_sub(self.began);
        if lasted < EPOCH || (self.took.len() < SAMPLES && lasted < LONGEST_EPOCH) {
            return;
        }
        let [others, behind] = [self.left.0, self.left.1].map(|count| f64::from(count) / lasted.as_secs_f64());
        let few = self.took.len() < SAMPLES;
        // Samples also become rare where the machine is overloaded. That is no reason to send more.
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
            // A pace is kept to within some per cent.
            let usual = self.learn(present, behind <= least * 1.1);
            self.pace = match usual {
                // Those behind were here first. This is how to find out.
                None => least,
                Some(usual) if present > usual.mul_f64(NOTICED) + GRAIN => {
                    self.noticed = true;
                    (self.pace.min(behind) * LATER).max(least)
                }
                Some(_) => {
                    let more = self.pace * if self.noticed { SOON } else { SOONER };
                    // What is not made use of says nothing.
                    more.min((behind * 2.0).max(FIRST)).max(least)
                }
            };
        }
        self.began = now;
        self.took.clear();
        self.left = (0, 0);
    }

    /// What is usual, as far as it is known: learned while those behind are in nobody's way, and from whatever is better than that.
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
