//! Query strings and list pages.
//!
//! * [`Query`]: the decoded parameters. Lists may be comma-joined, repeated, named with a trailing `[]`, or any mix of
//!   these.
//! * [`PageKey`]: the sort key of a list: an id, or an event type name.
//! * [`ListOut`]: a page as JSON: `{data, iterator, prevIterator, done}`.
//!
//! An **iterator** is the key to continue from; a leading `-` walks back. Every page with an item has both iterators,
//! the last page too, since more items may follow later. A filtered page may be short or empty without being the last
//! one; `done` marks the last one.

use actix_web::http::Uri;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use crate::api::http::errors::ApiError;
use crate::domain::url_query::UrlQuery;
use crate::domain::{
    AppId, AttemptId, BackgroundId, EndpointId, Invalid, MessageId, PollingEndpointId, Time, ids, limits,
};
use crate::store::query::topic_filter::TopicFilter;
use crate::store::{Order, Page, PageRequest, Scanned};

/// Checks the URL's encoding. NUL is rejected here as well: PostgreSQL cannot store it in text, so no resource has it
/// in its name.
///
/// # Errors
/// 400: a malformed escape, invalid UTF-8 or a NUL.
pub(in crate::api) fn check_encoding(uri: &Uri) -> Result<(), ApiError> {
    for (place, text) in [("path", uri.path()), ("query", uri.query().unwrap_or_default())] {
        let wrong = match percent_decode_str(text).decode_utf8() {
            _ if !is_escaped(text) => "has a % without two hexadecimal digits after it",
            Err(_) => "is not UTF-8",
            Ok(text) if text.contains('\0') => "contains the character U+0000",
            Ok(_) => continue,
        };
        return Err(ApiError::malformed(format!("the {place} of the URL {wrong}")));
    }
    Ok(())
}

/// Whether every `%` begins an escape. Decoding leaves others as they are.
fn is_escaped(text: &str) -> bool {
    let digits = |rest: &str| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    text.split('%').skip(1).all(digits)
}

/// Items per page: default and maximum.
const LIMIT: (usize, usize) = (50, limits::PAGE);

/// The parameters of a query string.
pub(in crate::api) struct Query<'a>(UrlQuery<'a>);

impl<'a> Query<'a> {
    pub fn parse(query: &'a str) -> Query<'a> {
        Query(UrlQuery::parse(query))
    }

    /// A single-valued parameter.
    ///
    /// # Errors
    /// 422: given more than once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(ApiError::query(name, "must not be given more than once")),
        }
    }

    /// A text; empty counts as absent.
    ///
    /// # Errors
    /// 422: given more than once.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        Ok(self.one(name)?.filter(|value| !value.is_empty()))
    }

    /// All values of a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(key, _)| key.strip_suffix("[]").unwrap_or(key) == name);
        values.flat_map(|(_, value)| value.split(',')).filter(|one| !one.is_empty()).map(str::to_owned).collect()
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// 422: any other value.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.one(name)? {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(ApiError::query(name, "must be true or false")),
        }
    }

    /// The filter of lists of messages and attempts.
    ///
    /// # Errors
    /// 422: a value is invalid.
    pub fn topics(&self) -> Result<TopicFilter, ApiError> {
        Ok(TopicFilter {
            event_types: self.list("event_types"),
            channel: self.checked("channel", ids::channel)?,
            tag: self.checked("tag", ids::tag)?,
        })
    }

    /// A text that passes a rule such as [`ids::channel`].
    ///
    /// # Errors
    /// 422: the rule rejects it.
    pub fn checked(
        &self,
        name: &str,
        rule: impl Fn(&str, &str) -> Result<(), Invalid>,
    ) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        rule(name, text).map_err(|wrong| ApiError::query(name, wrong.reason))?;
        Ok(Some(text.to_owned()))
    }

    /// A point in time. Accepts an unescaped `+`, which decodes to a space, before the offset, and `2026-11-29
    /// 14:02:46 UTC`.
    ///
    /// # Errors
    /// 422: not RFC 3339.
    pub fn time(&self, name: &str) -> Result<Option<Time>, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let with_plus = || {
            let (time, offset) = text.trim().rsplit_once(' ')?;
            match offset {
                "UTC" => Time::parse(&format!("{}Z", time.replacen(' ', "T", 1))).ok(),
                offset => Time::parse(&format!("{time}+{offset}")).ok(),
            }
        };
        match Time::parse(text) {
            Ok(time) => Ok(Some(time)),
            Err(error) => with_plus().map(Some).ok_or_else(|| ApiError::query(name, error.to_string())),
        }
    }

    /// One of the numbers in `known`.
    ///
    /// # Errors
    /// 422: any other value.
    pub fn one_of(&self, name: &str, known: &[i32]) -> Result<Option<i32>, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match text.parse::<i32>().ok().filter(|number| known.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let known: Vec<String> = known.iter().map(i32::to_string).collect();
                Err(ApiError::query(name, format!("must be one of {}", known.join(", "))))
            }
        }
    }

    /// Rejects a filter that this release does not support: ignoring it would return more than was asked for.
    ///
    /// # Errors
    /// 422: it has another value than `harmless`.
    pub fn unsupported(&self, name: &str, harmless: &str) -> Result<(), ApiError> {
        match self.text(name)? {
            Some(value) if value != harmless => Err(ApiError::query(name, "is not supported yet: leave it out")),
            _ => Ok(()),
        }
    }

    /// The requested page. `order` is the default order, and the only one unless `may_choose`.
    ///
    /// # Errors
    /// 422: a limit outside 1–250, an unknown order, or an iterator of another list.
    pub fn page<K: PageKey>(&self, order: Order, may_choose: bool) -> Result<PageRequest<K>, ApiError> {
        let (usual, most) = LIMIT;
        let limit = match self.one("limit")?.map(str::parse::<usize>) {
            None => usual,
            Some(Ok(limit)) if (1..=most).contains(&limit) => limit,
            Some(_) => return Err(ApiError::query("limit", format!("must be 1 to {most}"))),
        };
        let order = match self.one("order")?.filter(|_| may_choose) {
            None => order,
            Some("ascending") => Order::Ascending,
            Some("descending") => Order::Descending,
            Some(_) => return Err(ApiError::query("order", "must be ascending or descending")),
        };
        let Some(text) = self.text("iterator")? else { return Ok(PageRequest::first(limit, order)) };
        let (back, key) = match text.strip_prefix('-') {
            Some(key) => (true, key),
            None => (false, text),
        };
        let key = K::read(key).ok_or_else(|| {
            ApiError::query("iterator", "is not an iterator of this list: use iterator or prevIterator from a response")
        })?;
        Ok(PageRequest { limit, order, after: Some(key), back })
    }
}

/// The sort key of a list, as it appears in iterators.
pub(in crate::api) trait PageKey: Sized {
    fn read(text: &str) -> Option<Self>;
    fn write(&self) -> String;
}

macro_rules! page_keys {
    ($($id:ident),*) => {
        $(impl PageKey for $id {
            fn read(text: &str) -> Option<$id> {
                text.parse().ok()
            }
            fn write(&self) -> String {
                self.to_string()
            }
        })*
    };
}

page_keys!(AppId, EndpointId, PollingEndpointId, MessageId, AttemptId, BackgroundId);

/// A name that begins with `-` would walk back: it is escaped by a leading `~`, which no name contains.
impl PageKey for String {
    fn read(text: &str) -> Option<String> {
        let name = text.strip_prefix('~').unwrap_or(text);
        ids::name("iterator", name, limits::NAME).ok().map(|()| name.to_owned())
    }

    fn write(&self) -> String {
        if self.starts_with('-') { format!("~{self}") } else { self.clone() }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ListResponse)]
pub(in crate::api) struct ListOut<T> {
    pub data: Vec<T>,
    /// Pass it as `iterator` to get the next page; `null` if this page is empty.
    pub iterator: Option<String>,
    /// Pass it as `iterator` to get the previous page.
    pub prev_iterator: Option<String>,
    /// Whether no more items follow in this direction.
    pub done: bool,
}

impl ListOut<Box<RawValue>> {
    /// Serializes the page of `request`: `out` converts an item, `key` is its sort key. The page ends before its items
    /// exceed [`limits::PAGE_BYTES`].
    ///
    /// # Errors
    /// 500: an item cannot be serialized.
    pub fn of<'p, K: PageKey, I, T: Serialize>(
        page: &'p Page<I>,
        request: &PageRequest<K>,
        key: impl Fn(&I) -> K,
        out: impl FnMut(&'p I) -> T,
    ) -> Result<Self, ApiError> {
        Ok(ListOut::new(&page.data, page.more, request, key, out)?.0)
    }

    /// A filtered page, which may have stopped before it was full. Its iterator continues after the last scanned row.
    ///
    /// # Errors
    /// As [`ListOut::of`].
    pub fn of_scanned<'p, K: PageKey, I, T: Serialize>(
        page: &'p Scanned<I, K>,
        request: &PageRequest<K>,
        key: impl Fn(&I) -> K,
        out: impl FnMut(&'p I) -> T,
    ) -> Result<Self, ApiError> {
        let (mut list, whole) = ListOut::new(&page.data, page.more, request, key, out)?;
        if let Some(stopped) = page.stopped.as_ref().filter(|_| whole) {
            let (on, back) = (stopped.write(), format!("-{}", stopped.write()));
            if request.back {
                list.prev_iterator = Some(back);
                list.iterator.get_or_insert(on);
            } else {
                list.iterator = Some(on);
                list.prev_iterator.get_or_insert(back);
            }
        }
        Ok(list)
    }

    /// The list, and whether it contains the whole page.
    fn new<'p, K: PageKey, I, T: Serialize>(
        page: &'p [I],
        more: bool,
        request: &PageRequest<K>,
        key: impl Fn(&I) -> K,
        mut out: impl FnMut(&'p I) -> T,
    ) -> Result<(Self, bool), ApiError> {
        // In the direction of the request, so the items that do not fit begin the next page.
        let walked: &mut dyn Iterator<Item = &'p I> =
            if request.back { &mut page.iter().rev() } else { &mut page.iter() };
        let (mut data, mut bytes) = (Vec::with_capacity(page.len()), 0);
        for item in walked {
            let raw = to_raw_value(&out(item)).map_err(|error| ApiError::internal(&error))?;
            bytes += raw.get().len();
            if bytes > limits::PAGE_BYTES && !data.is_empty() {
                break;
            }
            data.push(raw);
        }
        let whole = data.len() == page.len();
        let more = more || !whole;
        let kept = if request.back { &page[page.len() - data.len()..] } else { &page[..data.len()] };
        if request.back {
            data.reverse();
        }
        let list = ListOut {
            iterator: kept.last().map(|last| key(last).write()),
            prev_iterator: kept.first().map(|first| format!("-{}", key(first).write())),
            done: !more,
            data,
        };
        Ok((list, whole))
    }
}

#[cfg(test)]
mod tests;
