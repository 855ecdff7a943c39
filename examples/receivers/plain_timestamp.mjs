// A plain receiver, as many exist: `X-Webhook-Signature: t=…,v1=…`, the HMAC of the time and the body in hex, with five
// minutes of tolerance. Node's http module.
//
//     npm install libsql
//     SECRET=whsec_… PORT=9000 node plain_timestamp.mjs
//
// Its endpoint has "extraSignatures": [{"style": "stripe", "header": "X-Webhook-Signature"}]. better-sqlite3 works in place
// of libsql.
//
// This signature does not cover webhook-id: someone who has recorded a request can send it again under another id for five
// minutes. So the id is taken from the payload, which is signed.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import Database from "libsql";

const TOLERANCE = 5 * 60; // seconds
const MAX_BODY = 1024 * 1024; // bytes
const secret = process.env.SECRET; // the whole text
const db = new Database(process.env.DATABASE ?? "inbox.db", { timeout: 10_000 });

db.exec(`
CREATE TABLE IF NOT EXISTS inbox (
  position INTEGER PRIMARY KEY, -- the order of the queue
  id TEXT NOT NULL UNIQUE, -- of the payload; duplicates have the same one
  payload TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'waiting', -- then done or failed
  error TEXT);
CREATE INDEX IF NOT EXISTS inbox_waiting ON inbox (position) WHERE status = 'waiting';
CREATE TABLE IF NOT EXISTS invoice (
  id TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, changes INTEGER NOT NULL);
`);

const insert = db.prepare("INSERT INTO inbox (id, payload) VALUES (?, ?) ON CONFLICT (id) DO NOTHING");
const take = db.prepare(`UPDATE inbox SET status = 'done'
  WHERE position = (SELECT MIN(position) FROM inbox WHERE status = 'waiting') RETURNING position, payload`);
const fail = db.prepare("UPDATE inbox SET status = 'failed', error = ? WHERE position = ?");
// Messages may arrive in any order, so an older version does not replace a newer one.
const change = db.prepare(`INSERT INTO invoice (id, version, state, changes) VALUES (?, ?, ?, 1)
  ON CONFLICT (id) DO UPDATE SET changes = changes + 1, version = MAX(version, excluded.version),
  state = CASE WHEN excluded.version > version THEN excluded.state ELSE state END`);

function isValid(header, body) {
  // There are several `v1` during a rotation of the secret.
  const parts = header.split(",").map((part) => part.split("="));
  const values = (name) => parts.filter(([key]) => key === name).map(([, value]) => value ?? "");
  const [timestamp] = values("t");
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE)) return false;
  const expected = createHmac("sha256", secret).update(`${timestamp}.`).update(body).digest();
  return values("v1").some((value) => {
    const given = Buffer.from(value, "hex");
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

function handle(payload) {
  const { invoice, version, state } = JSON.parse(payload);
  change.run(invoice, version, state);
}

// The effect and the mark are one transaction: after a crash there are both or neither.
const handleNext = db.transaction(() => {
  const row = take.get();
  if (!row) return false;
  db.exec("SAVEPOINT effect");
  try {
    handle(row.payload);
  } catch (error) {
    // It would fail again. Set `status` to 'waiting' once the cause is gone.
    db.exec("ROLLBACK TO effect");
    fail.run(String(error), row.position);
  }
  return true;
});

let scheduled = false;
// One message per turn of the event loop, so that requests are answered meanwhile.
function work() {
  if (scheduled) return;
  scheduled = true;
  setImmediate(() => {
    scheduled = false;
    try {
      if (handleNext()) work();
    } catch (error) {
      console.error(error); // the database is locked: try again
      setTimeout(work, 1000);
    }
  });
}

async function receive(request) {
  const chunks = []; // the raw bytes: parsed and written again, they would not match the signature
  let size = 0;
  for await (const chunk of request) {
    if ((size += chunk.length) > MAX_BODY) return 413;
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!isValid(request.headers["x-webhook-signature"] ?? "", body)) return 401;
  // Committed before Sendoff hears that it has arrived. One that is known already changes nothing.
  insert.run(JSON.parse(body).id, body.toString());
  return 204;
}

createServer(async (request, response) => {
  const status = await receive(request).catch((error) => {
    console.error(error);
    return 500; // Sendoff sends it again
  });
  response.writeHead(status).end();
  work();
}).listen(Number(process.env.PORT ?? 9000), "127.0.0.1");
work();
