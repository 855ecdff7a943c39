//! Exports of a list, as CSV or JSON Lines: streamed page by page, from the newest row.
//!
//! * [`ExportSource`] – the list. [`csv`] – the CSV format.
//!
//! # Invariants
//!
//! * An export ends after [`MAX_ROWS`] rows, [`MAX_BYTES`] bytes or [`PATIENCE`]. Its last line then says where to
//!   continue.
//! * A failed export aborts the response, so no program mistakes it for a complete one.

mod csv;

use std::time::Duration;

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::dashboard::components::filtered_list::ListCursor;
use crate::dashboard::components::filters;
use crate::dashboard::components::filters::Filters;
use crate::dashboard::components::format::{UrlQuery, count};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::list_user::ListUser;
use crate::domain::Time;
use crate::store::{Scanned, Store, StoreError, Tenant};

/// Maximum rows of an export.
pub const MAX_ROWS: usize = 10_000;
/// Maximum bytes of an export.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Maximum duration of an export.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rows per read.
pub const PAGE: usize = 250;

/// The format of an export, named by the end of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    Csv,
    JsonLines,
}

impl ExportFormat {
    pub fn from_word(word: &str) -> Option<ExportFormat> {
        match word {
            "csv" => Some(ExportFormat::Csv),
            "jsonl" => Some(ExportFormat::JsonLines),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            ExportFormat::Csv => "csv",
            ExportFormat::JsonLines => "jsonl",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            ExportFormat::Csv => "text/csv; charset=utf-8",
            ExportFormat::JsonLines => "application/x-ndjson",
        }
    }

    /// The first line, if the format has one.
    fn head(self, columns: &[&str]) -> String {
        match self {
            ExportFormat::Csv => csv::line(columns.iter().map(|name| (*name).to_owned())),
            ExportFormat::JsonLines => String::new(),
        }
    }

    fn row(self, columns: &[&str], values: Vec<Value>) -> String {
        match self {
            ExportFormat::Csv => csv::line(values.into_iter().map(csv::text)),
            ExportFormat::JsonLines => {
                let fields: Map<String, Value> =
                    columns.iter().map(|name| (*name).to_owned()).zip(values).filter(|(_, v)| !v.is_null()).collect();
                format!("{}\n", Value::Object(fields))
            }
        }
    }

    fn note(self, text: &str) -> String {
        match self {
            ExportFormat::Csv => csv::line([format!("# {text}")]),
            ExportFormat::JsonLines => format!("{}\n", serde_json::json!({ "cutOff": text })),
        }
    }
}

/// A list to export.
pub trait ExportSource: 'static {
    type Item;
    type Cursor: ListCursor;

    /// The name of the file, and of the list.
    const NAME: &'static str;
    /// The names of the columns, in camelCase as in the REST API.
    const COLUMNS: &'static [&'static str];

    /// Reads up to [`PAGE`] rows after a cursor.
    async fn read(&self, after: Option<Self::Cursor>) -> Result<Scanned<Self::Item, Self::Cursor>, StoreError>;

    fn key(item: &Self::Item) -> Self::Cursor;

    /// One value per column; null: none.
    fn values(item: &Self::Item) -> Vec<Value>;
}

/// The format that a path ends with.
///
/// # Errors
/// There is no such format.
fn format_of(request: &HttpRequest) -> Result<ExportFormat, PageError> {
    let word = request.path().rsplit('.').next().unwrap_or_default();
    ExportFormat::from_word(word).ok_or(PageError::NotFound)
}

/// Responds with the export of a list, with the filters of the request; `names` are their URL parameters.
///
/// # Errors
/// A filter is invalid, there is no such format, or the store is unavailable.
pub async fn respond_filtered<S: ExportSource>(
    PageInput { state, request, user }: PageInput<ListUser>,
    names: &[&'static str],
    source: impl FnOnce(Store, Tenant, Filters) -> S,
) -> PageResult {
    let (query, now, format) = (UrlQuery::of(&request), state.clock.now(), format_of(&request)?);
    let (_, filters, _) = filters::read(&state.store, &user, user.context(), (S::NAME, names), &query, now).await?;
    if !filters.good() {
        return Err(PageError::BadRequest("A filter is invalid. Open the list to see which one."));
    }
    Ok(respond(source(state.store.clone(), user.tenant(), filters), format, now))
}

/// Responds with the export of a list.
fn respond<S: ExportSource>(source: S, format: ExportFormat, now: Time) -> HttpResponse {
    let day = now.to_string();
    let name = format!("{}-{}.{}", S::NAME, day.get(..10).unwrap_or_default(), format.word());
    let export =
        Export { source, format, after: None, rows: 0, bytes: 0, end: Instant::now() + PATIENCE, next: Part::Head };
    let parts = unfold(export, async |mut export| {
        let part = export.part().await?;
        Some((part.map(Bytes::from), export))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, format.content_type()))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")))
        .streaming(Box::pin(parts))
}

/// The next part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Rows,
    End,
}

struct Export<S: ExportSource> {
    source: S,
    format: ExportFormat,
    after: Option<S::Cursor>,
    rows: usize,
    bytes: usize,
    end: Instant,
    next: Part,
}

impl<S: ExportSource> Export<S> {
    /// The next part; `None`: the export is complete.
    async fn part(&mut self) -> Option<Result<String, StoreError>> {
        let text = match self.next {
            Part::End => return None,
            Part::Head => {
                self.next = Part::Rows;
                Ok(self.format.head(S::COLUMNS))
            }
            Part::Rows => self.page().await,
        };
        if text.is_err() {
            self.next = Part::End;
        }
        Some(text)
    }

    async fn page(&mut self) -> Result<String, StoreError> {
        let found = self.source.read(self.after).await?;
        let mut text = String::new();
        for item in &found.data {
            if self.rows >= MAX_ROWS || self.bytes + text.len() >= MAX_BYTES {
                return Ok(self.cut(text));
            }
            text.push_str(&self.format.row(S::COLUMNS, S::values(item)));
            self.rows += 1;
            self.after = Some(S::key(item));
        }
        self.bytes += text.len();
        self.after = found.stopped.or(self.after);
        if !found.more && found.stopped.is_none() {
            self.next = Part::End;
        } else if Instant::now() >= self.end {
            return Ok(self.cut(text));
        }
        Ok(text)
    }

    /// Ends the export early, with a last line that says where to continue.
    fn cut(&mut self, mut text: String) -> String {
        self.next = Part::End;
        // Until is exclusive. The deliveries of the last message are exported again.
        let until = self.after.map(|key| key.time().plus(Duration::from_millis(1)));
        let continued =
            until.map(|until| format!(" To continue, export with Until set to {until}.")).unwrap_or_default();
        text.push_str(&self.format.note(&format!("Cut off after {} rows.{continued}", count(self.rows as i64))));
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::export::*;
    use crate::domain::MessageId;

    /// A list: the number of its rows, and the bytes of each.
    struct Rows(usize, usize);

    impl ExportSource for Rows {
        type Item = (MessageId, String);
        type Cursor = MessageId;
        const NAME: &'static str = "rows";
        const COLUMNS: &'static [&'static str] = &["id", "text"];

        async fn read(&self, after: Option<MessageId>) -> Result<Scanned<Self::Item, MessageId>, StoreError> {
            let before = after.map_or(self.0, |id| id.0.as_u128() as usize);
            let from = before.saturating_sub(PAGE);
            let item = |n: usize| (MessageId(uuid::Uuid::from_u128(n as u128)), "=".repeat(self.1));
            Ok(Scanned { data: (from..before).rev().map(item).collect(), more: from > 0, stopped: None })
        }

        fn key(item: &Self::Item) -> MessageId {
            item.0
        }

        fn values(item: &Self::Item) -> Vec<Value> {
            vec![Value::from(item.0.to_string()), Value::from(item.1.clone())]
        }
    }

    async fn exported(rows: Rows, format: ExportFormat) -> String {
        let body = respond(rows, format, Time::ZERO).into_body();
        let bytes = actix_web::body::to_bytes(body).await.unwrap_or_else(|_| panic!("the stream fails"));
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_export_ends_at_its_limits_and_says_so() {
        for (count, size, rows, whole) in [
            (0, 1, 0, true),
            (PAGE + 1, 1, PAGE + 1, true),
            (MAX_ROWS, 1, MAX_ROWS, true),
            (MAX_ROWS + 1, 1, MAX_ROWS, false),
        ] {
            let text = exported(Rows(count, size), ExportFormat::Csv).await;
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!((lines[0], lines.len()), ("id,text", 1 + rows + usize::from(!whole)), "{count}");
            assert!(whole || lines.last().unwrap().contains("Cut off after 10,000 rows. To continue"), "{count}");
        }
        let text = exported(Rows(200, 200_000), ExportFormat::JsonLines).await;
        let lines: Vec<&str> = text.lines().collect();
        assert!(text.len() < MAX_BYTES + 300_000 && lines.len() < 100, "{} {}", text.len(), lines.len());
        let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        assert!(last["cutOff"].as_str().unwrap().starts_with("Cut off after"), "{last}");
        for line in &lines[..lines.len() - 1] {
            assert!(serde_json::from_str::<Value>(line).unwrap()["id"].is_string());
        }
    }
}
