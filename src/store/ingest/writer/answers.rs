//! After the commit: signals to the engine and feed readers first, then the answers to the callers.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::batch::BatchResult;
use super::queue::{Write, writer_stopped};
use super::transaction::StoredBatch;
use crate::store::Inner;
use crate::store::ingest::accept::{AcceptedBatch, ItemOutcome};
use crate::store::ingest::outbox::RelayReport;
use crate::store::queue::signals::{Admission, Signal};
use crate::store::recording::operational;

impl StoredBatch {
    /// Signals and answers a committed batch. Returns the writes that were not stored.
    pub(super) fn answer(self, inner: &Inner, batch: Vec<Write>) -> BatchResult {
        let (mut outcomes, mut admissions) = (Vec::new().into_iter(), Vec::new());
        if let Some(accepted) = self.accepted {
            publish_accepted(inner, &accepted);
            (outcomes, admissions) = (accepted.outcomes.into_iter(), accepted.admissions);
        }
        let mut reports: Vec<RelayReport> = Vec::with_capacity(self.relayed.len());
        for (report, relayed, apps) in self.relayed {
            inner.wakeups.wake(apps);
            metrics::counter!("sendoff_accepted_total", "way" => "outbox").increment(report.accepted as u64);
            admissions.extend(relayed);
            reports.push(report);
        }
        signal(inner, admissions);
        operational::signal_emitted(inner, self.emitted);

        let (mut recorded, mut reports) = (self.recorded.into_iter(), reports.into_iter());
        let mut result = BatchResult::default();
        for write in batch {
            match write {
                Write::Accept(item, answer) => match outcomes.next() {
                    Some(ItemOutcome::Decided(decided)) => drop(answer.send(Ok(decided))),
                    Some(ItemOutcome::NotLoaded(app)) => result.not_loaded.push((app, Write::Accept(item, answer))),
                    None => result.left.push(Write::Accept(item, answer)),
                },
                Write::Record(_, answer) => drop(answer.send(recorded.next().ok_or_else(writer_stopped))),
                Write::Relay(_, answer) => drop(answer.send(reports.next().ok_or_else(writer_stopped))),
            }
        }
        result
    }
}

fn publish_accepted(inner: &Inner, accepted: &AcceptedBatch) {
    inner.wakeups.wake(accepted.apps());
    if accepted.packed {
        inner.packed.store(true, Ordering::Release);
    }
    let is_accepted = |outcome: &&ItemOutcome| matches!(outcome, ItemOutcome::Decided(Ok(_)));
    let count = accepted.outcomes.iter().filter(is_accepted).count();
    inner.accept_rate.count(count, Instant::now());
    metrics::counter!("sendoff_accepted_total", "way" => "rest").increment(count as u64);
}

fn signal(inner: &Inner, admissions: Vec<Admission>) {
    if !admissions.is_empty() {
        inner.signals.send(Signal::Accepted(admissions));
    }
}
