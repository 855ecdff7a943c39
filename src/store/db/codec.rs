//! Encoding of values in columns, for both databases: lists and maps as JSON text, header lists as lines, secrets
//! encrypted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::domain::access::operator::OperatorRole;
use crate::domain::catalog::application::Application;
use crate::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec, Headers};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::deliveries::message::Message;
use crate::domain::notifications::chat::ChatHook;
use crate::domain::signing::master_key::MasterKey;
use crate::domain::signing::secret::SignatureType;
use crate::domain::{AppId, EndpointId, MessageId, OperatorId, OrgId, Time, Uid};
use crate::store::StoreError;

/// Declares a struct that is read from a row of either database. Each field is read from the column of the same name.
/// The fields after `with` are structs of this kind, read from the same row. `COLUMNS` lists the columns for a
/// `SELECT`. If the fields have no types, the macro only implements reading, for a struct that is declared elsewhere.
///
/// sqlx's derive does the same, but compiles all database drivers a second time, because its macros contain them.
macro_rules! from_row {
    ($(#[$attribute:meta])* $vis:vis struct $name:ident {
        $($(#[$about:meta])* $seen:vis $column:ident: $type:ty),* $(,)?
    } $(with { $($(#[$part_about:meta])* $part_seen:vis $part:ident: $part_type:ty),* $(,)? })?) => {
        $(#[$attribute])*
        $vis struct $name {
            $($(#[$about])* $seen $column: $type,)*
            $($($(#[$part_about])* $part_seen $part: $part_type,)*)?
        }

        impl $name {
            #[allow(dead_code, reason = "not every row is read by the list of its columns")]
            pub(in crate::store) const COLUMNS: &str = $crate::store::db::codec::from_row!(@columns $($column)*);
        }

        $crate::store::db::codec::from_row!($name { $($column),* } $(with { $($part),* })?);
    };
    (@columns $first:ident $($column:ident)*) => {
        concat!(stringify!($first) $(, ", ", stringify!($column))*)
    };
    (@columns) => { "" };
    ($name:ident { $($column:ident),* } $(with { $($part:ident),* })?) => {
        $crate::store::db::codec::from_row!(@ sqlx::sqlite::SqliteRow, $name { $($column),* } { $($($part),*)? });
        $crate::store::db::codec::from_row!(@ sqlx::postgres::PgRow, $name { $($column),* } { $($($part),*)? });
    };
    (@ $row:ty, $name:ident { $($column:ident),* } { $($part:ident),* }) => {
        impl sqlx::FromRow<'_, $row> for $name {
            fn from_row(row: &$row) -> Result<$name, sqlx::Error> {
                Ok($name {
                    $($column: sqlx::Row::try_get(row, stringify!($column))?,)*
                    $($part: sqlx::FromRow::from_row(row)?,)*
                })
            }
        }
    };
}

pub(in crate::store) use from_row;

/// `value` as JSON text.
pub(in crate::store) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Refused(error.to_string()))
}

/// Parses a JSON column.
pub(in crate::store) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// Parses a nullable JSON column.
pub(in crate::store) fn from_json_opt<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, StoreError> {
    text.map(from_json).transpose()
}

/// A list as JSON text; NULL if it is empty.
pub(in crate::store) fn list_or_null(list: &[String]) -> Result<Option<String>, StoreError> {
    if list.is_empty() { Ok(None) } else { json(&list).map(Some) }
}

/// The organizations of an operator; NULL means all.
pub(in crate::store) fn operator_orgs(text: Option<&str>) -> Result<Option<Vec<OrgId>>, StoreError> {
    let wrong = |_| StoreError::Damaged("an operator has an invalid organization".to_owned());
    let list: Option<Vec<String>> = from_json_opt(text)?;
    list.map(|list| list.iter().map(|org| org.parse().map_err(wrong)).collect()).transpose()
}

/// An operator's role.
pub(in crate::store) fn operator_role(word: &str) -> Result<OperatorRole, StoreError> {
    OperatorRole::from_word(word).ok_or_else(|| StoreError::Damaged("an operator has an unknown role".to_owned()))
}

/// Headers as lines `name: value`. Replaces line breaks, and NUL, which PostgreSQL's text cannot hold.
pub(in crate::store) fn header_lines(headers: &[(String, String)]) -> String {
    let mut text = String::with_capacity(headers.iter().map(|(name, value)| name.len() + value.len() + 3).sum());
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.extend(value.chars().map(|c| if matches!(c, '\n' | '\r' | '\0') { ' ' } else { c }));
        text.push('\n');
    }
    text
}

/// Parses the lines of [`header_lines`].
pub(in crate::store) fn parse_header_lines(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

/// Replaces NUL, which PostgreSQL's text cannot hold.
pub(in crate::store) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

from_row! {
    /// A row of `application`, with the columns [`APPLICATION`].
    pub(in crate::store) struct ApplicationRow {
        id: AppId,
        org: OrgId,
        uid: Option<Uid>,
        name: String,
        throttle_rate: Option<i32>,
        metadata: String,
        contact_email: Option<String>,
        created_at: Time,
        updated_at: Time,
    }
}

pub(in crate::store) const APPLICATION: &str = ApplicationRow::COLUMNS;

impl ApplicationRow {
    pub(in crate::store) fn application(self) -> Result<Application, StoreError> {
        Ok(Application {
            id: self.id,
            org: self.org,
            uid: self.uid,
            name: self.name,
            throttle_rate: self.throttle_rate.and_then(|rate| u16::try_from(rate).ok()),
            metadata: from_json(&self.metadata)?,
            contact_email: self.contact_email,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

from_row! {
    /// A row of `endpoint`, with the columns [`ENDPOINT`].
    pub(in crate::store) struct EndpointRow {
        pub(in crate::store) id: EndpointId,
        app_id: AppId,
        slot: i16,
        uid: Option<Uid>,
        pub(in crate::store) url: String,
        chat: Option<Vec<u8>>,
        description: String,
        disabled: bool,
        disabled_reason: Option<String>,
        event_types: Option<String>,
        channels: Option<String>,
        throttle_rate: Option<i32>,
        timeout_s: Option<i32>,
        retry_schedule: Option<String>,
        ordered: bool,
        signature_type: String,
        api_version: Option<i32>,
        extra_signatures: String,
        headers: Option<Vec<u8>>,
        metadata: String,
        created_at: Time,
        updated_at: Time,
    }
}

pub(in crate::store) const ENDPOINT: &str = EndpointRow::COLUMNS;

impl EndpointRow {
    pub(in crate::store) fn slot(&self) -> u8 {
        u8::try_from(self.slot).unwrap_or_default()
    }

    /// The endpoint, and the first error. Unreadable fields get their defaults, so a damaged row stays visible and does
    /// not hide others.
    pub(in crate::store) fn read(self, master: &MasterKey) -> (Endpoint, Option<StoreError>) {
        fn kept<T: Default>(read: Result<T, StoreError>, fault: &mut Option<StoreError>) -> T {
            read.unwrap_or_else(|error| {
                fault.get_or_insert(error);
                T::default()
            })
        }
        let mut fault = None;
        let kind = SignatureType::from_word(&self.signature_type)
            .ok_or_else(|| StoreError::Damaged(format!("signature type {:?}", self.signature_type)));
        let spec = EndpointSpec {
            uid: self.uid,
            url: self.url,
            chat: kept(open_chat(master, self.id, self.chat.as_deref()), &mut fault),
            description: self.description,
            disabled: self.disabled,
            event_types: kept(from_json_opt(self.event_types.as_deref()), &mut fault),
            channels: kept(from_json_opt(self.channels.as_deref()), &mut fault),
            throttle_rate: self.throttle_rate.and_then(|rate| u16::try_from(rate).ok()),
            timeout: self.timeout_s.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
            retry_schedule: kept(read_schedule(self.retry_schedule.as_deref()), &mut fault),
            ordered: self.ordered,
            signature_type: kept(kind, &mut fault),
            version: self.api_version.and_then(|version| u32::try_from(version).ok()),
            extra_signatures: kept(from_json(&self.extra_signatures), &mut fault),
            headers: kept(open_headers(master, self.id, self.headers.as_deref()), &mut fault),
            metadata: kept(from_json(&self.metadata), &mut fault),
        };
        let endpoint = Endpoint {
            id: self.id,
            app_id: self.app_id,
            spec,
            disabled_reason: self.disabled_reason.as_deref().and_then(DisabledReason::from_word),
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        (endpoint, fault)
    }

    /// The endpoint for display, so it can be repaired; a read error is logged.
    pub(in crate::store) fn endpoint(self, master: &MasterKey) -> Endpoint {
        let (endpoint, fault) = self.read(master);
        if let Some(error) = fault {
            tracing::error!(endpoint = %endpoint.id, %error, "unreadable fields are shown with their defaults");
        }
        endpoint
    }
}

pub(in crate::store) fn read_schedule(text: Option<&str>) -> Result<Option<RetrySchedule>, StoreError> {
    let Some(waits) = from_json_opt::<Vec<f64>>(text)? else { return Ok(None) };
    RetrySchedule::new("retrySchedule", waits.into_iter().map(seconds).collect())
        .map(Some)
        .map_err(|wrong| StoreError::Damaged(wrong.to_string()))
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// A schedule as a JSON list of seconds.
pub(in crate::store) fn schedule(schedule: Option<&RetrySchedule>) -> Result<Option<String>, StoreError> {
    schedule.map(|schedule| json(&schedule.waits().iter().map(Duration::as_secs_f64).collect::<Vec<_>>())).transpose()
}

/// The associated data of a second factor's secret.
pub(in crate::store) fn totp_aad(operator: OperatorId) -> Vec<u8> {
    [b"second factor ".as_slice(), operator.0.as_bytes()].concat()
}

/// The associated data of an endpoint's encrypted headers, so no other ciphertext is accepted as them.
pub(in crate::store) fn headers_aad(id: EndpointId) -> Vec<u8> {
    [b"endpoint headers ", &id.0.as_bytes()[..]].concat()
}

/// The associated data of an endpoint's secret created at `made_at`, so an old secret is not accepted as the current
/// one.
pub(in crate::store) fn secret_aad(id: EndpointId, made_at: Time) -> Vec<u8> {
    [b"endpoint secret ", &id.0.as_bytes()[..], &made_at.micros().to_be_bytes()].concat()
}

/// Encrypts an endpoint's headers; NULL if it has none.
pub(in crate::store) fn seal_headers(
    master: &MasterKey,
    id: EndpointId,
    headers: &Headers,
) -> Result<Option<Vec<u8>>, StoreError> {
    if headers.is_empty() {
        return Ok(None);
    }
    Ok(Some(master.seal(&headers_aad(id), json(headers)?.as_bytes())))
}

fn open_headers(master: &MasterKey, id: EndpointId, sealed: Option<&[u8]>) -> Result<Headers, StoreError> {
    let Some(sealed) = sealed else { return Ok(BTreeMap::new()) };
    let plain = master.open(&headers_aad(id), sealed)?;
    // Without serde's message, which could quote a value.
    serde_json::from_slice(&plain).map_err(|_| StoreError::Damaged("headers are not a map of strings".into()))
}

/// The associated data of an endpoint's encrypted chat hook.
pub(in crate::store) fn chat_aad(id: EndpointId) -> Vec<u8> {
    [b"endpoint chat ", &id.0.as_bytes()[..]].concat()
}

/// Encrypts an endpoint's chat hook, whose URL is a secret; NULL if it has none.
pub(in crate::store) fn seal_chat(
    master: &MasterKey,
    id: EndpointId,
    chat: Option<&ChatHook>,
) -> Result<Option<Vec<u8>>, StoreError> {
    chat.map(|hook| Ok(master.seal(&chat_aad(id), json(hook)?.as_bytes()))).transpose()
}

fn open_chat(master: &MasterKey, id: EndpointId, sealed: Option<&[u8]>) -> Result<Option<ChatHook>, StoreError> {
    let Some(sealed) = sealed else { return Ok(None) };
    let plain = master.open(&chat_aad(id), sealed)?;
    serde_json::from_slice(&plain).map(Some).map_err(|_| StoreError::Damaged("a chat hook is not readable".into()))
}

from_row! {
    /// A row of `message`, with the columns [`MESSAGE`].
    pub(in crate::store) struct MessageRow {
        id: MessageId,
        app_id: AppId,
        event_type: String,
        event_id: Option<Uid>,
        channels: Option<String>,
        tags: Option<String>,
        payload: Option<Vec<u8>>,
        raw_type: Option<String>,
        occurred_at: Time,
        accepted_at: Time,
        deliver_at: Option<Time>,
        content_until: Option<Time>,
    }
}

pub(in crate::store) const MESSAGE: &str = MessageRow::COLUMNS;

impl MessageRow {
    pub(in crate::store) fn message(self) -> Result<Message, StoreError> {
        Ok(Message {
            id: self.id,
            app_id: self.app_id,
            event_type: self.event_type,
            event_id: self.event_id,
            channels: from_json_opt(self.channels.as_deref())?.unwrap_or_default(),
            tags: from_json_opt(self.tags.as_deref())?.unwrap_or_default(),
            payload: self.payload.map(Into::into),
            raw_type: self.raw_type,
            occurred_at: self.occurred_at,
            accepted_at: self.accepted_at,
            deliver_at: self.deliver_at,
            content_until: self.content_until,
        })
    }
}

/// Ids as UUIDs, to be bound.
pub(in crate::store) fn uuids<'a, T: Copy + Into<Uuid> + 'a>(ids: impl IntoIterator<Item = &'a T>) -> Vec<Uuid> {
    ids.into_iter().map(|id| (*id).into()).collect()
}

/// Ids for a query of a partitioned table, with their minimum and maximum: in a generic plan, PostgreSQL prunes
/// partitions by the range but not by the list. Nil for an empty list.
pub(in crate::store) fn with_bounds<'a, T: Copy + Into<Uuid> + 'a>(
    ids: impl IntoIterator<Item = &'a T>,
) -> (Vec<Uuid>, Uuid, Uuid) {
    let ids = uuids(ids);
    let (least, greatest) = (ids.iter().min().copied(), ids.iter().max().copied());
    (ids, least.unwrap_or_default(), greatest.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lines_round_trip_and_cannot_be_injected() {
        let headers = [("x-a".to_owned(), "1: 2".to_owned()), ("x-b".to_owned(), "a\r\nx-c: evil".to_owned())];
        let back = parse_header_lines(&header_lines(&headers));
        assert_eq!(back[0], headers[0]);
        assert_eq!(back[1], ("x-b".to_owned(), "a  x-c: evil".to_owned()));
        assert_eq!(back.len(), 2);
    }
}
