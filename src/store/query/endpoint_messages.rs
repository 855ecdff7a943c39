//! What an endpoint was sent, and how it stands: a list that its owner can compare with what has arrived, and counts.
//!
//! * [`SentFilter`] – which of the messages that have a delivery at an endpoint are meant. What it says is decided here, row by row
//!   and in one way for lists and background work on both databases; the rows are read along the index of the endpoint's deliveries.
//! * [`EndpointMessage`] – one of them.
//! * [`Standings`] – how many stand how.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::deliveries::delivery::{DeadReason, Standing, State};
use crate::domain::deliveries::message::Message;
use crate::domain::limits::PAGE_BYTES;
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::db::codec;
use crate::store::query::delivery_list::of_last_attempt;
use crate::store::query::messages::{Readers, ceiling};
use crate::store::query::page::SCAN;
use crate::store::queue::requeue::Found;
use crate::store::{PageRequest, Scanned, Store, StoreError, Tenant, read};

/// How many rows a filtered list reads at a time.
const CHUNK: usize = 1_000;

/// Which messages that have a delivery at an endpoint are meant; an empty list or `None` means all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentFilter {
    /// Accepted at this time or later,
    pub since: Time,
    /// and before this one.
    pub until: Time,
    pub event_types: Vec<String>,
    pub channel: Option<String>,
    pub tag: Option<String>,
    pub standings: Vec<Standing>,
    /// Only deliveries whose last attempt failed (they are dead, or wait for the schedule's next attempt), or only the others.
    pub failing: Option<bool>,
    /// 100, 200, … 500: the delivery's last attempt was answered in that class; 0: it was not answered.
    pub status_class: Option<i32>,
}

impl Default for SentFilter {
    fn default() -> SentFilter {
        SentFilter {
            since: Time::ZERO,
            until: Time::MAX,
            event_types: Vec::new(),
            channel: None,
            tag: None,
            standings: Vec::new(),
            failing: None,
            status_class: None,
        }
    }
}

impl SentFilter {
    /// Whether a delivery and its message are meant.
    pub(in crate::store) fn takes(&self, row: &SentRow) -> Result<bool, StoreError> {
        let answered = match self.status_class {
            None => true,
            Some(0) => row.attempts > 0 && row.last_status.is_none(),
            Some(class) => row.last_status.is_some_and(|status| (class..class + 100).contains(&status)),
        };
        Ok((self.since..self.until).contains(&row.accepted_at)
            && answered
            && (self.standings.is_empty() || self.standings.contains(&row.standing()))
            && self.failing.is_none_or(|failing| failing == row.failing())
            && (self.event_types.is_empty() || self.event_types.contains(&row.event_type))
            && among(self.channel.as_deref(), row.channels.as_deref())?
            && among(self.tag.as_deref(), row.tags.as_deref())?)
    }

    /// The statement that reads the deliveries of an endpoint that may be meant, in `direction`: endpoint, application,
    /// organization, the id to go on from (by `compare`), the first id and the one after the last, how many rows, the endpoint's slot.
    pub(in crate::store) fn sql(&self, store: &str, compare: &str, direction: &str) -> String {
        self.sql_and(store, compare, direction, "")
    }

    /// The same for who has bounded the ids already: deliveries in other states are passed over before their messages are looked at,
    /// and the number of rows says nothing of how many were looked at.
    pub(in crate::store) fn sql_of_states(&self, store: &str) -> String {
        let mut states: Vec<String> = [State::Fresh, State::Retry, State::Delivered, State::Dead]
            .into_iter()
            .filter(|state| self.may_take(*state))
            .map(|state| state.code().to_string())
            .collect();
        if states.is_empty() {
            states.push("-1".to_owned());
        }
        self.sql_and(store, ">", "ASC", &format!("AND d.state IN ({})", states.join(", ")))
    }

    fn may_take(&self, state: State) -> bool {
        let reasons = [None, Some(DeadReason::Canceled)];
        let stands = |reason| self.standings.contains(&Standing::of(state, reason));
        (self.standings.is_empty() || reasons.into_iter().any(stands))
            && (self.failing != Some(true) || matches!(state, State::Retry | State::Dead))
    }

    fn sql_and(&self, store: &str, compare: &str, direction: &str, states: &str) -> String {
        // Only who asks for the last answer pays for looking it up.
        let last = match self.status_class {
            None => "CAST(NULL AS INTEGER)".to_owned(),
            Some(_) => of_last_attempt(store, "status"),
        };
        // CROSS JOIN: SQLite then begins with the deliveries, along their index, and never with all messages.
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

    /// The first id that may be meant, and the one after the last.
    pub(in crate::store) fn ids(&self) -> (MessageId, MessageId) {
        let end = if self.until == Time::MAX { MessageId(Uuid::max()) } else { ceiling(self.until) };
        (MessageId::floor(self.since), end)
    }
}

/// Whether `wanted` is one of a column's list, if anything is wanted.
fn among(wanted: Option<&str>, column: Option<&str>) -> Result<bool, StoreError> {
    let Some(wanted) = wanted else { return Ok(true) };
    let list: Option<Vec<String>> = codec::from_json_opt(column)?;
    Ok(list.is_some_and(|list| list.iter().any(|one| one == wanted)))
}

/// A delivery and what matters of its message.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct SentRow {
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
    /// Whether there still is something to send.
    pub content: bool,
    last_status: Option<i32>,
}

impl SentRow {
    /// The delivery, as it is to be put back.
    pub(in crate::store) fn found(&self) -> Found {
        Found { message: self.message_id, state: State::from_code(self.state), generation: self.generation }
    }

    pub(in crate::store) fn standing(&self) -> Standing {
        Standing::of(State::from_code(self.state), self.reason.as_deref().and_then(DeadReason::from_word))
    }

    /// What somebody has sent again already begins the schedule anew: it does not count as failing until it fails again.
    fn failing(&self) -> bool {
        match State::from_code(self.state) {
            State::Retry => self.step > 0,
            State::Dead => self.standing() == Standing::Dead,
            State::Fresh | State::Delivered => false,
        }
    }
}

/// A message that has a delivery at an endpoint, and how that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointMessage {
    pub message: Message,
    pub standing: Standing,
    /// Whether its last attempt failed.
    pub failing: bool,
    /// When the next attempt is due, while it is pending.
    pub next_at: Option<Time>,
}

/// How many of an endpoint's deliveries stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    pub delivered: i64,
    pub pending: i64,
    pub dead: i64,
    pub canceled: i64,
    /// There were more than [`Standings::MOST`]: those of messages before this time are not counted.
    pub cut_off: Option<Time>,
}

impl Standings {
    /// How many deliveries are counted at most.
    pub const MOST: i64 = 1_000_000;
    /// How many one statement counts: between two of them, others get the connection.
    const CHUNK: i64 = 50_000;

    /// So many more that stand like this.
    pub(in crate::store) fn add(&mut self, standing: Standing, count: i64) {
        *match standing {
            Standing::Delivered => &mut self.delivered,
            Standing::Pending => &mut self.pending,
            Standing::Dead => &mut self.dead,
            Standing::Canceled => &mut self.canceled,
        } += count;
    }
}

impl Store {
    /// The slot of an endpoint, by which its pending deliveries are found; -1 if there is no such endpoint.
    ///
    /// # Errors
    /// The store is away.
    pub async fn slot_of_endpoint(&self, endpoint: EndpointId) -> Result<i16, StoreError> {
        const SQL: &str = "SELECT slot FROM endpoint WHERE id = $1";
        let slot: Option<i16> = read!(self, db => sqlx::query_scalar(SQL).bind(endpoint).fetch_optional(db).await)?;
        Ok(slot.unwrap_or(-1))
    }

    /// The messages that have a delivery at an endpoint of the tenant's application. With a filter, a page looks at no more than
    /// [`SCAN`] of them and may end short.
    ///
    /// # Errors
    /// The store is away.
    pub async fn endpoint_messages(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
        filter: &SentFilter,
        page: &PageRequest<MessageId>,
    ) -> Result<Scanned<EndpointMessage, MessageId>, StoreError> {
        if !tenant.sees(app) {
            return Ok(Scanned::nothing());
        }
        let _scan = self.scan(tenant).await?;
        let (compare, direction) = page.sql();
        let (sql, (first, end)) = (filter.sql(self.kind(), compare, direction), filter.ids());
        let size = if *filter == SentFilter::default() { page.limit + 1 } else { CHUNK };
        let (mut from, mut looked, mut found) = (page.bound(), 0, Vec::new());
        let slot = self.slot_of_endpoint(endpoint).await?;
        let stopped = loop {
            let rows: Vec<SentRow> = read!(self, db => {
                sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
                    .bind(endpoint).bind(app).bind(&tenant.org).bind(from).bind(first).bind(end).bind(size as i64).bind(slot)
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
        // The page ends early where its payloads have more bytes than a page may have.
        let ids: Vec<MessageId> = found.iter().take(page.limit).map(|row| row.message_id).collect();
        let messages = self.load_within(&ids, PAGE_BYTES, Readers::Pages).await?;
        let mut messages: HashMap<MessageId, Message> = messages.into_iter().map(|one| (one.id, one)).collect();
        let loaded = ids.iter().rposition(|id| messages.contains_key(id)).map_or(ids.len(), |last| last + 1);
        let cut = loaded < ids.len();
        if cut {
            found.truncate(loaded);
        }
        let page = page.page(found);
        let of = |row: SentRow| {
            let (standing, failing) = (row.standing(), row.failing());
            let message = messages.remove(&row.message_id)?;
            let next_at = (standing == Standing::Pending).then_some(row.due_at);
            Some(EndpointMessage { message, standing, failing, next_at })
        };
        let more = page.more || cut;
        // One that the retention took a moment ago is left out.
        let data = page.data.into_iter().filter_map(of).collect();
        Ok(Scanned::new(crate::store::Page { data, more }, stopped))
    }

    /// How the endpoint's deliveries of messages accepted in `since..until` stand, to the millisecond. The newest are counted first.
    ///
    /// # Errors
    /// The store is away.
    pub async fn standings(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
        since: Time,
        until: Time,
    ) -> Result<Standings, StoreError> {
        const OWNED: &str = "endpoint_id = $1 AND slot IN (-1, $7) AND app_id = $2
             AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)
             AND message_id >= $4 AND message_id < $5";
        let nth = format!("SELECT message_id FROM delivery WHERE {OWNED} ORDER BY message_id DESC LIMIT 1 OFFSET $6");
        let slot = self.slot_of_endpoint(endpoint).await?;
        let count = format!(
            "SELECT state, CASE WHEN reason = 'canceled' THEN 1 ELSE 0 END AS canceled, count(*) FROM delivery
             WHERE {OWNED} AND $6 > 0 GROUP BY 1, 2"
        );
        let mut counts = Standings::default();
        if !tenant.sees(app) {
            return Ok(counts);
        }
        let _scan = self.scan(tenant).await?;
        let (floor, mut end, mut counted) = (MessageId::floor(since), MessageId::floor(until), 0);
        loop {
            let begin: Option<MessageId> = read!(self, db => {
                sqlx::query_scalar(sqlx::AssertSqlSafe(nth.as_str()))
                    .bind(endpoint).bind(app).bind(&tenant.org).bind(floor).bind(end).bind(Standings::CHUNK - 1).bind(slot)
                    .fetch_optional(db).await
            })?;
            let rows: Vec<(i16, i32, i64)> = read!(self, db => {
                sqlx::query_as(sqlx::AssertSqlSafe(count.as_str()))
                    .bind(endpoint).bind(app).bind(&tenant.org).bind(begin.unwrap_or(floor)).bind(end).bind(Standings::CHUNK).bind(slot)
                    .fetch_all(db).await
            })?;
            for (state, canceled, count) in rows {
                counted += count;
                let reason = (canceled == 1).then_some(DeadReason::Canceled);
                counts.add(Standing::of(State::from_code(state), reason), count);
            }
            let Some(begin) = begin else { return Ok(counts) };
            if counted >= Standings::MOST {
                counts.cut_off = Some(begin.time());
                return Ok(counts);
            }
            end = begin;
        }
    }
}
