//! A receiver with axum: stores each message once, responds at once, handles messages one after the other, and compares
//! with Sendoff every night.
//!
//! ```text
//! SECRET=whsec_… PORT=9000 cargo run
//! ```
//!
//! DATABASE is the file of the queue. The nightly comparison needs SENDOFF_URL, SENDOFF_TOKEN (a token for one application:
//! `sendoff token --app app_…`), APPLICATION and ENDPOINT.

use std::env::var;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use standardwebhooks::Webhook;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const MAX_BODY: usize = 1024 * 1024; // bytes
const MAX_IDS: usize = 10_000; // per comparison

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS inbox (
  position INTEGER PRIMARY KEY, -- the order of the queue
  id TEXT NOT NULL UNIQUE, -- webhook-id; duplicates have the same one
  payload TEXT NOT NULL,
  received_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
  status TEXT NOT NULL DEFAULT 'waiting', -- then done or failed
  error TEXT);
CREATE INDEX IF NOT EXISTS inbox_waiting ON inbox (position) WHERE status = 'waiting';
CREATE TABLE IF NOT EXISTS invoice (
  id TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, changes INTEGER NOT NULL);";

struct Inbox {
    webhook: Webhook,
    db: Mutex<Connection>,
    arrived: SyncSender<()>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let db = Connection::open(var("DATABASE").unwrap_or("inbox.db".to_owned()))?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.execute_batch(SCHEMA)?;
    let (arrived, arrivals) = sync_channel(1);
    let inbox = Arc::new(Inbox { webhook: Webhook::new(&var("SECRET")?)?, db: Mutex::new(db), arrived });
    let (worker, comparer) = (inbox.clone(), inbox.clone());
    thread::spawn(move || work(&worker, &arrivals));
    if var("SENDOFF_URL").is_ok() {
        thread::spawn(move || nightly(&comparer));
    }
    let app = Router::new().route("/hooks", post(receive)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(inbox);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", var("PORT")?.parse()?)).await?;
    Ok(axum::serve(listener, app).await?)
}

/// `Bytes` is the raw body: parsed and written again, it would not match the signature.
async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let (Some(id), Ok(()), Ok(payload)) = (id, inbox.webhook.verify(&body, &headers), String::from_utf8(body.into()))
    else {
        return StatusCode::UNAUTHORIZED;
    };
    match tokio::task::spawn_blocking(move || inbox.store(&id, &payload)).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT,
        other => {
            eprintln!("{other:?}");
            StatusCode::INTERNAL_SERVER_ERROR // Sendoff sends it again
        }
    }
}

fn work(inbox: &Inbox, arrivals: &Receiver<()>) {
    loop {
        match inbox.handle_next() {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => eprintln!("{error}"), // the database is locked: the next round tries again
        }
        let _ = arrivals.recv_timeout(Duration::from_secs(1));
    }
}

fn nightly(inbox: &Inbox) {
    let seconds = var("RECONCILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24.0 * 60.0 * 60.0);
    loop {
        if let Err(error) = inbox.reconcile() {
            eprintln!("{error}"); // Sendoff is away: the next night compares the same days again
        }
        thread::sleep(Duration::from_secs_f64(seconds));
    }
}

/// Messages may arrive in any order, so an older version does not replace a newer one.
fn handle(transaction: &Transaction<'_>, payload: &str) -> Result<(), AnyError> {
    #[derive(Deserialize)]
    struct Event {
        invoice: String,
        version: i64,
        state: String,
    }
    let event: Event = serde_json::from_str(payload)?;
    transaction.execute(
        "INSERT INTO invoice (id, version, state, changes) VALUES (?, ?, ?, 1)
         ON CONFLICT (id) DO UPDATE SET changes = changes + 1, version = MAX(version, excluded.version),
         state = CASE WHEN excluded.version > version THEN excluded.state ELSE state END",
        params![event.invoice, event.version, event.state],
    )?;
    Ok(())
}

impl Inbox {
    /// Commits a message before Sendoff hears that it has arrived. One that is known already changes nothing.
    fn store(&self, id: &str, payload: &str) -> Result<(), rusqlite::Error> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        db.execute("INSERT INTO inbox (id, payload) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", [id, payload])?;
        let _ = self.arrived.try_send(()); // one signal is enough
        Ok(())
    }

    /// The effect and the mark are one transaction: after a crash there are both or neither.
    fn handle_next(&self) -> Result<bool, rusqlite::Error> {
        let take = "UPDATE inbox SET status = 'done' WHERE position = (
                    SELECT MIN(position) FROM inbox WHERE status = 'waiting') RETURNING position, payload";
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = db.transaction()?;
        let row = transaction.query_row(take, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((position, payload)): Option<(i64, String)> = row else {
            return Ok(false);
        };
        transaction.execute_batch("SAVEPOINT effect")?;
        if let Err(failure) = handle(&transaction, &payload) {
            // It would fail again. Set `status` to 'waiting' once the cause is gone.
            transaction.execute_batch("ROLLBACK TO effect")?;
            let fail = "UPDATE inbox SET status = 'failed', error = ? WHERE position = ?";
            transaction.execute(fail, params![failure.to_string(), position])?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// The next ids of the inbox.
    fn known(&self, since: &str, after: Option<&str>) -> Result<Vec<String>, rusqlite::Error> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ids = db.prepare("SELECT id FROM inbox WHERE received_at >= ? AND id > ? ORDER BY id LIMIT ?")?;
        let rows = ids.query_map(params![since, after.unwrap_or(""), MAX_IDS as i64], |row| row.get(0))?;
        rows.collect()
    }

    fn two_days_ago(&self) -> Result<String, rusqlite::Error> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        db.query_row("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-2 days')", [], |row| row.get(0))
    }

    /// Asks Sendoff for the messages of the last two days that are not in the inbox.
    fn reconcile(&self) -> Result<(), AnyError> {
        #[derive(Deserialize)]
        struct Message {
            id: String,
            payload: Box<RawValue>,
        }
        #[derive(Deserialize)]
        struct Page {
            data: Vec<Message>,
            iterator: Option<String>,
            done: bool,
        }
        let (server, app, endpoint) = (var("SENDOFF_URL")?, var("APPLICATION")?, var("ENDPOINT")?);
        let url = format!("{server}/api/v1/app/{app}/endpoint/{endpoint}/reconcile");
        let (token, since) = (format!("Bearer {}", var("SENDOFF_TOKEN")?), self.two_days_ago()?);
        let mut after: Option<String> = None;
        loop {
            let has = self.known(&since, after.as_deref())?;
            let full = has.len() == MAX_IDS;
            let asked = json!({"since": since, "has": has, "hasMore": full, "iterator": after, "limit": 250});
            let request = ureq::post(&url).config().timeout_global(Some(Duration::from_secs(30))).build();
            let page: Page = request.header("authorization", &token).send_json(asked)?.body_mut().read_json()?;
            for message in &page.data {
                self.store(&message.id, message.payload.get())?;
            }
            after = match (page.done, full) {
                (true, false) => return Ok(()),
                (true, true) => has.last().cloned(),
                (false, _) => page.iterator,
            };
        }
    }
}
