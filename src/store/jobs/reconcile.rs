//! Reconciliation: finds the messages that a receiver is missing, given the ids that it has. Returns a page of these
//! messages, or resends them in steps.
//!
//! A message is missing if the receiver did not list it, it matches the endpoint's filters, and it is not pending:
//!
//! * it was delivered (the receiver lost it after responding), is dead, or was canceled;
//! * or it never got a delivery, because the endpoint was disabled. Messages accepted before the endpoint was created
//!   do not count.
//!
//! Both operations merge the application's messages with the endpoint's deliveries in the same range of ids.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::deliveries::background::TaskScope;
use crate::domain::deliveries::delivery::DeliveryStatus;
use crate::domain::deliveries::message::Message;
use crate::domain::limits::PAGE_BYTES;
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, Time, TimeRange};
use crate::store::jobs::background::scope_exists;
use crate::store::jobs::replay::{EndpointStep, EndpointStepResult, MissingRow, ReplayBudget, choose};
use crate::store::query::endpoint_messages::{EndpointDeliveryRow, EndpointMessageFilter};
use crate::store::query::messages::Readers;
use crate::store::query::page::SCAN;
use crate::store::{Store, StoreError, Tenant, Tx, on};

/// Messages per statement of a page.
const CHUNK: usize = 1_000;

/// Message ids that a receiver has; at most [`RECEIVED_IDS`](crate::domain::limits::RECEIVED_IDS).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedMessageIds(Vec<MessageId>);

impl ReceivedMessageIds {
    pub fn new(mut ids: Vec<MessageId>) -> ReceivedMessageIds {
        ids.sort_unstable();
        ids.dedup();
        ReceivedMessageIds(ids)
    }

    /// Whether the list contains a message.
    pub fn has(&self, id: MessageId) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// The greatest id.
    pub fn last(&self) -> Option<MessageId> {
        self.0.last().copied()
    }

    /// The column value: 16 bytes each.
    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|id| *id.0.as_bytes()).collect()
    }

    fn read(bytes: &[u8]) -> ReceivedMessageIds {
        ReceivedMessageIds(bytes.as_chunks::<16>().0.iter().map(|id| MessageId(Uuid::from_bytes(*id))).collect())
    }
}

/// The messages to compare with a receiver's list.
#[derive(Clone, Copy, Debug)]
pub struct ReconcileSpec<'r> {
    pub app: AppId,
    pub endpoint: EndpointId,
    pub accepted: TimeRange,
    /// After this message.
    pub after: Option<MessageId>,
    pub received: &'r ReceivedMessageIds,
    /// The list is incomplete: the comparison ends at its last id.
    pub bounded: bool,
}

impl ReconcileSpec<'_> {
    /// The time range as a filter.
    pub(in crate::store) fn filter(&self) -> EndpointMessageFilter {
        EndpointMessageFilter { accepted: self.accepted, ..EndpointMessageFilter::default() }
    }
}

/// A message that a receiver is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingMessage {
    pub message: Message,
    /// The status of its delivery; `None`: it has none.
    pub standing: Option<DeliveryStatus>,
}

/// A page of missing messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingPage {
    /// In the order of message ids.
    pub data: Vec<MissingMessage>,
    /// The last compared message.
    pub last: Option<MessageId>,
    /// All messages were compared.
    pub done: bool,
}

/// A message of the application, and its delivery to the endpoint, if any.
pub(in crate::store) struct CandidateRow {
    message: MissingRow,
    sent: Option<EndpointDeliveryRow>,
}

impl Store {
    /// A page of missing messages. It scans at most [`SCAN`] messages, so it may end early, and contains at most
    /// [`PAGE_BYTES`] of payloads unless the first one is larger.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn missing_messages(
        &self,
        tenant: &Tenant,
        spec: &ReconcileSpec<'_>,
        limit: usize,
    ) -> Result<MissingPage, StoreError> {
        let mut page = MissingPage { last: spec.after, done: true, ..MissingPage::default() };
        let (filter, mut looked, mut chosen) = (spec.filter(), 0, Vec::new());
        {
            let _scan = self.scan(tenant).await?;
            let mut tx = self.read_tx().await?;
            if !scope_exists(&mut tx, tenant, TaskScope::Endpoint(spec.app, spec.endpoint)).await? {
                return Ok(page);
            }
            let Some(reached) = self.endpoint_in(&mut tx, spec.app, spec.endpoint).await? else { return Ok(page) };
            let step = EndpointStep {
                org: &tenant.org,
                app: spec.app,
                endpoint: &reached.endpoint,
                slot: reached.slot,
                filter: &filter,
                room: ReplayBudget { looks: CHUNK, sends: 0 },
                now: Time::ZERO,
            };
            'page: loop {
                let from = page.last.map_or(Uuid::nil(), |last| last.0);
                let rows = step.read_candidates(&mut tx, from).await?;
                let whole = rows.len() < CHUNK;
                for row in rows {
                    if spec.bounded && spec.received.last().is_none_or(|end| row.message.id > end) {
                        break 'page;
                    }
                    let missed = step.is_missing_from(&row, spec.received)?;
                    if missed && chosen.len() == limit {
                        page.done = false;
                        break 'page;
                    }
                    page.last = Some(row.message.id);
                    if missed {
                        chosen.push((row.message.id, row.sent.map(|sent| sent.standing())));
                    }
                }
                looked += CHUNK;
                if whole || looked >= SCAN {
                    page.done = whole;
                    break;
                }
            }
        }
        let ids: Vec<MessageId> = chosen.iter().map(|(id, _)| *id).collect();
        let messages = self.load_within(&ids, PAGE_BYTES, Readers::Pages).await?;
        let mut messages: HashMap<MessageId, Message> = messages.into_iter().map(|one| (one.id, one)).collect();
        // The page ends early if its payloads exceed the page's byte limit.
        let loaded = ids.iter().rposition(|id| messages.contains_key(id)).map_or(ids.len(), |last| last + 1);
        if loaded < ids.len() {
            chosen.truncate(loaded);
            (page.last, page.done) = (loaded.checked_sub(1).map(|last| ids[last]).or(page.last), false);
        }
        let missed = |(id, standing)| Some(MissingMessage { message: messages.remove(&id)?, standing });
        page.data = chosen.into_iter().filter_map(missed).collect();
        Ok(page)
    }
}

impl EndpointStep<'_> {
    /// The application's messages after `from` with their deliveries to the endpoint.
    async fn read_candidates(&self, tx: &mut Tx, from: Uuid) -> Result<Vec<CandidateRow>, StoreError> {
        let messages = self.read_missing(tx, from).await?;
        let Some(last) = messages.last() else { return Ok(Vec::new()) };
        let end = MessageId(Uuid::from_u128(last.id.0.as_u128().saturating_add(1)));
        let sent = self.read_sent(tx, self.filter.sql(tx.kind(), ">", "ASC"), from, end).await?;
        let mut sent: HashMap<MessageId, EndpointDeliveryRow> =
            sent.into_iter().map(|row| (row.message_id, row)).collect();
        Ok(messages.into_iter().map(|message| CandidateRow { sent: sent.remove(&message.id), message }).collect())
    }

    /// Whether a receiver with the ids `received` is missing a message.
    fn is_missing_from(&self, row: &CandidateRow, received: &ReceivedMessageIds) -> Result<bool, StoreError> {
        Ok(!received.has(row.message.id)
            && match &row.sent {
                Some(sent) => sent.standing() != DeliveryStatus::Pending && self.should_resend(sent)?,
                None => row.message.accepted_at >= self.endpoint.created_at && self.is_missing(&row.message)?,
            })
    }

    /// Resends messages missing from `received`; `bounded`: up to the last of these ids.
    pub(in crate::store::jobs) async fn resend_missing(
        &self,
        tx: &mut Tx,
        from: Uuid,
        received: &ReceivedMessageIds,
        bounded: bool,
    ) -> Result<EndpointStepResult, StoreError> {
        let mut rows = self.read_candidates(tx, from).await?;
        let within = |row: &CandidateRow| !bounded || received.last().is_some_and(|end| row.message.id <= end);
        let ends = rows.iter().position(|row| !within(row));
        rows.truncate(ends.unwrap_or(rows.len()));
        let takes = |row: &CandidateRow| self.is_missing_from(row, received);
        let (chosen, done) = choose(self.room, &rows, |row| row.message.id, takes)?;
        let again: Vec<&EndpointDeliveryRow> = chosen.iter().filter_map(|row| row.sent.as_ref()).collect();
        let never = chosen.iter().filter(|row| row.sent.is_none()).map(|row| row.message.id);
        let mut sent = self.requeue_as_retries(tx, &again).await?;
        sent.extend(self.give(tx, &never.collect::<Vec<_>>()).await?);
        Ok(EndpointStepResult { sent, ..done })
    }
}

/// Stores the ids for the steps of the task.
pub(super) async fn store_received_ids(
    tx: &mut Tx,
    id: BackgroundId,
    received: &ReceivedMessageIds,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO background_received (background_id, ids) VALUES ($1, $2)";
    Ok(on!(tx, db => sqlx::query(SQL).bind(id).bind(received.bytes()).execute(db).await.map(drop))?)
}

/// The ids stored for the task.
pub(super) async fn received_ids_of(tx: &mut Tx, id: BackgroundId) -> Result<ReceivedMessageIds, StoreError> {
    const SQL: &str = "SELECT ids FROM background_received WHERE background_id = $1";
    let bytes: Option<Vec<u8>> = on!(tx, db => sqlx::query_scalar(SQL).bind(id).fetch_optional(db).await)?;
    // Without the ids, everything would be resent.
    let bytes = bytes.ok_or_else(|| StoreError::Damaged("a reconciliation without received ids".into()))?;
    Ok(ReceivedMessageIds::read(&bytes))
}

/// Deletes the ids of a task that is ending.
pub(super) async fn drop_received_ids(tx: &mut Tx, id: BackgroundId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM background_received WHERE background_id = $1";
    Ok(on!(tx, db => sqlx::query(SQL).bind(id).execute(db).await.map(drop))?)
}

/// Deletes the ids of all tasks that have ended or were canceled.
pub(super) async fn delete_received_ids(tx: &mut Tx) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM background_received WHERE NOT EXISTS
             (SELECT 1 FROM background b WHERE b.id = background_received.background_id AND b.state = 'running')";
    Ok(on!(tx, db => sqlx::query(SQL).execute(db).await.map(drop))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_column() {
        let at = |seconds: i64| MessageId::new(Time::from_micros(1_763_800_000_000_000 + seconds * 1_000_000));
        let (one, two, three) = (at(1), at(2), at(3));
        let ids = ReceivedMessageIds::new(vec![three, one, three]);
        assert_eq!(ReceivedMessageIds::read(&ids.bytes()), ids);
        assert_eq!((ids.has(one), ids.has(two), ids.last()), (true, false, Some(three)));
        assert_eq!(ReceivedMessageIds::read(&[]), ReceivedMessageIds::default());
    }
}
