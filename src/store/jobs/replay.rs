//! Sending again, and what was missed: the steps of background work, each inside a transaction of the caller's.
//!
//! What is to be sent is made pending in the table and nothing more: the lanes read it from there at their own pace. It waits beside
//! what is to be retried and not before what is new, since a lane takes the two kinds in turn: however much a customer has sent
//! again, what happens meanwhile arrives. At an ordered endpoint it goes to the end, and what is new then comes after it.

use uuid::Uuid;

use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::{AppId, MessageId, OrgId, Time};
use crate::store::db::codec;
use crate::store::query::endpoint_messages::{SentFilter, SentRow};
use crate::store::query::messages::{along_application, in_order_of_application};
use crate::store::queue::ordering;
use crate::store::queue::requeue::{self, Found, To};
use crate::store::{StoreError, Tx, on};

/// How many rows may still be looked at, and how many deliveries made pending.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Room {
    pub looks: usize,
    pub sends: usize,
}

impl Room {
    /// What one step has.
    pub const STEP: Room = Room { looks: 1_000, sends: 200 };

    /// What is left of it.
    pub fn after(self, done: &Done) -> Room {
        Room { looks: self.looks.saturating_sub(done.looked), sends: self.sends.saturating_sub(done.sent.len()) }
    }

    /// Whether nothing more fits.
    pub fn is_full(self) -> bool {
        self.looks == 0 || self.sends == 0
    }
}

/// What one step at an endpoint goes by.
pub(in crate::store) struct Step<'a> {
    pub org: &'a OrgId,
    pub app: AppId,
    pub endpoint: &'a Endpoint,
    pub slot: u8,
    pub filter: &'a SentFilter,
    pub room: Room,
    pub now: Time,
}

/// A message of the endpoint's application, and what decides whether the endpoint has missed it.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct MissingRow {
    pub id: MessageId,
    event_type: String,
    channels: Option<String>,
    pub accepted_at: Time,
    /// It has a delivery there already, or no content any more.
    passed: i32,
}

/// What one step has done.
pub(in crate::store) struct Done {
    pub looked: usize,
    /// The messages whose deliveries are to be sent (again).
    pub sent: Vec<MessageId>,
    /// The last message that was looked at.
    pub last: Option<MessageId>,
    pub more: bool,
}

/// How far a step goes through `rows`: those that `takes` chooses, as many as there is room for.
pub(in crate::store::jobs) fn choose<R>(
    room: Room,
    rows: &[R],
    id: impl Fn(&R) -> MessageId,
    takes: impl Fn(&R) -> Result<bool, StoreError>,
) -> Result<(Vec<&R>, Done), StoreError> {
    let (mut chosen, mut looked) = (Vec::new(), 0_usize);
    for row in rows {
        looked += 1;
        if takes(row)? {
            chosen.push(row);
        }
        if chosen.len() >= room.sends {
            break;
        }
    }
    let last = looked.checked_sub(1).and_then(|last| rows.get(last)).map(id);
    let more = looked < rows.len() || rows.len() >= room.looks;
    Ok((chosen, Done { looked, sent: Vec::new(), last, more }))
}

impl Step<'_> {
    /// The endpoint's deliveries of messages after `from`, as `sql` (of the filter) reads them, up to `end`.
    pub(in crate::store) async fn read_sent(
        &self,
        tx: &mut Tx,
        sql: String,
        from: Uuid,
        end: MessageId,
    ) -> Result<Vec<SentRow>, StoreError> {
        let (sql, first) = (sqlx::AssertSqlSafe(sql), self.filter.ids().0);
        Ok(on!(tx, db => {
            sqlx::query_as(sql)
                .bind(self.endpoint.id).bind(self.app).bind(self.org).bind(from).bind(first).bind(end)
                .bind(self.room.looks as i64).bind(i16::from(self.slot))
                .fetch_all(db).await
        })?)
    }

    /// Whether a delivery is meant and there is something to send.
    pub(in crate::store) fn takes_sent(&self, row: &SentRow) -> Result<bool, StoreError> {
        Ok(row.content && self.filter.takes(row)?)
    }

    /// Makes deliveries of the endpoint pending again, whatever they are, as far as they are meant and their message has a content.
    pub(in crate::store) async fn send_again(&self, tx: &mut Tx, from: Uuid) -> Result<Done, StoreError> {
        let rows = self.read_sent(tx, self.filter.sql(tx.kind(), ">", "ASC"), from, self.filter.ids().1).await?;
        let (chosen, done) = choose(self.room, &rows, |row| row.message_id, |row| self.takes_sent(row))?;
        let sent = self.make_pending(tx, &chosen).await?;
        Ok(Done { sent, ..done })
    }

    /// As a resend does, but as retries: they do not stand in the way of what is new.
    pub(in crate::store::jobs) async fn make_pending(
        &self,
        tx: &mut Tx,
        chosen: &[&SentRow],
    ) -> Result<Vec<MessageId>, StoreError> {
        let found: Vec<Found> = chosen.iter().map(|row| row.found()).collect();
        let done = requeue::put_back(tx, self.to(), &found, self.now).await?;
        ordering::to_the_end(tx, self.endpoint.id, done.clone(), self.now).await?;
        Ok(done)
    }

    fn to(&self) -> To {
        To { endpoint: self.endpoint.id, app: self.app, slot: self.slot }
    }

    /// The application's messages after `from`.
    pub(in crate::store) async fn read_missing(&self, tx: &mut Tx, from: Uuid) -> Result<Vec<MissingRow>, StoreError> {
        let within = along_application(tx.kind(), "$2", ["> $3", ">= $4", "< $5"]);
        let order = in_order_of_application(tx.kind(), "ASC");
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, event_type, channels, accepted_at,
                 CASE WHEN payload IS NULL OR EXISTS
                     (SELECT 1 FROM delivery d WHERE d.message_id = message.id AND d.endpoint_id = $1)
                 THEN 1 ELSE 0 END AS passed
             FROM message WHERE {within} ORDER BY {order} LIMIT $6"
        ));
        let (first, end) = self.filter.ids();
        Ok(on!(tx, db => {
            sqlx::query_as(sql)
                .bind(self.endpoint.id).bind(self.app).bind(from).bind(first).bind(end).bind(self.room.looks as i64)
                .fetch_all(db).await
        })?)
    }

    /// Whether the endpoint wants a message and has missed it. One that was disabled meanwhile still wants it: what it is given waits,
    /// like everything else there.
    pub(in crate::store) fn takes_missing(&self, row: &MissingRow) -> Result<bool, StoreError> {
        let filter = self.filter;
        let meant = row.passed == 0
            && (filter.since..filter.until).contains(&row.accepted_at)
            && (filter.event_types.is_empty() || filter.event_types.contains(&row.event_type));
        if !meant {
            return Ok(false);
        }
        let channels: Vec<String> = codec::from_json_opt(row.channels.as_deref())?.unwrap_or_default();
        let spec = &self.endpoint.spec;
        Ok(if spec.disabled {
            EndpointSpec { disabled: false, ..spec.clone() }.wants(&row.event_type, &channels)
        } else {
            spec.wants(&row.event_type, &channels)
        })
    }

    /// Gives the endpoint a delivery of each message that it wants and has none of. A scheduled one still waits for its time.
    pub(in crate::store) async fn send_missing(&self, tx: &mut Tx, from: Uuid) -> Result<Done, StoreError> {
        let rows = self.read_missing(tx, from).await?;
        let (chosen, done) = choose(self.room, &rows, |row| row.id, |row| self.takes_missing(row))?;
        let messages: Vec<MessageId> = chosen.iter().map(|row| row.id).collect();
        let sent = self.give(tx, &messages).await?;
        Ok(Done { sent, ..done })
    }

    /// Gives the endpoint a first delivery of each of these messages; gives back those that had none.
    pub(in crate::store::jobs) async fn give(
        &self,
        tx: &mut Tx,
        messages: &[MessageId],
    ) -> Result<Vec<MessageId>, StoreError> {
        let given = requeue::create_missing(tx, self.to(), messages, self.now).await?;
        ordering::to_the_end(tx, self.endpoint.id, given.clone(), self.now).await?;
        Ok(given)
    }
}
