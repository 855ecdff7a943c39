//! The shop that produces live events: half over REST, half through the outbox. It inserts outbox rows in one
//! transaction with its own row, over its own connection to the SQLite file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use url::Url;

use super::customers::{EVENT_TYPES, payload};

/// The mean time between two events.
pub(super) const EVENT_INTERVAL: Duration = Duration::from_secs(30);
/// The first events: every kind of receiver shows its behaviour soon.
const OPENING: [(&str, &str); 4] = [
    ("orbit-cycles", "order.created"),
    ("pine-and-paper", "customer.updated"),
    ("harbor-coffee", "invoice.paid"),
    ("orbit-cycles", "order.shipped"),
];
const OPENING_INTERVAL: Duration = Duration::from_millis(300);
/// Number of the first live order, above those of the history.
const FIRST_NUMBER: u64 = 10_000;

/// Events sent and failed.
#[derive(Default)]
pub(super) struct EventCounters {
    pub(super) rest: AtomicU64,
    pub(super) outbox: AtomicU64,
    pub(super) failed: AtomicU64,
}

pub(super) struct Shop {
    pub(super) base: Url,
    pub(super) token: String,
    pub(super) client: reqwest::Client,
    pub(super) database: PathBuf,
    pub(super) customers: Vec<&'static str>,
    pub(super) event_counters: Arc<EventCounters>,
}

impl Shop {
    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut connection = match self.connect().await {
            Ok(connection) => Some(connection),
            Err(error) => {
                tracing::warn!(%error, "the demo's shop has no connection to the database");
                None
            }
        };
        for number in FIRST_NUMBER.. {
            let opening = usize::try_from(number - FIRST_NUMBER).ok().and_then(|turn| OPENING.get(turn));
            let (customer, event_type) = opening.copied().unwrap_or_else(|| {
                let customer = self.customers[rand::random_range(0..self.customers.len())];
                (customer, EVENT_TYPES[rand::random_range(0..EVENT_TYPES.len())].0)
            });
            let payload = payload(event_type, number).to_string();
            let (count, done) = match &mut connection {
                Some(connection) if number % 2 == 1 => {
                    let done = insert(connection, customer, event_type, &payload).await;
                    (&self.event_counters.outbox, done.map_err(|error| error.to_string()))
                }
                _ => (&self.event_counters.rest, self.post(customer, event_type, number, &payload).await),
            };
            match done {
                Ok(()) => count.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    let before = self.event_counters.failed.fetch_add(1, Ordering::Relaxed);
                    // Later failures only show in the counters.
                    if before == 0 {
                        tracing::warn!(error, event_type, customer, "the demo's shop could not send an event");
                    }
                    before
                }
            };
            let wait = match opening {
                Some(_) => OPENING_INTERVAL,
                None => EVENT_INTERVAL.mul_f64(rand::random_range(0.2..1.8)),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Opens a connection as any local program could, and creates the shop's own table.
    async fn connect(&self) -> Result<SqliteConnection, sqlx::Error> {
        let options = SqliteConnectOptions::new().filename(&self.database).busy_timeout(Duration::from_secs(5));
        let mut connection = options.connect().await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS shop_event (number INTEGER PRIMARY KEY, customer TEXT, what TEXT)")
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }

    async fn post(&self, customer: &str, event_type: &str, number: u64, payload: &str) -> Result<(), String> {
        let url = self.base.join(&format!("api/v1/app/{customer}/msg/")).map_err(|error| error.to_string())?;
        let payload: Box<serde_json::value::RawValue> =
            serde_json::from_str(payload).map_err(|error| error.to_string())?;
        let body = json!({ "eventType": event_type, "eventId": format!("demo-{number}"), "payload": payload });
        let request = self.client.post(url).bearer_auth(&self.token).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.map_err(|error| error.to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("{status}: {}", answer.text().await.unwrap_or_default())),
        }
    }
}

/// Inserts the shop's row and the event in one transaction.
async fn insert(
    connection: &mut SqliteConnection,
    customer: &str,
    event_type: &str,
    payload: &str,
) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("INSERT INTO shop_event (customer, what) VALUES ($1, $2)")
        .bind(customer)
        .bind(event_type)
        .execute(&mut *tx)
        .await?;
    sqlx::query("INSERT INTO outbox (application, event_type, payload) VALUES ($1, $2, $3)")
        .bind(customer)
        .bind(event_type)
        .bind(payload)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}
