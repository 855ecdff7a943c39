//! The filter by event types, channel and tag that lists of messages and of attempts share.

use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::store::db::codec;
use crate::store::{Backend, Store, StoreError};

/// Selects messages; an empty list or `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFilter {
    pub event_types: Vec<String>,
    pub channel: Option<String>,
    pub tag: Option<String>,
}

impl TopicFilter {
    /// Whether it selects all messages.
    pub(in crate::store) fn is_any(&self) -> bool {
        *self == TopicFilter::default()
    }

    /// Appends the conditions on the columns of `message`.
    pub(in crate::store) fn push<Db: Database>(&self, store: &Store, sql: &mut QueryBuilder<Db>)
    where
        String: for<'t> Encode<'t, Db> + Type<Db>,
    {
        if !self.event_types.is_empty() {
            let mut list = sql.push(" AND event_type IN (").separated(", ");
            for name in &self.event_types {
                list.push_bind(name.clone());
            }
            sql.push(")");
        }
        // LIKE is case-insensitive on SQLite and cannot be used.
        let position = match store.inner.backend {
            Backend::Sqlite(_) => "instr",
            Backend::Postgres(_) => "strpos",
        };
        for (column, wanted) in [("channels", &self.channel), ("tags", &self.tag)] {
            if let Some(wanted) = wanted {
                // As a JSON string: other texts never occur in the column.
                let quoted = serde_json::Value::from(wanted.as_str()).to_string();
                sql.push(format!(" AND {position}({column}, ")).push_bind(quoted).push(") > 0");
            }
        }
    }

    /// Whether a message with these columns matches.
    pub(in crate::store) fn takes(
        &self,
        event_type: &str,
        channels: Option<&str>,
        tags: Option<&str>,
    ) -> Result<bool, StoreError> {
        Ok((self.event_types.is_empty() || self.event_types.iter().any(|name| name == event_type))
            && among(self.channel.as_deref(), channels)?
            && among(self.tag.as_deref(), tags)?)
    }
}

/// Whether a JSON list column contains `wanted`; `true` if nothing is wanted.
fn among(wanted: Option<&str>, column: Option<&str>) -> Result<bool, StoreError> {
    let Some(wanted) = wanted else { return Ok(true) };
    let list: Option<Vec<String>> = codec::from_json_opt(column)?;
    Ok(list.is_some_and(|list| list.iter().any(|one| one == wanted)))
}
