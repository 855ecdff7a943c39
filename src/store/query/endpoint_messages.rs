//! Messages sent to an endpoint, with the status of their deliveries, and counts by status.
//!
//! * [`EndpointMessageFilter`] selects messages with a delivery to an endpoint. It is evaluated here, row by row, for
//!   lists and background tasks on both databases; the rows are read along the index of the endpoint's deliveries.
//! * [`EndpointMessage`] is a message and the status of its delivery.
//! * [`DeliveryStatusCounts`] are counts by status.

use std::collections::HashMap;

use crate::domain::deliveries::delivery::{DeadReason, DeliveryState, DeliveryStatus};
use crate::domain::deliveries::message::Message;
use crate::domain::limits::PAGE_BYTES;
use crate::domain::{AppId, EndpointId, MessageId, Time, TimeRange};
use crate::store::db::codec::from_row;
use crate::store::query::delivery_list::of_last_attempt;
use crate::store::query::messages::{Readers, id_range};
use crate::store::query::page::SCAN;
use crate::store::query::topic_filter::TopicFilter;
use crate::store::queue::requeue::DeliverySnapshot;
use crate::store::{PageRequest, Scanned, Store, StoreError, Tenant, read};

/// Rows per statement of a filtered list.
const CHUNK: usize = 1_000;

/// Selects messages with a delivery to an endpoint; an empty list or `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointMessageFilter {
    pub accepted: TimeRange,
    pub topics: TopicFilter,
    pub standings: Vec<DeliveryStatus>,
    /// Whether the last attempt failed (dead, or waiting for a retry).
    pub failing: Option<bool>,
    /// Status class of the last attempt: 100, 200, … 500; 0: no response.
    pub status_class: Option<i32>,
}

impl EndpointMessageFilter {
    /// Whether a delivery and its message match.
    pub(in crate::store) fn takes(&self, row: &EndpointDeliveryRow) -> Result<bool, StoreError> {
        let answered = match self.status_class {
            None => true,
            Some(0) => row.attempts > 0 && row.last_status.is_none(),
            Some(class) => row.last_status.is_some_and(|status| (class..class + 100).contains(&status)),
        };
        Ok(self.accepted.contains(row.accepted_at)
            && answered
            && (self.standings.is_empty() || self.standings.contains(&row.standing()))
            && self.failing.is_none_or(|failing| failing == row.failing())
            && self.topics.takes(&row.event_type, row.channels.as_deref(), row.tags.as_deref())?)
    }

    /// The statement that reads an endpoint's candidate deliveries in `direction`. Parameters: endpoint, application,
    /// organization, the id to continue from (compared by `compare`), the first id, the end of the ids, the limit, the
    /// endpoint's slot.
    pub(in crate::store) fn sql(&self, store: &str, compare: &str, direction: &str) -> String {
        self.sql_and(store, compare, direction, "")
    }

    /// [`EndpointMessageFilter::sql`] for a caller that bounds the ids itself. It skips deliveries in other states
    /// before it reads their messages, so the number of rows does not limit the number of scanned rows.
    pub(in crate::store) fn sql_of_states(&self, store: &str) -> String {
        let mut states: Vec<String> =
            [DeliveryState::Fresh, DeliveryState::Retry, DeliveryState::Delivered, DeliveryState::Dead]
                .into_iter()
                .filter(|state| self.may_take(*state))
                .map(|state| state.code().to_string())
                .collect();
        if states.is_empty() {
            states.push("-1".to_owned());
        }
        self.sql_and(store, ">", "ASC", &format!("AND d.state IN ({})", states.join(", ")))
    }

    fn may_take(&self, state: DeliveryState) -> bool {
        let reasons = [None, Some(DeadReason::Canceled)];
        let stands = |reason| self.standings.contains(&DeliveryStatus::of(state, reason));
        (self.standings.is_empty() || reasons.into_iter().any(stands))
            && (self.failing != Some(true) || matches!(state, DeliveryState::Retry | DeliveryState::Dead))
    }

    fn sql_and(&self, store: &str, compare: &str, direction: &str, states: &str) -> String {
        // Looked up only if the filter needs it.
        let last = match self.status_class {
            None => "CAST(NULL AS INTEGER)".to_owned(),
            Some(_) => of_last_attempt(store, "status"),
        };
        // CROSS JOIN makes SQLite start with the index of deliveries instead of all messages.
        format!(
            "SELECT d.message_id, d.state, d.due_at, d.attempts, d.step, d.generation, d.reason, m.accepted_at, m.event_type,
                 m.channels, m.tags, m.payload IS NOT NULL AS content, {last} AS last_status
             FROM delivery d CROSS JOIN message m
             WHERE m.id = d.message_id AND d.endpoint_id = $1 AND d.slot IN (-1, $8) AND d.app_id = $2 {states}
                 AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)
                 AND d.message_id {compare} $4 AND d.message_id >= $5 AND d.message_id < $6
             ORDER BY d.message_id {direction} LIMIT $7"
        )
    }

    /// The first candidate id and the end of the range.
    pub(in crate::store) fn ids(&self) -> (MessageId, MessageId) {
        id_range(self.accepted)
    }
}

from_row! {
    /// A delivery and the filtered fields of its message.
    pub(in crate::store) struct EndpointDeliveryRow {
        pub message_id: MessageId,
        pub state: i16,
        due_at: Time,
        attempts: i32,
        step: i32,
        pub generation: i32,
        reason: Option<String>,
        accepted_at: Time,
        event_type: String,
        channels: Option<String>,
        tags: Option<String>,
        /// Whether the message still has its content.
        pub content: bool,
        last_status: Option<i32>,
    }
}

impl EndpointDeliveryRow {
    /// The delivery, for requeueing.
    pub(in crate::store) fn snapshot(&self) -> DeliverySnapshot {
        DeliverySnapshot {
            message: self.message_id,
            state: DeliveryState::from_code(self.state),
            generation: self.generation,
        }
    }

    pub(in crate::store) fn standing(&self) -> DeliveryStatus {
        DeliveryStatus::of(DeliveryState::from_code(self.state), self.reason.as_deref().and_then(DeadReason::from_word))
    }

    /// A resent delivery does not count as failing until it fails again.
    fn failing(&self) -> bool {
        match DeliveryState::from_code(self.state) {
            DeliveryState::Retry => self.step > 0,
            DeliveryState::Dead => self.standing() == DeliveryStatus::Dead,
            DeliveryState::Fresh | DeliveryState::Delivered => false,
        }
    }
}

/// A message and the status of its delivery to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointMessage {
    pub message: Message,
    pub standing: DeliveryStatus,
    /// Whether the last attempt failed.
    pub failing: bool,
    /// The time of the next attempt, while pending.
    pub next_at: Option<Time>,
}

/// Counts of deliveries by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStatusCounts {
    pub delivered: i64,
    pub pending: i64,
    pub dead: i64,
    pub canceled: i64,
    /// Set if there were more than [`DeliveryStatusCounts::MOST`]: messages before this time are not counted.
    pub cut_off: Option<Time>,
}

impl DeliveryStatusCounts {
    /// Maximum deliveries counted.
    pub const MOST: i64 = 1_000_000;
    /// Deliveries per statement. Between two statements other readers get the connection.
    const CHUNK: i64 = 50_000;

    /// Adds to the count of a status.
    pub(in crate::store) fn add(&mut self, standing: DeliveryStatus, count: i64) {
        *match standing {
            DeliveryStatus::Delivered => &mut self.delivered,
            DeliveryStatus::Pending => &mut self.pending,
            DeliveryStatus::Dead => &mut self.dead,
            DeliveryStatus::Canceled => &mut self.canceled,
        } += count;
    }
}

impl Store {
    /// The slot of an endpoint, which is part of the key of its pending deliveries; -1 if it does not exist.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn slot_of_endpoint(&self, endpoint: EndpointId) -> Result<i16, StoreError> {
        const SQL: &str = "SELECT slot FROM endpoint WHERE id = $1";
        let slot: Option<i16> = read!(self, db => sqlx::query_scalar(SQL).bind(endpoint).fetch_optional(db).await)?;
        Ok(slot.unwrap_or(-1))
    }

    /// The messages with a delivery to an endpoint of the tenant's application. With a filter, a page scans at most
    /// [`SCAN`] rows and may end early.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn endpoint_messages(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
        filter: &EndpointMessageFilter,
        page: &PageRequest<MessageId>,
    ) -> Result<Scanned<EndpointMessage, MessageId>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(Scanned::nothing()) };
        let _scan = self.scan(tenant).await?;
        let (compare, direction) = page.sql();
        let (sql, (first, end)) = (filter.sql(self.kind(), compare, direction), filter.ids());
        let size = if *filter == EndpointMessageFilter::default() { page.limit + 1 } else { CHUNK };
        let (mut from, mut looked, mut found) = (page.bound(), 0, Vec::new());
        let slot = self.slot_of_endpoint(endpoint).await?;
        let stopped = loop {
            let rows: Vec<EndpointDeliveryRow> = read!(self, db => {
                sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
                    .bind(endpoint).bind(app).bind(org).bind(from).bind(first).bind(end).bind(size as i64).bind(slot)
                    .fetch_all(db).await
            })?;
            let last = rows.last().map(|row| row.message_id).filter(|_| rows.len() == size);
            looked += rows.len();
            for row in rows {
                if filter.takes(&row)? {
                    found.push(row);
                }
            }
            match last {
                Some(last) if found.len() <= page.limit && looked < SCAN => from = last.0,
                last => break last,
            }
        };
        // The page ends early if its payloads exceed the page's byte limit.
        let ids: Vec<MessageId> = found.iter().take(page.limit).map(|row| row.message_id).collect();
        let messages = self.load_within(&ids, PAGE_BYTES, Readers::Pages).await?;
        let mut messages: HashMap<MessageId, Message> = messages.into_iter().map(|one| (one.id, one)).collect();
        let loaded = ids.iter().rposition(|id| messages.contains_key(id)).map_or(ids.len(), |last| last + 1);
        let cut = loaded < ids.len();
        if cut {
            found.truncate(loaded);
        }
        let page = page.page(found);
        let of = |row: EndpointDeliveryRow| {
            let (standing, failing) = (row.standing(), row.failing());
            let message = messages.remove(&row.message_id)?;
            let next_at = (standing == DeliveryStatus::Pending).then_some(row.due_at);
            Some(EndpointMessage { message, standing, failing, next_at })
        };
        let more = page.more || cut;
        // Skips messages that retention has just deleted.
        let data = page.data.into_iter().filter_map(of).collect();
        Ok(Scanned::new(crate::store::Page { data, more }, stopped))
    }

    /// Counts the endpoint's deliveries of messages accepted in `since..until` (to the millisecond), newest first.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delivery_status_counts(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
        since: Time,
        until: Time,
    ) -> Result<DeliveryStatusCounts, StoreError> {
        const OWNED: &str = "endpoint_id = $1 AND slot IN (-1, $7) AND app_id = $2
             AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)
             AND message_id >= $4 AND message_id < $5";
        let nth = format!("SELECT message_id FROM delivery WHERE {OWNED} ORDER BY message_id DESC LIMIT 1 OFFSET $6");
        let slot = self.slot_of_endpoint(endpoint).await?;
        let count = format!(
            "SELECT state, CASE WHEN reason = 'canceled' THEN 1 ELSE 0 END AS canceled, count(*) FROM delivery
             WHERE {OWNED} AND $6 > 0 GROUP BY 1, 2"
        );
        let mut counts = DeliveryStatusCounts::default();
        let Some(org) = tenant.org_of(app) else { return Ok(counts) };
        let _scan = self.scan(tenant).await?;
        let (floor, mut end, mut counted) = (MessageId::floor(since), MessageId::floor(until), 0);
        loop {
            let begin: Option<MessageId> = read!(self, db => {
                sqlx::query_scalar(sqlx::AssertSqlSafe(nth.as_str()))
                    .bind(endpoint).bind(app).bind(org).bind(floor).bind(end).bind(DeliveryStatusCounts::CHUNK - 1).bind(slot)
                    .fetch_optional(db).await
            })?;
            let rows: Vec<(i16, i32, i64)> = read!(self, db => {
                sqlx::query_as(sqlx::AssertSqlSafe(count.as_str()))
                    .bind(endpoint).bind(app).bind(org).bind(begin.unwrap_or(floor)).bind(end).bind(DeliveryStatusCounts::CHUNK).bind(slot)
                    .fetch_all(db).await
            })?;
            for (state, canceled, count) in rows {
                counted += count;
                let reason = (canceled == 1).then_some(DeadReason::Canceled);
                counts.add(DeliveryStatus::of(DeliveryState::from_code(state), reason), count);
            }
            let Some(begin) = begin else { return Ok(counts) };
            if counted >= DeliveryStatusCounts::MOST {
                counts.cut_off = Some(begin.time());
                return Ok(counts);
            }
            end = begin;
        }
    }
}
