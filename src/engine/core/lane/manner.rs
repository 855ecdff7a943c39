//! How an endpoint behaves: whether it answers, or keeps us waiting.

use std::time::Duration;

use super::{Lane, QUEUE, Reach};
use crate::domain::Time;

/// How many deliveries of each kind wait in memory for a silent endpoint: it will not need more soon.
const SILENT_QUEUE: usize = 8;
/// Who has not answered for so long, while something is in flight, is silent.
const PATIENCE: Duration = Duration::from_millis(500);
/// Who has answered within this time is trusted to do so again.
const TRUST: Duration = Duration::from_secs(60);
/// The finest step of time: trust lasts up to its end, and no longer.
const GRAIN: Duration = Duration::from_nanos(1);

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It has answered lately, whatever it said.
    Answers,
    Unknown,
    /// It keeps us waiting.
    Silent,
}

impl Lane {
    /// How many of each kind wait in memory at most.
    pub(super) fn most_queued(&self) -> usize {
        if self.manner == Manner::Silent { SILENT_QUEUE } else { QUEUE }
    }

    /// How its endpoint behaves at `now`. It is silent when nothing that is in flight was answered for a while, or the last attempt was not.
    pub fn manner(&self, now: Duration) -> Manner {
        let since = self.heard.map_or(self.busy_since, |heard| heard.max(self.busy_since));
        match self.heard {
            _ if self.pace.unreachable() => Manner::Silent,
            _ if self.in_flight > 0 && now.saturating_sub(since) >= PATIENCE => Manner::Silent,
            Some(heard) if now.saturating_sub(heard) <= TRUST => Manner::Answers,
            _ => Manner::Unknown,
        }
    }

    /// When the mere passing of time changes something of it next: how it behaves, or that it counts as behind. `None`: nothing, before
    /// an event does. It may have passed already.
    pub fn next_change(&self) -> Option<Duration> {
        let since = self.heard.map_or(self.busy_since, |heard| heard.max(self.busy_since));
        // A silent endpoint stays so until an attempt ends.
        let patience = (self.in_flight > 0 && self.manner != Manner::Silent).then(|| since + PATIENCE);
        let trust = self.heard.filter(|_| self.manner == Manner::Answers).map(|heard| heard + TRUST + GRAIN);
        let behind = self.behind_until.filter(|until| *until != Duration::MAX);
        [patience, trust, behind].into_iter().flatten().min()
    }

    /// Forgets what is queued beyond what a silent one needs: it waits in the store. Gives back how many payload bytes that frees.
    pub fn trim(&mut self) -> usize {
        let (mut bytes, before) = (0, self.held.len());
        for queue in [&mut self.fresh, &mut self.retries] {
            for work in queue.drain(SILENT_QUEUE.min(queue.len())..) {
                bytes += work.message.size();
                self.held.remove(&work.message.id);
            }
        }
        // A payload may be of no bytes at all.
        if self.held.len() < before {
            self.reach = Reach::Unread;
            self.look(Time::ZERO);
        }
        bytes
    }
}
