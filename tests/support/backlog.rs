//! A backlog, written past the product: deliveries that wait as if they had been accepted a minute ago.

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
