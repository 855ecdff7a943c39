// A receiver with Express: stores each message once, responds at once, handles messages one after the other, and compares
// with Sendoff every night.
//
//     npm install express libsql standardwebhooks
//     SECRET=whsec_… PORT=9000 node express_receiver.mjs
//
// DATABASE is the file of the queue. The nightly comparison needs SENDOFF_URL, SENDOFF_TOKEN (a token for one application:
// `sendoff token --app app_…`), APPLICATION and ENDPOINT. better-sqlite3 works in place of libsql.

import express from "express";
import Database from "libsql";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const env = process.env;
const NIGHT = Number(env.RECONCILE_SECONDS ?? 24 * 60 * 60) * 1000;
const MAX_IDS = 10_000; // per comparison
const webhook = new Webhook(env.SECRET);
const db = new Database(env.DATABASE ?? "inbox.db", { timeout: 10_000 });

db.exec(`
CREATE TABLE IF NOT EXISTS inbox (
  position INTEGER PRIMARY KEY, -- the order of the queue
  id TEXT NOT NULL UNIQUE, -- webhook-id; duplicates have the same one
  payload TEXT NOT NULL,
  received_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
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
const known = db.prepare("SELECT id FROM inbox WHERE received_at >= ? AND id > ? ORDER BY id LIMIT ?");
// Messages may arrive in any order, so an older version does not replace a newer one.
const change = db.prepare(`INSERT INTO invoice (id, version, state, changes) VALUES (?, ?, ?, 1)
  ON CONFLICT (id) DO UPDATE SET changes = changes + 1, version = MAX(version, excluded.version),
  state = CASE WHEN excluded.version > version THEN excluded.state ELSE state END`);

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

// Asks Sendoff for the messages of the last two days that are not in the inbox.
async function reconcile() {
  const since = new Date(Date.now() - 2 * 24 * 60 * 60 * 1000).toISOString();
  const url = `${env.SENDOFF_URL}/api/v1/app/${env.APPLICATION}/endpoint/${env.ENDPOINT}/reconcile`;
  for (let after = "", more = true; more; ) {
    const has = known.all(since, after, MAX_IDS).map((row) => row.id);
    const full = has.length === MAX_IDS;
    const response = await fetch(url, {
      method: "POST",
      headers: { authorization: `Bearer ${env.SENDOFF_TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify({ since, has, hasMore: full, iterator: after || null, limit: 250 }),
      signal: AbortSignal.timeout(30_000),
    });
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    const page = await response.json();
    for (const message of page.data) insert.run(message.id, JSON.stringify(message.payload));
    work();
    [after, more] = page.done && full ? [has.at(-1), true] : [page.iterator, !page.done];
  }
}

async function nightly() {
  await reconcile().catch((error) => console.error(error)); // Sendoff is away: the next night compares the same days again
  setTimeout(nightly, NIGHT);
}

const app = express();
// The raw bytes: parsed and written again, they would not match the signature.
app.post("/hooks", express.raw({ type: "*/*", limit: "1mb" }), (request, response) => {
  try {
    webhook.verify(request.body, request.headers);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    return response.sendStatus(401);
  }
  insert.run(request.get("webhook-id"), request.body.toString());
  response.sendStatus(204);
  work();
});

app.listen(Number(env.PORT ?? 9000), "127.0.0.1");
work();
if (env.SENDOFF_URL) nightly();
