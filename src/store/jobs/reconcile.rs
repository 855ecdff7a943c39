//! Reconciliation: finds the messages that a receiver is missing, given the ids that it has. Returns a page of these
//! messages, or resends them in steps.
//!
//! A message is missing if the receiver does not have it, it matches the endpoint's filters, and it is not pending:
//!
//! * it was delivered (the receiver lost it after responding), is dead, or was canceled;
//! * or it never got a delivery, because the endpoint was disabled. Messages accepted before the endpoint was created
//!   do not count.
//!
//! `missing_scan` finds them, `reconcile_task` resends them.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::deliveries::background::TaskScope;
use crate::domain::deliveries::delivery::DeliveryStatus;
use crate::domain::deliveries::id_digest::{IdBucket, IdDigest};
use crate::domain::deliveries::message::Message;
use crate::domain::limits::PAGE_BYTES;
use crate::domain::{AppId, EndpointId, MessageId, TimeRange};
use crate::store::jobs::background::scope_exists;
use crate::store::jobs::missing_scan::CandidateRow;
use crate::store::query::endpoint_messages::{EndpointDeliveryRow, EndpointMessageFilter};
use crate::store::query::messages::Readers;
use crate::store::{Store, StoreError, Tenant};

/// The message ids that a receiver has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceivedMessageIds {
    /// In ascending order; at most [`RECEIVED_IDS`](crate::domain::limits::RECEIVED_IDS).
    List(Vec<MessageId>),
    Digest(IdDigest),
}

impl Default for ReceivedMessageIds {
    fn default() -> ReceivedMessageIds {
        ReceivedMessageIds::List(Vec::new())
    }
}

impl ReceivedMessageIds {
    /// A list of ids.
    pub fn new(mut ids: Vec<MessageId>) -> ReceivedMessageIds {
        ids.sort_unstable();
        ids.dedup();
        ReceivedMessageIds::List(ids)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.last().is_none()
    }

    /// The greatest id.
    pub fn last(&self) -> Option<MessageId> {
        match self {
            ReceivedMessageIds::List(ids) => ids.last().copied(),
            ReceivedMessageIds::Digest(digest) => digest.last(),
        }
    }

    /// The bucket of the digest whose range contains an id.
    pub(super) fn bucket_of(&self, id: MessageId) -> Option<&IdBucket> {
        match self {
            ReceivedMessageIds::List(_) => None,
            ReceivedMessageIds::Digest(digest) => digest.bucket_of(id),
        }
    }

    /// The column value. A list has 16 bytes for each id.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            ReceivedMessageIds::List(ids) => ids.iter().flat_map(|id| *id.0.as_bytes()).collect(),
            ReceivedMessageIds::Digest(digest) => digest.to_bytes(),
        }
    }

    pub(super) fn read(bytes: &[u8], digest: bool) -> ReceivedMessageIds {
        if digest {
            return ReceivedMessageIds::Digest(IdDigest::from_bytes(bytes));
        }
        let ids = bytes.as_chunks::<16>().0.iter().map(|id| MessageId(Uuid::from_bytes(*id)));
        ReceivedMessageIds::List(ids.collect())
    }
}

/// The messages to compare with those of a receiver.
#[derive(Clone, Copy, Debug)]
pub struct ReconcileSpec<'r> {
    pub app: AppId,
    pub endpoint: EndpointId,
    pub accepted: TimeRange,
    /// After this message.
    pub after: Option<MessageId>,
    pub received: &'r ReceivedMessageIds,
    /// The ids are incomplete: the comparison ends at the last one.
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

impl Store {
    /// A page of missing messages. It scans a bounded number of messages, so it may end early, and contains at most
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
        let mut chosen = {
            let _scan = self.scan(tenant).await?;
            let mut tx = self.read_tx().await?;
            if !scope_exists(&mut tx, tenant, TaskScope::Endpoint(spec.app, spec.endpoint)).await? {
                return Ok(page);
            }
            let Some(found) = self.scan_missing(&mut tx, &tenant.org, spec, limit).await? else { return Ok(page) };
            (page.last, page.done) = (found.last, found.done);
            found.rows
        };
        let ids: Vec<MessageId> = chosen.iter().map(|row| row.id()).collect();
        let messages = self.load_within(&ids, PAGE_BYTES, Readers::Pages).await?;
        let mut messages: HashMap<MessageId, Message> = messages.into_iter().map(|one| (one.id, one)).collect();
        // The page ends early if its payloads exceed the page's byte limit.
        let loaded = ids.iter().rposition(|id| messages.contains_key(id)).map_or(ids.len(), |last| last + 1);
        if loaded < ids.len() {
            chosen.truncate(loaded);
            (page.last, page.done) = (loaded.checked_sub(1).map(|last| ids[last]).or(page.last), false);
        }
        let missed = |row: &CandidateRow| {
            let standing = row.sent.as_ref().map(EndpointDeliveryRow::standing);
            Some(MissingMessage { message: messages.remove(&row.id())?, standing })
        };
        page.data = chosen.iter().filter_map(missed).collect();
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Time;
    use crate::domain::deliveries::id_digest::IdHash;

    #[test]
    fn ids_survive_their_column() {
        let at = |seconds: i64| MessageId::new(Time::from_micros(1_763_800_000_000_000 + seconds * 1_000_000));
        let (one, two, three) = (at(1), at(2), at(3));
        let ids = ReceivedMessageIds::new(vec![three, one, three]);
        assert_eq!(ReceivedMessageIds::read(&ids.bytes(), false), ids);
        assert_eq!((&ids, ids.last()), (&ReceivedMessageIds::List(vec![one, three]), Some(three)));
        assert_eq!(ReceivedMessageIds::read(&[], false), ReceivedMessageIds::default());
        let xor = IdHash::of_all([one, two]);
        let digest = IdDigest::new("digest", vec![IdBucket { first: one, last: two, count: 2, xor }]).unwrap();
        let digest = ReceivedMessageIds::Digest(digest);
        assert_eq!(ReceivedMessageIds::read(&digest.bytes(), true), digest);
    }
}
