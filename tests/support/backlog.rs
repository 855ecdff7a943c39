//! Large stores, written past the product: many endpoints, and deliveries that wait as if they had been accepted a minute ago.

use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::signing::secret::{Secret, SignatureType};

/// Statements that make so many messages of the type `wide`, each for every endpoint of the application with this uid. Their payloads are
/// `{"key": "bN"}`, with `bN` as their event ids.
pub fn backlog(sqlite: bool, app: &str, messages: usize) -> [String; 2] {
    let at = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1)).as_microsecond();
    let (series, id, payload) = match sqlite {
        true => (
            format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {messages})"),
            format!("unhex(printf('%012x70008%015x', {at} / 1000, i))"),
            "CAST('{\"key\": \"b' || i || '\"}' AS BLOB)",
        ),
        false => (
            format!("WITH n AS (SELECT i FROM generate_series(1, {messages}) AS i)"),
            format!("CAST(lpad(to_hex({at} / 1000), 12, '0') || '70008' || lpad(to_hex(i), 15, '0') AS uuid)"),
            "convert_to('{\"key\": \"b' || i || '\"}', 'UTF8')",
        ),
    };
    let message = format!(
        "INSERT INTO message (id, app_id, org, event_type, event_id, payload, occurred_at, accepted_at)
         {series} SELECT {id}, application.id, application.org, 'wide', 'b' || i, {payload}, {at}, {at} FROM n CROSS JOIN application
         WHERE application.uid = '{app}'"
    );
    let delivery =
        "INSERT INTO due (message_id, endpoint_id, app_id, slot, kind, due_at, attempts, step, generation, trigger)
         SELECT message.id, endpoint.id, message.app_id, endpoint.slot, 0, message.accepted_at, 0, 0, 0, 0
         FROM message JOIN endpoint ON endpoint.app_id = message.app_id WHERE message.event_id LIKE 'b%'";
    [message, delivery.to_owned()]
}

/// What the product binds an endpoint's sealed secret to: the endpoint, and when the secret was made.
fn secret_aad(endpoint: &uuid::Uuid, made_at: i64) -> Vec<u8> {
    [b"endpoint secret ", &endpoint.as_bytes()[..], &made_at.to_be_bytes()].concat()
}

/// How many rows one statement inserts.
const ROWS: usize = 500;

/// Statements that make `applications` of the default organization with the uids `app-0`, `app-1`, …, and `endpoints` of each. The n-th
/// endpoint of all has the address `{url}/{n}`, and a secret of its own. They begin in different slots, and 64 endpoints of one share a slot.
pub fn customers(sqlite: bool, master: &MasterKey, applications: usize, endpoints: usize, url: &str) -> Vec<String> {
    let at = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(2)).as_microsecond();
    let id = |kind: usize, n: usize| format!("{:012x}7{kind:03x}8{n:015x}", at / 1_000);
    let bytes = |hex: &str| if sqlite { format!("x'{hex}'") } else { format!("'\\x{hex}'") };
    let uuid = |hex: &str| if sqlite { format!("x'{hex}'") } else { format!("'{hex}'") };
    let mut all = Vec::new();
    let mut insert = |into: &str, rows: Vec<String>| {
        all.extend(rows.chunks(ROWS).map(|rows| format!("INSERT INTO {into} VALUES {}", rows.join(", "))));
    };
    let rows = (0..applications).map(|n| {
        format!("({}, 'org_default', 'app-{n}', 'app-{n}', '{{}}', 0, {endpoints}, {at}, {at})", uuid(&id(1, n)))
    });
    insert(
        "application (id, org, uid, name, metadata, version, endpoints_made, created_at, updated_at)",
        rows.collect(),
    );
    let (mut rows, mut secrets) = (Vec::new(), Vec::new());
    for n in 0..applications * endpoints {
        let (app, ordinal, hex) = (n / endpoints, n % endpoints, id(2, n));
        let slot = (app + ordinal / 64) % 256;
        rows.push(format!(
            "({}, {}, {slot}, '{url}/{n}', '', FALSE, 'hmac256', '[]', '{{}}', {at}, {at})",
            uuid(&hex),
            uuid(&id(1, app))
        ));
        let secret = Secret::generate(SignatureType::Hmac256);
        let row: uuid::Uuid = hex.parse().expect("an id");
        let sealed = hex::encode(master.seal(&secret_aad(&row, at), secret.text().as_bytes()));
        secrets.push(format!("({}, {at}, {})", uuid(&hex), bytes(&sealed)));
    }
    insert(
        "endpoint (id, app_id, slot, url, description, disabled, signature_type, extra_signatures, metadata, created_at, updated_at)",
        rows,
    );
    insert("endpoint_secret (endpoint_id, made_at, sealed)", secrets);
    all
}

/// Statements that make `messages` (at most 65,535) of each of these applications, each for every endpoint of it. Their payloads are JSON
/// objects of about so many bytes: `{"n":0,"text":"xxx…"}`, with the number of the message within its application.
pub fn pending(sqlite: bool, messages: usize, payload: usize) -> [String; 2] {
    let at = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1)).as_microsecond();
    // Of the application's id, the last 15 digits tell it from the others.
    let (series, id, payload) = match sqlite {
        true => (
            format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {messages})"),
            format!("unhex(printf('%012x7000', {at} / 1000) || '8' || substr(hex(a.id), 22) || printf('%04x', i))"),
            format!("CAST('{{\"n\":' || (i - 1) || ',\"text\":\"' || printf('%.{payload}c', 'x') || '\"}}' AS BLOB)"),
        ),
        false => (
            format!("WITH n AS (SELECT i FROM generate_series(1, {messages}) AS i)"),
            format!(
                "CAST(lpad(to_hex({at} / 1000), 12, '0') || '70008' || right(CAST(a.id AS text), 11) || lpad(to_hex(i), 4, '0') AS uuid)"
            ),
            format!("convert_to('{{\"n\":' || (i - 1) || ',\"text\":\"' || repeat('x', {payload}) || '\"}}', 'UTF8')"),
        ),
    };
    let message = format!(
        "INSERT INTO message (id, app_id, org, event_type, deliveries, payload, occurred_at, accepted_at)
         {series} SELECT {id}, a.id, a.org, 'wide', a.endpoints_made, {payload}, {at}, {at} FROM n CROSS JOIN application a"
    );
    let due =
        "INSERT INTO due (message_id, endpoint_id, app_id, slot, kind, due_at, attempts, step, generation, trigger)
         SELECT message.id, endpoint.id, message.app_id, endpoint.slot, 0, message.accepted_at, 0, 0, 0, 0
         FROM message JOIN endpoint ON endpoint.app_id = message.app_id";
    [message, due.to_owned()]
}
