//! The lists of an organization with few rows cost what these few cost, whatever another one has.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use sendoff::store::query::delivery_list::DeliveryFilter;
use sendoff::store::query::message_list::MessageSearch;
use sendoff::store::query::tail::TailFilter;
use sendoff::store::{Location, Store, Tenant};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::home::*;
use crate::support::{SOON, alone, eventually};

alone! {
    on_postgres_a_quiet_organization_reads_its_own_rows
    on_sqlite_a_quiet_organization_reads_its_own_rows
}

const ORGANIZATIONS: usize = 50;
/// Messages of the first organization, and of each of the others. Each has one delivery, delivered with the first attempt.
const LARGE: usize = 20_000;
const SMALL: usize = 4;
/// Index entries and rows that all four lists may read: each row of the quiet organization, a few times.
const MOST_READ: i64 = 30 * SMALL as i64;

/// Fills the store; gives the tenant of a quiet organization.
async fn fill(home: &Home) -> Tenant {
    let from = |rows: usize| match home.is_sqlite() {
        true => {
            format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i FROM n")
        }
        false => format!("SELECT i FROM generate_series(1, {rows}) AS i"),
    };
    let mut tenants = Vec::new();
    for n in 0..ORGANIZATIONS {
        let tenant = Tenant::org(org(&format!("org_{n}")));
        let app = home.store.create_application(&tenant, app_spec("acme"), NOW).await.expect("an application");
        let made = home.store.create_endpoint(&tenant, app.id, endpoint_spec(), &secret(), NOW).await;
        let made = made.expect("an endpoint");
        let literal = |id: uuid::Uuid| match home.is_sqlite() {
            true => format!("x'{}'", id.simple()),
            false => format!("CAST('{id}' AS uuid)"),
        };
        // The large one's are spread over the whole time, so that everybody else's lie among them.
        let (rows, step) = if n == 0 { (LARGE, 1) } else { (SMALL, LARGE / SMALL) };
        let at = format!("({} + i * {step})", NOW.millis());
        let id = match home.is_sqlite() {
            true => format!("unhex(printf('%012x7{n:03x}8%015x', {at}, i))"),
            false => format!("CAST(lpad(to_hex({at}), 12, '0') || '7{n:03x}8' || lpad(to_hex(i), 15, '0') AS uuid)"),
        };
        let (app, endpoint, rows) = (literal(app.id.0), literal(made.id.0), from(rows));
        let empty = home.either("x''", "''");
        home.execute(&format!(
            "INSERT INTO message (id, app_id, org, event_type, deliveries, occurred_at, accepted_at)
             SELECT {id}, {app}, 'org_{n}', 'a', 1, {at} * 1000, {at} * 1000 FROM ({rows}) AS n"
        ))
        .await;
        home.execute(&format!(
            "INSERT INTO attempt (id, message_id, endpoint_id, app_id, org, number, generation, settles, trigger, at, url,
                 request_headers, detail, status, duration_us, response_headers, response_body)
             SELECT {id}, {id}, {endpoint}, {app}, 'org_{n}', 1, 0, 1, 0, {at} * 1000, '', '', '', 200, 5000, '', {empty}
             FROM ({rows}) AS n"
        ))
        .await;
        tenants.push(tenant);
    }
    tenants.swap_remove(ORGANIZATIONS / 2)
}

/// Reads each list of an organization once.
async fn read_lists(store: &Store, tenant: &Tenant) {
    let deliveries = store.list_deliveries(tenant, &DeliveryFilter::default(), None, 50).await.expect("deliveries");
    assert_eq!(deliveries.data.len(), SMALL, "deliveries");
    let messages = store.list_messages(tenant, &MessageSearch::default(), None, 50).await.expect("messages");
    assert_eq!(messages.data.len(), SMALL, "messages");
    assert_eq!(store.newest_attempts(tenant, false, None, 50).await.expect("attempts").len(), SMALL, "attempts");
    assert_eq!(store.tail(tenant, &TailFilter::default(), 50).await.expect("the tail").len(), SMALL, "the tail");
}

/// The tables that hold deliveries, and the partitions of two of them.
const TABLES: &str = "relname IN ('due', 'dead') OR relname ~ '^(message|attempt)_' AND relname <> 'message_key'";

/// What PostgreSQL has counted so far: rows that were read past the indexes, entries that were read in them, and the connections that may
/// still have something to add: what a connection did is counted when it ends, if not before.
async fn counted(url: &str) -> (i64, i64, i64) {
    let sql = AssertSqlSafe(format!(
        "SELECT (SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE {TABLES}),
             (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE {TABLES}),
             (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                  AND backend_type = 'client backend' AND pid <> pg_backend_pid())"
    ));
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL");
    let row = connection.fetch_one(sql).await.expect("counts");
    connection.close().await.expect("closed");
    (row.get(0), row.get(1), row.get(2))
}

/// The counts, once nobody else is connected.
async fn counted_alone(url: &str) -> (i64, i64) {
    eventually("all other connections are gone", SOON, async || {
        let (rows, entries, others) = counted(url).await;
        (others == 0).then_some((rows, entries))
    })
    .await
}

async fn on_postgres_a_quiet_organization_reads_its_own_rows() {
    let home = Home::postgres().await;
    let quiet = fill(&home).await;
    home.execute("VACUUM ANALYZE").await;
    let Home { location, master, store, .. } = home;
    drop(store);
    let Location::Postgres(url) = &location else { panic!("PostgreSQL") };
    let before = counted_alone(url).await;
    let store = open(&location, &master).await;
    read_lists(&store, &quiet).await;
    drop(store);
    let after = counted_alone(url).await;
    assert_eq!(after.0 - before.0, 0, "rows were read past the indexes");
    let read = after.1 - before.1;
    assert!(read >= 4 * SMALL as i64, "only {read} index entries were counted");
    assert!(read <= MOST_READ, "{read} index entries were read, {MOST_READ} are allowed");
}

/// The statements that were run since this was emptied.
static STATEMENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Statements;

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            let mut statement = Statement::default();
            event.record(&mut statement);
            let text = if statement.whole.trim().is_empty() { statement.summary } else { statement.whole };
            STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
    }
}

/// A short statement is its summary; of a longer one there is the whole text beside it.
#[derive(Default)]
struct Statement {
    summary: String,
    whole: String,
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => self.summary = value.to_owned(),
            "db.statement" => self.whole = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Steps over the rows that a step before has found: of a view, each arm is a step of its own.
const NO_TABLES: [&str; 4] = ["SCAN standing", "SCAN delivery", "json_each", "CONSTANT ROW"];

/// The steps of SQLite's plan for a statement.
async fn plan(home: &Home, statement: &str) -> Vec<String> {
    let Raw::Sqlite(mut connection) = home.connect().await else { panic!("SQLite") };
    let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    connection.fetch_all(sql).await.expect("a plan").iter().map(|row| row.get("detail")).collect()
}

async fn on_sqlite_a_quiet_organization_reads_its_own_rows() {
    let home = Home::sqlite().await;
    let quiet = fill(&home).await;
    // SQLite's statements run in threads of their own: only the process's subscriber sees them.
    let subscriber = tracing_subscriber::registry().with(Statements);
    tracing::subscriber::set_global_default(subscriber).expect("the only one of this process");
    read_lists(&home.store, &quiet).await;
    let statements = std::mem::take(&mut *STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner));
    let reads = |statement: &&String| {
        let named =
            |table: &str| statement.contains(&format!("FROM {table}")) || statement.contains(&format!("JOIN {table}"));
        ["message", "attempt", "due", "dead", "delivery", "standing"].iter().any(|table| named(table))
    };
    let mut indexes = Vec::new();
    for statement in statements.iter().filter(reads) {
        for step in plan(&home, statement).await {
            let walks = step.starts_with("SCAN ") && !NO_TABLES.iter().any(|name| step.contains(name));
            let ranges = step.starts_with("SEARCH ") && !step.contains("=?");
            assert!(!walks && !ranges, "{step}: reads rows of others, in {statement}");
            indexes.push(step);
        }
    }
    for index in ["message_of_org (org=?", "attempt_of_org (org=?"] {
        assert!(indexes.iter().any(|step| step.contains(index)), "{index} is not used: {indexes:?}");
    }
}
