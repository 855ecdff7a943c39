//! The scan that finds the messages that a receiver is missing: it merges the application's messages with the
//! endpoint's deliveries in the same range of ids, and compares them with the receiver's ids.
//!
//! A bucket of a digest is compared as a whole, so a scan that continues inside a bucket reads it again from its first
//! message. A bucket with more messages than a scan reads is not compared: its messages count as missing.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::deliveries::delivery::DeliveryStatus;
use crate::domain::deliveries::id_digest::{BucketMessage, IdBucket};
use crate::domain::{MessageId, OrgId, Time, TimeRange};
use crate::store::jobs::reconcile::{ReceivedMessageIds, ReconcileSpec};
use crate::store::jobs::replay::{EndpointStep, MissingRow, ReplayBudget};
use crate::store::query::endpoint_messages::{EndpointDeliveryRow, EndpointMessageFilter};
use crate::store::query::messages::ceiling;
use crate::store::query::page::SCAN;
use crate::store::{Store, StoreError, Tx};

/// Messages per statement.
const CHUNK: usize = 1_000;

/// A message of the application, and its delivery to the endpoint, if any.
pub(in crate::store) struct CandidateRow {
    pub message: MissingRow,
    pub sent: Option<EndpointDeliveryRow>,
}

impl CandidateRow {
    pub fn id(&self) -> MessageId {
        self.message.id
    }
}

/// The result of a scan.
pub(super) struct MissingScan {
    /// The missing messages.
    pub rows: Vec<CandidateRow>,
    /// The last compared message.
    pub last: Option<MessageId>,
    /// All messages were compared.
    pub done: bool,
    /// The number of compared messages.
    pub compared: usize,
}

impl Store {
    /// Finds up to `limit` missing messages, and compares at most [`SCAN`] messages (twice as many if it continues
    /// inside a bucket). `None`: the endpoint was deleted.
    pub(super) async fn scan_missing(
        &self,
        tx: &mut Tx,
        org: &OrgId,
        spec: &ReconcileSpec<'_>,
        limit: usize,
    ) -> Result<Option<MissingScan>, StoreError> {
        let Some(reached) = self.endpoint_in(tx, spec.app, spec.endpoint).await? else { return Ok(None) };
        let filter = whole_buckets(spec);
        let step = EndpointStep {
            org,
            app: spec.app,
            endpoint: &reached.endpoint,
            slot: reached.slot,
            filter: &filter,
            room: ReplayBudget { looks: CHUNK, sends: 0 },
            now: Time::ZERO,
        };
        step.scan_missing(tx, spec, limit).await.map(Some)
    }
}

/// The precision of an id's time.
const MILLISECOND: Duration = Duration::from_millis(1);

/// The period of the comparison, extended to whole buckets.
fn whole_buckets(spec: &ReconcileSpec<'_>) -> EndpointMessageFilter {
    let TimeRange { since, until } = spec.accepted;
    let begin = spec.received.bucket_of(MessageId::floor(since)).map(|bucket| bucket.first.time());
    let end = spec.received.bucket_of(ceiling(until)).map(|bucket| bucket.last.time().plus(MILLISECOND));
    let accepted = TimeRange { since: begin.unwrap_or(since).min(since), until: end.unwrap_or(until).max(until) };
    EndpointMessageFilter { accepted, ..spec.filter() }
}

impl EndpointStep<'_> {
    async fn scan_missing(
        &self,
        tx: &mut Tx,
        spec: &ReconcileSpec<'_>,
        limit: usize,
    ) -> Result<MissingScan, StoreError> {
        let mut found = MissingScan { rows: Vec::new(), last: spec.after, done: true, compared: 0 };
        let (mut from, mut read, mut most) = (spec.after.map_or(Uuid::nil(), |after| after.0), 0, SCAN);
        if let Some(bucket) = spec.after.and_then(|after| spec.received.bucket_of(after)) {
            from = Uuid::from_u128(bucket.first.0.as_u128().saturating_sub(1));
        }
        // Messages that were read and not yet compared, and the end of a bucket that has too many to be compared.
        let (mut waiting, mut too_wide): (VecDeque<CandidateRow>, Option<MessageId>) = (VecDeque::new(), None);
        loop {
            let rows = self.read_candidates(tx, from).await?;
            let ended = rows.len() < CHUNK;
            read += rows.len();
            from = rows.last().map_or(from, |row| row.id().0);
            waiting.extend(rows);
            while let Some(next) = waiting.front().map(CandidateRow::id) {
                if spec.bounded && spec.received.last().is_none_or(|end| next > end) {
                    return Ok(found);
                }
                let bucket = spec.received.bucket_of(next).filter(|_| too_wide.is_none_or(|end| next > end));
                let inside = bucket.map_or(waiting.len(), |bucket| {
                    waiting.iter().position(|row| !bucket.contains(row.id())).unwrap_or(waiting.len())
                });
                if let Some(bucket) = bucket
                    && inside == waiting.len()
                    && !ended
                {
                    if read < most {
                        break;
                    }
                    too_wide = Some(bucket.last);
                    // The messages up to `after` were compared by an earlier scan.
                    if let Some(after) = spec.after.filter(|after| bucket.contains(*after)) {
                        (from, most) = (from.max(after.0), most + SCAN);
                    }
                    continue;
                }
                let rows: Vec<CandidateRow> = match bucket {
                    Some(_) => waiting.drain(..inside).collect(),
                    None => waiting.pop_front().into_iter().collect(),
                };
                if !self.compare(spec, bucket, rows, limit, &mut found)? {
                    return Ok(MissingScan { done: false, ..found });
                }
            }
            if ended || read >= most {
                return Ok(MissingScan { done: ended, ..found });
            }
        }
    }

    /// Compares messages: all of a bucket, or one that is in none. `false`: there is no room for another missing one.
    fn compare(
        &self,
        spec: &ReconcileSpec<'_>,
        bucket: Option<&IdBucket>,
        rows: Vec<CandidateRow>,
        limit: usize,
        found: &mut MissingScan,
    ) -> Result<bool, StoreError> {
        let held = self.held(spec.received, bucket, &rows)?;
        for (row, held) in rows.into_iter().zip(held) {
            if spec.after.is_some_and(|after| row.id() <= after) {
                continue;
            }
            let missing = !held
                && (spec.accepted.since..spec.accepted.until).contains(&row.message.accepted_at)
                && self.is_missing_unless_received(&row)?;
            if missing && found.rows.len() == limit {
                return Ok(false);
            }
            found.compared += 1;
            found.last = Some(row.id());
            if missing {
                found.rows.push(row);
            }
        }
        Ok(true)
    }

    /// For each message, whether the receiver has it.
    fn held(
        &self,
        received: &ReceivedMessageIds,
        bucket: Option<&IdBucket>,
        rows: &[CandidateRow],
    ) -> Result<Vec<bool>, StoreError> {
        let Some(bucket) = bucket else {
            let listed = |row: &CandidateRow| match received {
                ReceivedMessageIds::List(ids) => ids.binary_search(&row.id()).is_ok(),
                ReceivedMessageIds::Digest(_) => false,
            };
            return Ok(rows.iter().map(listed).collect());
        };
        // A receiver can have a message without a delivery only by fetching it, and only if it matches the endpoint's
        // filters.
        let mut possible = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let settled = self.is_missing_unless_received(row)?;
            if settled || row.sent.is_some() {
                possible.push((index, BucketMessage { id: row.id(), settled }));
            }
        }
        let mut held = vec![false; rows.len()];
        let messages: Vec<BucketMessage> = possible.iter().map(|(_, message)| *message).collect();
        for ((index, _), one) in possible.iter().zip(bucket.held(&messages).unwrap_or_default()) {
            held[*index] = one;
        }
        Ok(held)
    }

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

    /// Whether the message counts as missing if the receiver does not have it.
    fn is_missing_unless_received(&self, row: &CandidateRow) -> Result<bool, StoreError> {
        match &row.sent {
            Some(sent) => Ok(sent.standing() != DeliveryStatus::Pending && self.should_resend(sent)?),
            None => Ok(row.message.accepted_at >= self.endpoint.created_at && self.is_missing(&row.message)?),
        }
    }
}
