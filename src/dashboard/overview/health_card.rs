//! The health card: the database and the sending processes.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::components::format::{Line, count, size};
use crate::dashboard::components::widgets::RelativeTime;
use crate::domain::Time;
use crate::store::queue::slots::SLOTS;
use crate::store::{Store, StoreError};

/// A process and its share of the slots.
struct ProcessRow {
    name: Line,
    since: RelativeTime,
    /// No heartbeat.
    silent: bool,
    slots: String,
}

#[derive(Template)]
#[template(path = "parts/health_card.html")]
pub struct HealthCard {
    store: &'static str,
    size: String,
    processes: Vec<ProcessRow>,
    /// Slots without an owner.
    unowned: i64,
}

impl HtmlSafe for HealthCard {}

impl HealthCard {
    /// Reads the current health.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(store: &Store, now: Time) -> Result<HealthCard, StoreError> {
        let processes = store.processes(now).await?;
        let process = |one: &crate::store::queue::slots::ProcessView| ProcessRow {
            name: Line::cut(&one.name, 80),
            since: RelativeTime::new(one.started_at, now),
            silent: !one.alive,
            slots: count(one.slots),
        };
        Ok(HealthCard {
            store: if store.shared() { "PostgreSQL" } else { "SQLite" },
            size: size(usize::try_from(store.size().await?).unwrap_or_default()),
            processes: processes.iter().map(process).collect(),
            unowned: SLOTS as i64 - processes.iter().map(|one| one.slots).sum::<i64>(),
        })
    }

    /// Whether no process is sending.
    pub fn nobody(&self) -> bool {
        self.processes.iter().all(|process| process.silent)
    }

    fn all_slots(&self) -> usize {
        SLOTS
    }
}
