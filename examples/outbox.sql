-- The outbox from your own transactions, on PostgreSQL: what to grant, and what to insert.

-- Once, as the owner of Sendoff's schema: whoever writes events gets this and nothing else.
GRANT USAGE ON SCHEMA sendoff TO product_writer;
GRANT INSERT ON sendoff.outbox TO product_writer;

-- Then, as product_writer: your own rows and the event, together.
BEGIN;
-- INSERT INTO orders …
INSERT INTO sendoff.outbox (application, event_type, payload, event_id)
VALUES ('acme', 'order.created', '{"orderId": "ord-1042", "total": 48.5}', 'ord-1042-created');
COMMIT;
-- Committed: it is delivered. Rolled back: it never was.
--
-- application   the application's id (app_…) or your uid of it
-- event_type    such as order.created
-- payload       a JSON object, as text: the bytes that are signed and sent
-- event_id      optional, your own id: a repeat is dropped
-- channels      optional: names with commas between, or a JSON array
-- occurred_at   optional: RFC 3339, or what now()::text gives
--
-- No insert fails because of Sendoff. A row that can't be routed (an unknown application, a payload that is no JSON object)
-- stays, is shown on the dashboard with its reason, and goes through once the cause is gone.
