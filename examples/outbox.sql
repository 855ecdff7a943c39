-- The outbox on PostgreSQL: the privileges to grant, and the row to insert in your own transactions.

-- Once, as the owner of Sendoff's schema. A role that writes events needs nothing else.
GRANT USAGE ON SCHEMA sendoff TO product_writer;
GRANT INSERT, SELECT (id) ON sendoff.outbox TO product_writer;

-- Then, as product_writer: your own rows and the event in one transaction.
BEGIN;
-- INSERT INTO orders …
INSERT INTO sendoff.outbox (application, event_type, payload, event_id)
VALUES ('acme', 'order.created', '{"orderId": "ord-1042", "total": 48.5}', 'ord-1042-created');
COMMIT;
-- If the transaction commits, the event is delivered; if it rolls back, it never is.
--
-- application   the application's id (app_…) or uid
-- event_type    such as order.created
-- payload       a JSON object as text, signed and sent byte for byte
-- event_id      optional: your own id for the event; a repeat is dropped
-- channels      optional: names separated by commas, or a JSON array
-- occurred_at   optional: RFC 3339, or the format of now()::text
--
-- Sendoff never makes the insert fail. A row that can't be routed (an unknown application, a payload that is not a JSON object)
-- stays in the table, appears on the dashboard with its reason, and is sent once the cause is fixed.
