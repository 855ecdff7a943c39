//! The schedule of the [maintenance](super::maintenance) tasks, without I/O: the task due longest runs next, and each
//! failing task has a backoff of its own.

use std::time::Duration;

use tokio::time::Instant;

use super::maintenance::MaintenanceKind;
use crate::domain::retry_backoff::wait_after;

/// The first and the longest wait after failures. A longer interval of the task is the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The next run of each task.
#[derive(Debug)]
pub struct MaintenanceSchedule {
    due: [ScheduleEntry; MaintenanceKind::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct ScheduleEntry {
    task: MaintenanceKind,
    at: Instant,
    /// The number of failures in a row.
    failures: u32,
}

impl MaintenanceSchedule {
    /// A schedule in which every task is due `now`.
    pub fn new(now: Instant) -> MaintenanceSchedule {
        MaintenanceSchedule { due: MaintenanceKind::ALL.map(|task| ScheduleEntry { task, at: now, failures: 0 }) }
    }

    /// The task to run: the one due longest.
    pub fn next(&self, now: Instant) -> Option<MaintenanceKind> {
        let due = self.due.iter().filter(|entry| entry.at <= now);
        due.min_by_key(|entry| entry.at).map(|entry| entry.task)
    }

    /// The time until a task is due.
    pub fn idle(&self, now: Instant) -> Duration {
        let next = self.due.iter().map(|entry| entry.at).min();
        next.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// `task` succeeded and is due again at `next`. Returns `true` if it had failed before.
    pub fn succeeded(&mut self, task: MaintenanceKind, next: Instant) -> bool {
        let entry = self.entry(task);
        entry.at = next;
        std::mem::take(&mut entry.failures) > 0
    }

    /// `task` failed. The backoff doubles with each failure in a row. Returns `true` for the first one.
    pub fn failed(&mut self, task: MaintenanceKind, interval: Duration, now: Instant) -> bool {
        let entry = self.entry(task);
        entry.failures = entry.failures.saturating_add(1);
        entry.at = now + wait_after(entry.failures, BACKOFF.0, BACKOFF.1.max(interval));
        entry.failures == 1
    }

    fn entry(&mut self, task: MaintenanceKind) -> &mut ScheduleEntry {
        // `due` is in the order of `MaintenanceKind::ALL`.
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
    fn every_kind_has_its_own_entry_and_name() {
        let mut names: Vec<&str> = MaintenanceKind::ALL.map(MaintenanceKind::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MaintenanceKind::ALL.len());
        let mut schedule = MaintenanceSchedule::new(Instant::now());
        assert!(MaintenanceKind::ALL.iter().all(|task| schedule.entry(*task).task == *task));
    }

    #[test]
    fn a_failing_kind_delays_no_other() {
        let maintenance =
            Maintenance { retention: DAY, deleted_retention: DAY, disable_after: DAY, consumer_silent_after: DAY };
        let start = Instant::now();
        let (mut schedule, mut turns) = (MaintenanceSchedule::new(start), vec![0; MaintenanceKind::ALL.len()]);
        for second in 0..120 {
            let now = start + SECOND * second;
            while let Some(task) = schedule.next(now) {
                turns[task as usize] += 1;
                let interval = task.interval(&maintenance);
                match task {
                    MaintenanceKind::Retention => drop(schedule.failed(task, interval, now)),
                    _ => drop(schedule.succeeded(task, now + interval)),
                }
            }
        }
        // At 0, 1, 3, 7, 15, 31, 61 and 91 s.
        assert_eq!(turns[MaintenanceKind::Retention as usize], 8, "{turns:?}");
        assert_eq!(turns[MaintenanceKind::EndDeleted as usize], 120, "{turns:?}");
        assert_eq!(
            (turns[MaintenanceKind::Contents as usize], turns[MaintenanceKind::Audit as usize]),
            (24, 2),
            "{turns:?}"
        );
    }

    #[test]
    fn a_kind_with_more_to_do_lets_the_others_go_first() {
        let (start, first) = (Instant::now(), MaintenanceKind::ALL[0]);
        let mut schedule = MaintenanceSchedule::new(start);
        let now = start + SECOND;
        assert_eq!(schedule.next(now), Some(first));
        assert!(!schedule.succeeded(first, now));
        let order: Vec<MaintenanceKind> = (0..MaintenanceKind::ALL.len())
            .map(|_| {
                let task = schedule.next(now).unwrap();
                schedule.succeeded(task, now + SECOND);
                task
            })
            .collect();
        assert_eq!(order[MaintenanceKind::ALL.len() - 1], first);
        assert_eq!((schedule.next(now), schedule.idle(now)), (None, SECOND));
    }

    #[test]
    fn the_first_failure_and_the_recovery_are_reported() {
        let now = Instant::now();
        let mut schedule = MaintenanceSchedule::new(now);
        assert!(
            schedule.failed(MaintenanceKind::Audit, SECOND, now)
                && !schedule.failed(MaintenanceKind::Audit, SECOND, now)
        );
        assert!(schedule.succeeded(MaintenanceKind::Audit, now) && !schedule.succeeded(MaintenanceKind::Audit, now));
    }
}
