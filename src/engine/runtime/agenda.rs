//! The schedule of the [maintenance](super::maintenance) tasks, without I/O: the task due longest runs next, and each
//! failing task has a backoff of its own.

use std::time::Duration;

use tokio::time::Instant;

use super::maintenance::Upkeep;

/// The longest backoff after failures, unless the task's interval is longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// When each task runs next.
#[derive(Debug)]
pub struct Agenda {
    due: [Entry; Upkeep::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    task: Upkeep,
    at: Instant,
    /// The number of failures in a row.
    failures: u32,
}

impl Agenda {
    /// A schedule in which every task is due `now`.
    pub fn new(now: Instant) -> Agenda {
        Agenda { due: Upkeep::ALL.map(|task| Entry { task, at: now, failures: 0 }) }
    }

    /// The task to run: the one due longest.
    pub fn next(&self, now: Instant) -> Option<Upkeep> {
        let due = self.due.iter().filter(|entry| entry.at <= now);
        due.min_by_key(|entry| entry.at).map(|entry| entry.task)
    }

    /// How long until a task is due.
    pub fn idle(&self, now: Instant) -> Duration {
        let next = self.due.iter().map(|entry| entry.at).min();
        next.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// `task` succeeded and is due again at `next`. Returns `true` if it had failed before.
    pub fn succeeded(&mut self, task: Upkeep, next: Instant) -> bool {
        let entry = self.entry(task);
        entry.at = next;
        std::mem::take(&mut entry.failures) > 0
    }

    /// `task` failed. The backoff doubles with each failure in a row. Returns `true` for the first one.
    pub fn failed(&mut self, task: Upkeep, interval: Duration, now: Instant) -> bool {
        let entry = self.entry(task);
        let wait = Duration::from_secs(1) * 2u32.saturating_pow(entry.failures.min(16));
        entry.at = now + wait.min(LONGEST_BACKOFF.max(interval));
        entry.failures += 1;
        entry.failures == 1
    }

    fn entry(&mut self, task: Upkeep) -> &mut Entry {
        // `due` is in the order of `Upkeep::ALL`.
        &mut self.due[task as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::runtime::maintenance::Maintenance;

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn every_task_has_its_own_entry_and_name() {
        let mut names: Vec<&str> = Upkeep::ALL.map(Upkeep::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Upkeep::ALL.len());
        let mut agenda = Agenda::new(Instant::now());
        assert!(Upkeep::ALL.iter().all(|task| agenda.entry(*task).task == *task));
    }

    #[test]
    fn a_failing_task_delays_no_other() {
        let maintenance = Maintenance { retention: DAY, deleted_retention: DAY, disable_after: DAY };
        let start = Instant::now();
        let (mut agenda, mut turns) = (Agenda::new(start), vec![0; Upkeep::ALL.len()]);
        for second in 0..120 {
            let now = start + SECOND * second;
            while let Some(task) = agenda.next(now) {
                turns[task as usize] += 1;
                let interval = task.interval(&maintenance);
                match task {
                    Upkeep::Retention => drop(agenda.failed(task, interval, now)),
                    _ => drop(agenda.succeeded(task, now + interval)),
                }
            }
        }
        // At 0, 1, 3, 7, 15, 31, 61 and 91 s.
        assert_eq!(turns[Upkeep::Retention as usize], 8, "{turns:?}");
        assert_eq!(turns[Upkeep::EndDeleted as usize], 120, "{turns:?}");
        assert_eq!((turns[Upkeep::Contents as usize], turns[Upkeep::Audit as usize]), (24, 2), "{turns:?}");
    }

    #[test]
    fn a_task_with_more_to_do_lets_the_others_go_first() {
        let (start, first) = (Instant::now(), Upkeep::ALL[0]);
        let mut agenda = Agenda::new(start);
        let now = start + SECOND;
        assert_eq!(agenda.next(now), Some(first));
        assert!(!agenda.succeeded(first, now));
        let order: Vec<Upkeep> = (0..Upkeep::ALL.len())
            .map(|_| {
                let task = agenda.next(now).unwrap();
                agenda.succeeded(task, now + SECOND);
                task
            })
            .collect();
        assert_eq!(order[Upkeep::ALL.len() - 1], first);
        assert_eq!((agenda.next(now), agenda.idle(now)), (None, SECOND));
    }

    #[test]
    fn the_first_failure_and_the_recovery_are_reported() {
        let now = Instant::now();
        let mut agenda = Agenda::new(now);
        assert!(agenda.failed(Upkeep::Audit, SECOND, now) && !agenda.failed(Upkeep::Audit, SECOND, now));
        assert!(agenda.succeeded(Upkeep::Audit, now) && !agenda.succeeded(Upkeep::Audit, now));
    }
}
