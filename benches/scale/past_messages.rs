//! Past messages with their deliveries, written by SQL.

use std::time::Duration;

use super::bench_store::BenchStore;

/// Messages of some applications, each delivered to every endpoint of its application.
pub struct PastMessages<'a> {
    /// A condition on the table `application`.
    pub of: &'a str,
    /// Per application.
    pub messages: usize,
    /// Ages of the oldest and the youngest message; the rest are spread evenly.
    pub oldest: Duration,
    pub youngest: Duration,
    /// 2 % are dead and 1 % retry tomorrow. All others were delivered on the first attempt.
    pub some_failed: bool,
}

/// The number of a message is the last 15 hexadecimal digits of its id.
const DIGITS: usize = 15;

impl PastMessages<'_> {
    /// The SQL that writes them.
    pub fn statements(&self, sqlite: bool) -> Vec<String> {
        let now = jiff::Timestamp::now().as_millisecond();
        let (began, span) = (now - self.oldest.as_millis() as i64, (self.oldest - self.youngest).as_millis());
        let count = self.messages;
        let either = |sqlite_text: &str, postgres: &str| if sqlite { sqlite_text } else { postgres }.to_owned();
        let series = match sqlite {
            true => format!(
                "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count} - 1),
                 plan (i, ms) AS (SELECT i, {began} + i * {span} / {count} FROM n)"
            ),
            false => format!(
                "WITH plan (i, ms) AS (SELECT i, {began} + i * {span} / {count} FROM generate_series(CAST(0 AS bigint), {count} - 1) AS i)"
            ),
        };
        // The application's last digits distinguish messages of the same time.
        let id = either(
            "unhex(printf('%012x7', ms) || substr(hex(a.id), 30) || printf('8%015x', i))",
            "CAST(lpad(to_hex(ms), 12, '0') || '7' || right(CAST(a.id AS text), 3) || '8' || lpad(to_hex(i), 15, '0') AS uuid)",
        );
        let fill = "0123456789 ".repeat(24);
        let payload = match sqlite {
            true => format!("CAST('{{\"n\":' || i || ',\"note\":\"{fill}\"}}' AS BLOB)"),
            false => format!("convert_to('{{\"n\":' || i || ',\"note\":\"{fill}\"}}', 'UTF8')"),
        };
        let attempt = either(
            "unhex(printf('%012x7001', m.accepted_at / 1000 + 20) || '8' || substr(hex(m.id), 18))",
            "CAST(lpad(to_hex(m.accepted_at / 1000 + 20), 12, '0') || '70018' || right(CAST(m.id AS text), 12) || '000' AS uuid)",
        );
        let fate = match self.some_failed {
            true => "(m.accepted_at / 1000 % 100)",
            false => "50",
        };
        let from = format!(
            "FROM message m JOIN application a ON a.id = m.app_id JOIN endpoint e ON e.app_id = a.id WHERE {}",
            self.of
        );
        let tomorrow = (now + 86_400_000) * 1_000;
        let bytes = either("x'6f6b'", "'\\x6f6b'");
        let mut all = vec![
            format!(
                "INSERT INTO message (id, app_id, org, deliveries, event_type, payload, occurred_at, accepted_at)
                 {series} SELECT {id}, a.id, a.org, a.endpoints_made, 'past', {payload}, ms * 1000, ms * 1000
                 FROM plan CROSS JOIN application a WHERE {}",
                self.of
            ),
            format!(
                "INSERT INTO attempt (id, message_id, endpoint_id, app_id, org, number, generation, settles, trigger, at, url,
                     request_headers, failure, detail, status, duration_us, response_headers, response_body)
                 SELECT {attempt}, m.id, e.id, a.id, a.org, 1, 0, CASE WHEN {fate} >= 3 THEN 1 END, 0, m.accepted_at + 20000, e.url,
                     'content-type: application/json', CASE WHEN {fate} < 3 THEN 'status' END, '',
                     CASE WHEN {fate} < 3 THEN 503 ELSE 200 END, 8000, 'content-type: text/plain', {bytes} {from}"
            ),
        ];
        if self.some_failed {
            all.push(format!(
                "INSERT INTO dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation)
                 SELECT m.id, e.id, a.id, a.org, 'exhausted', m.accepted_at, 1, 1, 0 {from} AND {fate} < 2"
            ));
            all.push(format!(
                "INSERT INTO due (message_id, endpoint_id, app_id, slot, kind, due_at, attempts, step, generation, trigger)
                 SELECT m.id, e.id, a.id, e.slot, 1, {tomorrow}, 1, 1, 0, 0 {from} AND {fate} = 2"
            ));
        }
        all
    }

    /// How many messages are gone, oldest first, from the oldest remaining attempt before `youngest`.
    pub async fn removed(&self, bench: &BenchStore) -> usize {
        let until = jiff::Timestamp::now().as_millisecond() - self.youngest.as_millis() as i64;
        let (text, bound) = match bench.is_sqlite() {
            true => ("lower(hex(message_id))", format!("x'{until:012x}{:020}'", 0)),
            false => ("CAST(message_id AS text)", format!("CAST('{until:012x}{:020}' AS uuid)", 0)),
        };
        let sql = format!("SELECT {text} FROM attempt WHERE message_id < {bound} ORDER BY message_id LIMIT 1");
        let Some(oldest) = bench.value(&sql).await else { return self.messages };
        let digits = oldest.replace('-', "");
        usize::from_str_radix(&digits[digits.len() - DIGITS..], 16).expect("a number in base 16")
    }
}
