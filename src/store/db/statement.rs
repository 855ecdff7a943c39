//! Builder for SQL with bound values, used for the filters of lists. Both databases accept the same text and the same
//! placeholders.

use std::fmt::Write as _;

use uuid::Uuid;

/// A bound value.
#[derive(Clone, Debug)]
pub(in crate::store) enum SqlValue {
    Id(Uuid),
    Text(String),
    Number(i64),
    Bytes(Vec<u8>),
}

impl<T: Into<Uuid>> From<T> for SqlValue {
    fn from(id: T) -> SqlValue {
        SqlValue::Id(id.into())
    }
}

/// SQL text and its values.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Statement {
    pub text: String,
    pub values: Vec<SqlValue>,
}

impl Statement {
    pub(in crate::store) fn new(text: &str) -> Statement {
        Statement { text: text.to_owned(), values: Vec::new() }
    }

    /// Appends text. Must be a constant: never user input.
    pub(in crate::store) fn push(&mut self, text: &str) -> &mut Statement {
        self.text.push_str(text);
        self
    }

    /// Appends a placeholder and binds its value.
    pub(in crate::store) fn bind(&mut self, value: impl Into<SqlValue>) -> &mut Statement {
        self.values.push(value.into());
        let _ = write!(self.text, "${}", self.values.len());
        self
    }

    /// Appends a list of placeholders in parentheses.
    pub(in crate::store) fn list(&mut self, values: impl IntoIterator<Item = SqlValue>) -> &mut Statement {
        self.push("(");
        for (n, value) in values.into_iter().enumerate() {
            self.push(if n == 0 { "" } else { ", " }).bind(value);
        }
        self.push(")")
    }
}

/// Makes a query of a [`Statement`]. It is not prepared, because there are too many different texts, and is planned
/// for its values.
macro_rules! query_of {
    ($query:ident, $statement:expr) => {{
        let statement: &$crate::store::db::statement::Statement = $statement;
        let mut query = sqlx::$query(sqlx::AssertSqlSafe(statement.text.as_str())).persistent(false);
        for value in &statement.values {
            query = match value {
                $crate::store::db::statement::SqlValue::Id(id) => query.bind(*id),
                $crate::store::db::statement::SqlValue::Text(text) => query.bind(text.as_str()),
                $crate::store::db::statement::SqlValue::Number(number) => query.bind(*number),
                $crate::store::db::statement::SqlValue::Bytes(bytes) => query.bind(bytes.as_slice()),
            };
        }
        query
    }};
}

pub(in crate::store) use query_of;
