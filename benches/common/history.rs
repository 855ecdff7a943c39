//! A month of history, created inside the database: 50 applications with 200 endpoints, one message per delivery,
//! attempts, and compacted counts.
//!
//! One application in ten has an endpoint that fails 30 % of its first attempts; elsewhere it is 1.5 %. A tenth of the
//! failed deliveries is dead, some from the last day wait for a retry, and the rest was delivered on the second
//! attempt. Nothing is due, so the engine stays idle.

use std::time::Duration;

use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::time::Clock;
use sendoff::domain::{AppId, EndpointId, MessageId, OrgId, Time};
use sendoff::store::{Location, Store, StoreOptions, Tenant};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use uuid::Uuid;

use super::sync_file;
use crate::support::server::MASTER_KEY;

const APPLICATIONS: usize = 50;
/// Per application.
const ENDPOINTS: usize = 4;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(30 * 86_400);
const BOUNDS_MS: [u64; 11] = sendoff::store::recording::rollups::LATENCY_BOUNDS_MS;

/// Ids of objects with much history.
pub struct HistoryIds {
    pub app: String,
    pub endpoint: String,
    pub message: String,
}

impl HistoryIds {
    /// Replaces `{app}`, `{endpoint}` and `{message}` in a path.
    pub fn path(&self, path: &str) -> String {
        path.replace("{app}", &self.app).replace("{endpoint}", &self.endpoint).replace("{message}", &self.message)
    }
}

/// Fills an empty database. Must not run inside a runtime, because each step has its own.
pub fn fill(url: &str, deliveries: u64) -> HistoryIds {
    let now = Clock.now();
    // Dropping a step's runtime closes its connections.
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let endpoints = run().block_on(customers(url, now));
    let first = endpoints[0];
    let statements = Statements { sqlite: url.starts_with("sqlite:"), now, deliveries };
    run().block_on(async {
        if statements.sqlite {
            let mut connection = SqliteConnection::connect(url).await.expect("SQLite");
            let settings = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
                 PRAGMA cache_size = -1000000";
            connection.execute(settings).await.expect("settings");
            for sql in statements.all(&endpoints) {
                connection.execute(AssertSqlSafe(sql)).await.expect("a statement");
            }
            connection.close().await.expect("closed");
            sync_file(url);
        } else {
            let mut connection = PgConnection::connect(url).await.expect("PostgreSQL");
            let settings = "SET search_path = sendoff; SET jit = off; SET work_mem = '256MB'";
            connection.execute(settings).await.expect("settings");
            for sql in statements.all(&endpoints) {
                connection.execute(AssertSqlSafe(sql)).await.expect("a statement");
            }
            // Like autovacuum. Sendoff does nothing like it on SQLite.
            connection.execute("VACUUM ANALYZE").await.expect("statistics");
            connection.close().await.expect("closed");
        }
    });
    // The last message of the first endpoint, which fails often.
    let last = (deliveries.max(200) - 1) / 200 * 200;
    HistoryIds {
        app: first.0.to_string(),
        endpoint: first.1.to_string(),
        message: statements.message(last).to_string(),
    }
}

/// Creates the applications and endpoints like the API does.
async fn customers(url: &str, now: Time) -> Vec<(AppId, EndpointId)> {
    let options = StoreOptions {
        location: Location::parse(url).expect("a location"),
        master: MasterKey::parse(MASTER_KEY).expect("a key"),
        max_payload: 1 << 20,
        queue: 1_000,
        wide: sendoff::store::WIDE,
    };
    let (store, tenant, made_at) =
        (Store::open(options).await.expect("a store"), Tenant::org(OrgId::default_org()), now.minus(MONTH));
    store.migrate().await.expect("the schema");
    let mut endpoints = Vec::new();
    for n in 0..APPLICATIONS {
        let spec = ApplicationSpec { name: format!("Customer {n}"), ..ApplicationSpec::default() };
        let app = store.create_application(&tenant, spec, made_at).await.expect("an application");
        for m in 0..ENDPOINTS {
            let url = format!("https://hooks.customer-{n}.example/{m}");
            let spec = EndpointSpec { url, ..EndpointSpec::default() };
            let secret = Secret::generate(SignatureType::Hmac256);
            let made = store.create_endpoint(&tenant, app.id, spec, &secret, made_at).await.expect("an endpoint");
            endpoints.push((app.id, made.id));
        }
    }
    endpoints
}

/// The SQL for one of the two databases.
struct Statements {
    sqlite: bool,
    now: Time,
    deliveries: u64,
}

impl Statements {
    fn all(&self, endpoints: &[(AppId, EndpointId)]) -> Vec<String> {
        let mut all = vec![
            self.endpoints(endpoints),
            self.messages(),
            self.due(),
            self.dead(),
            self.attempts(1),
            self.attempts(2),
        ];
        let hour = self.now.minus(HOUR).floor(HOUR);
        let day = self.now.minus(DAY * 7).floor(DAY);
        for (table, column, width, since, until) in [
            ("rollup", "minute", Duration::from_secs(60), hour, Time::MAX),
            ("rollup_hour", "hour", HOUR, day, hour),
            ("rollup_day", "day", DAY, Time::ZERO, day),
        ] {
            all.push(self.counts(table, width, since, until));
            all.push(self.counts_of_all(table, column));
        }
        all
    }

    fn either(&self, sqlite: String, postgres: String) -> String {
        if self.sqlite { sqlite } else { postgres }
    }

    fn literal(&self, id: Uuid) -> String {
        self.either(format!("x'{}'", id.simple()), format!("CAST('{id}' AS uuid)"))
    }

    fn bytes(&self, text: &str) -> String {
        self.either(format!("CAST({text} AS BLOB)"), format!("convert_to({text}, 'UTF8')"))
    }

    /// A UUIDv7 from SQL expressions: a time in milliseconds, and two numbers that make it unique.
    fn id(&self, millis: &str, kind: &str, n: &str) -> String {
        self.either(
            format!("unhex(printf('%012x7%03x8%015x', {millis}, {kind}, {n}))"),
            format!(
                "CAST(lpad(to_hex({millis}), 12, '0') || '7' || lpad(to_hex({kind}), 3, '0') || '8' || lpad(to_hex({n}), 15, '0') AS uuid)"
            ),
        )
    }

    fn began(&self) -> u64 {
        self.now.minus(MONTH).millis()
    }

    /// The id that [`Statements::messages`] gives to the n-th message.
    fn message(&self, n: u64) -> MessageId {
        let millis = self.began() + (u128::from(n) * MONTH.as_millis() / u128::from(self.deliveries)) as u64;
        MessageId(format!("{millis:012x}70008{n:015x}").parse().expect("a UUID"))
    }

    fn endpoints(&self, endpoints: &[(AppId, EndpointId)]) -> String {
        let rows = endpoints.iter().enumerate();
        let rows: Vec<String> =
            rows.map(|(n, (app, id))| format!("({n}, {}, {})", self.literal(app.0), self.literal(id.0))).collect();
        let kind = if self.sqlite { "BLOB" } else { "UUID" };
        format!(
            "CREATE TEMPORARY TABLE seeded (n BIGINT PRIMARY KEY, app_id {kind}, id {kind}); INSERT INTO seeded VALUES {}",
            rows.join(", ")
        )
    }

    /// One row per delivery: `i`, its time in ms, its endpoint and its `fate`: 0 delivered at once, 1 waiting for a
    /// retry, 2 delivered on the second attempt, 3 dead.
    fn rows(&self) -> String {
        let (count, began, month) = (self.deliveries, self.began(), MONTH.as_millis());
        let series = self.either(
            format!(
                "(WITH RECURSIVE s (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < {count} - 1) SELECT i FROM s)"
            ),
            format!("(SELECT i FROM generate_series(CAST(0 AS bigint), {count} - 1) AS i)"),
        );
        format!(
            "(SELECT i, ms, h, e.id AS endpoint_id, e.app_id, CASE WHEN h >= CASE WHEN plan.n % 20 = 0 THEN 300 ELSE 15 END THEN 0
                 WHEN h % 10 = 0 THEN 3 WHEN i >= {count} - {count} / 30 AND h % 10 < 5 THEN 1 ELSE 2 END AS fate
             FROM (SELECT i, {began} + i * {month} / {count} AS ms, i % 200 AS n, (i * 7919 + i / 200) % 1000 AS h
                   FROM {series} AS series) AS plan
             CROSS JOIN seeded e WHERE e.n = plan.n) AS plan"
        )
    }

    fn messages(&self) -> String {
        let payload = format!("'{{\"invoice\": ' || i || ', \"note\": \"{}\"}}'", "0123456789 ".repeat(24));
        format!(
            "INSERT INTO message (id, app_id, org, deliveries, event_type, payload, occurred_at, accepted_at)
             SELECT {}, app_id, 'org_default', 1, CASE i % 3 WHEN 0 THEN 'invoice.paid' WHEN 1 THEN 'invoice.created' ELSE 'user.invited' END,
                 {}, ms * 1000, ms * 1000 FROM {}",
            self.id("ms", "0", "i"),
            self.bytes(&payload),
            self.rows()
        )
    }

    /// Deliveries waiting for a retry.
    fn due(&self) -> String {
        format!(
            "INSERT INTO due (message_id, endpoint_id, app_id, slot, kind, due_at, attempts, step, generation, trigger)
             SELECT {}, endpoint_id, app_id, (SELECT slot FROM endpoint WHERE endpoint.id = plan.endpoint_id), 1,
                 {} + (h + 60) * 60000000, 1, 1, 0, 0 FROM {} WHERE fate = 1",
            self.id("ms", "0", "i"),
            self.now.micros(),
            self.rows()
        )
    }

    fn dead(&self) -> String {
        format!(
            "INSERT INTO dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation)
             SELECT {}, endpoint_id, app_id, 'org_default', 'exhausted', ms * 1000, 2, 1, 0 FROM {} WHERE fate = 3",
            self.id("ms", "0", "i"),
            self.rows()
        )
    }

    /// The first attempts, or the second ones five minutes later.
    fn attempts(&self, number: u32) -> String {
        let (at, which) = if number == 1 { ("ms + 20", "fate >= 0") } else { ("ms + 300000", "fate >= 2") };
        let delivered = format!("(fate = 0 OR (fate = 2 AND {number} = 2))");
        // 80 % within 60 ms, 18 % within 400 ms, and 2 % up to 6 s.
        let took = "CASE WHEN h * 37 % 100 < 80 THEN 8000 + h * 50 WHEN h * 37 % 100 < 98 THEN 60000 + h * 340 ELSE 400000 + h * 5600 END";
        let headers = "'content-type: application/json' || chr(10) || 'user-agent: Sendoff/0.1.0' || chr(10) || 'webhook-id: ' || i || chr(10)
             || 'webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=' || chr(10)";
        let headers = if self.sqlite { headers.replace("chr(", "char(") } else { headers.to_owned() };
        format!(
            "INSERT INTO attempt (id, message_id, endpoint_id, app_id, org, number, generation, settles, trigger, at, url,
                 request_headers, failure, detail, status, duration_us, response_headers, response_body, next_at)
             SELECT {}, {}, endpoint_id, app_id, 'org_default', {number}, 0, CASE WHEN {delivered} THEN {number} END, 0,
                 ({at}) * 1000, 'https://hooks.customer.example/hook', {headers},
                 CASE WHEN {delivered} THEN NULL ELSE 'status' END,
                 CASE WHEN {delivered} THEN '' ELSE 'the receiver answered 503' END,
                 CASE WHEN {delivered} THEN 200 ELSE 503 END, {took}, 'content-type: text/plain', {},
                 CASE WHEN fate = 1 OR (fate >= 2 AND {number} = 1) THEN ms * 1000 + 300000000 END
             FROM {} WHERE {which}",
            self.id(at, &number.to_string(), "i"),
            self.id("ms", "0", "i"),
            self.bytes("'ok'"),
            self.rows()
        )
    }

    /// Counts of attempts between two times, in buckets of `width`.
    fn counts(&self, table: &str, width: Duration, since: Time, until: Time) -> String {
        let sum = |which: &str| format!("SUM(CASE WHEN {which} THEN 1 ELSE 0 END)");
        let mut sums = vec![
            sum("failure IS NULL"),
            sum("failure IS NOT NULL"),
            sum("failure IS NOT NULL AND next_at IS NOT NULL"),
            sum("failure IS NOT NULL AND next_at IS NULL"),
        ];
        for bucket in 0..=BOUNDS_MS.len() {
            let above = bucket.checked_sub(1).map_or(-1, |below| BOUNDS_MS[below] as i64);
            let most = BOUNDS_MS.get(bucket).map_or(i64::MAX, |bound| *bound as i64);
            sums.push(sum(&format!("duration_us / 1000 > {above} AND duration_us / 1000 <= {most}")));
        }
        let bound = |time: Time| self.id(&format!("CAST({} AS BIGINT)", time.millis()), "0", "0");
        format!(
            "INSERT INTO {table} SELECT 'org_default', endpoint_id, at - at % {}, {} FROM attempt
             WHERE id >= {} AND id < {} GROUP BY 2, 3",
            width.as_micros(),
            sums.join(", "),
            bound(since),
            bound(until)
        )
    }

    /// The organization's counts, as sums over its endpoints.
    fn counts_of_all(&self, table: &str, column: &str) -> String {
        let counts = ["delivered", "failed", "retried", "dead"].map(String::from);
        let names = counts.into_iter().chain((0..=BOUNDS_MS.len()).map(|bucket| format!("le{bucket}")));
        let sums: Vec<String> = names.map(|name| format!("SUM({name})")).collect();
        let nil = self.literal(Uuid::nil());
        format!(
            "INSERT INTO {table} SELECT org, {nil}, {column}, {} FROM {table} GROUP BY org, {column}",
            sums.join(", ")
        )
    }
}
