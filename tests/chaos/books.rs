//! What the store says, read past the product: one connection for each question.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

use crate::ledger::Pair;

/// Where the books are.
#[derive(Clone, Debug)]
pub struct Books {
    url: String,
}

/// A delivery, as the store has it. 0 and 1 are pending, 2 is delivered, 3 is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub pair: Pair,
    pub state: i64,
    pub attempts: i64,
}

const PENDING: &str = "SELECT e.url, m.event_id FROM delivery d
     JOIN message m ON m.id = d.message_id JOIN endpoint e ON e.id = d.endpoint_id WHERE d.state <= 1";
const ENTRIES: &str = "SELECT e.url, m.event_id, CAST(d.state AS bigint), CAST(d.attempts AS bigint) FROM delivery d
     JOIN message m ON m.id = d.message_id JOIN endpoint e ON e.id = d.endpoint_id";
/// What must never be, whatever happens.
const ORPHANS: [(&str, &str); 5] = [
    (
        "messages without deliveries",
        "SELECT count(*) FROM message m WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.message_id = m.id)",
    ),
    (
        "deliveries without a message",
        "SELECT count(*) FROM delivery d WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = d.message_id)",
    ),
    (
        "attempts without a delivery",
        "SELECT count(*) FROM attempt a WHERE NOT EXISTS
             (SELECT 1 FROM delivery d WHERE d.message_id = a.message_id AND d.endpoint_id = a.endpoint_id)",
    ),
    (
        "deliveries that count more attempts than there are",
        // Counted in one pass: delivery by delivery, SQLite reads all attempts of the endpoint each time.
        "SELECT count(*) FROM delivery d LEFT JOIN
             (SELECT message_id, endpoint_id, count(*) AS made FROM attempt GROUP BY message_id, endpoint_id) AS a
             ON a.message_id = d.message_id AND a.endpoint_id = d.endpoint_id WHERE d.attempts > coalesce(a.made, 0)",
    ),
    (
        "event ids that became two messages",
        "SELECT count(*) FROM (SELECT event_id FROM message GROUP BY event_id HAVING count(*) > 1) AS twice",
    ),
];

impl Books {
    pub fn at(url: &str) -> Books {
        Books { url: url.to_owned() }
    }

    pub fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// The file, if it is one.
    pub fn sqlite(&self) -> SqliteConnectOptions {
        let path = Path::new(self.url.trim_start_matches("sqlite:"));
        SqliteConnectOptions::new().filename(path).busy_timeout(std::time::Duration::from_secs(10))
    }

    pub async fn postgres(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = PgConnection::connect(&self.url).await?;
        sqlx::raw_sql("SET search_path = sendoff").execute(&mut connection).await?;
        Ok(connection)
    }

    /// Runs statements; gives back how many rows they changed.
    pub async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.is_sqlite() {
            let mut connection = self.sqlite().connect().await?;
            let done = sqlx::raw_sql(sql).execute(&mut connection).await?.rows_affected();
            connection.close().await?;
            Ok(done)
        } else {
            let mut connection = self.postgres().await?;
            let done = sqlx::raw_sql(sql).execute(&mut connection).await?.rows_affected();
            connection.close().await?;
            Ok(done)
        }
    }

    /// Rows of `columns` numbers after `texts` texts.
    async fn rows(&self, sql: &str, texts: usize, columns: usize) -> Result<Vec<(Vec<String>, Vec<i64>)>, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        macro_rules! rows {
            ($connection:expr) => {{
                let mut connection = $connection;
                let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
                connection.close().await?;
                rows.into_iter()
                    .map(|row| {
                        let words = (0..texts).map(|n| row.try_get(n)).collect::<Result<_, _>>()?;
                        let numbers = (texts..texts + columns).map(|n| row.try_get(n)).collect::<Result<_, _>>()?;
                        Ok((words, numbers))
                    })
                    .collect()
            }};
        }
        if self.is_sqlite() { rows!(self.sqlite().connect().await?) } else { rows!(self.postgres().await?) }
    }

    async fn try_pending(&self) -> Result<Vec<Pair>, sqlx::Error> {
        Ok(self.rows(PENDING, 2, 0).await?.into_iter().map(|(words, _)| pair(words)).collect())
    }

    /// What waits or is in flight.
    pub async fn pending(&self) -> Vec<Pair> {
        self.try_pending().await.expect("the store answers")
    }

    /// Every delivery.
    pub async fn entries(&self) -> Vec<Entry> {
        let rows = self.rows(ENTRIES, 2, 2).await.expect("the store answers");
        rows.into_iter()
            .map(|(words, numbers)| Entry { pair: pair(words), state: numbers[0], attempts: numbers[1] })
            .collect()
    }

    /// A single number.
    pub async fn number(&self, sql: &str) -> i64 {
        self.numbers(sql).await[0]
    }

    /// A column of numbers.
    pub async fn numbers(&self, sql: &str) -> Vec<i64> {
        let rows = self.rows(sql, 0, 1).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|(_, numbers)| numbers[0]).collect()
    }

    /// How much is not delivered or dead yet, outbox rows among it; `None`: the store is away.
    pub async fn waiting(&self) -> Option<i64> {
        const SQL: &str =
            "SELECT CAST((SELECT count(*) FROM delivery WHERE state <= 1) + (SELECT count(*) FROM outbox) AS bigint)";
        Some(self.rows(SQL, 0, 1).await.ok()?[0].1[0])
    }

    /// What must never be, and is.
    pub async fn orphans(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (what, sql) in ORPHANS {
            match self.number(sql).await {
                0 => {}
                count => found.push(format!("{count} {what}")),
            }
        }
        found
    }
}

/// The path alone: the receiver's port is the same for all.
fn pair(words: Vec<String>) -> Pair {
    let [url, key] = <[String; 2]>::try_from(words).expect("two columns");
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    (format!("/{path}"), key)
}
