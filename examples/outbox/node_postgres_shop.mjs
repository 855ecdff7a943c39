// Writes an order and its event to the outbox in one transaction, with node-postgres.
//
//     PGHOST=localhost PGUSER=shop PGDATABASE=shop node node_postgres_shop.mjs acme
//
// For the table of `sendoff relay`, set OUTBOX=sendoff_outbox.

import pg from "pg";

const application = process.argv[2];
const outbox = process.env.OUTBOX ?? "sendoff.outbox";
const client = new pg.Client();
await client.connect();
await client.query("CREATE TABLE IF NOT EXISTS shop_node_order (id BIGSERIAL PRIMARY KEY, total NUMERIC NOT NULL)");

try {
  await client.query("BEGIN");
  const { rows } = await client.query("INSERT INTO shop_node_order (total) VALUES ($1) RETURNING id", [48.5]);
  const [{ id }] = rows;
  await client.query(`INSERT INTO ${outbox} (application, event_type, payload, event_id) VALUES ($1, $2, $3, $4)`, [
    application,
    "order.created",
    JSON.stringify({ orderId: id, total: 48.5 }),
    `node-order-${id}-created`,
  ]);
  await client.query("COMMIT");
} catch (error) {
  await client.query("ROLLBACK");
  throw error;
} finally {
  await client.end();
}

console.log("the order and its event are committed");
