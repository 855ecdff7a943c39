"""A receiver with FastAPI: stores each message once, responds at once, handles messages one after the other, and
compares with Sendoff every night.

    pip install fastapi uvicorn standardwebhooks
    SECRET=whsec_… uvicorn fastapi_receiver:app --port 9000

DATABASE is the file of the queue. The nightly comparison needs SENDOFF_URL, SENDOFF_TOKEN (a token for one application:
`sendoff token --app app_…`), APPLICATION and ENDPOINT.
"""

import json
import logging
import os
import sqlite3
import threading
import urllib.request
from contextlib import asynccontextmanager, closing
from datetime import datetime, timedelta, timezone

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from standardwebhooks import Webhook, WebhookVerificationError

DATABASE = os.environ.get("DATABASE", "inbox.db")
NIGHT = float(os.environ.get("RECONCILE_SECONDS", 24 * 60 * 60))
MAX_BODY = 1024 * 1024  # bytes
MAX_IDS = 10_000  # per comparison

SCHEMA = """
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
"""

webhook = Webhook(os.environ["SECRET"])
arrived = threading.Event()


def connect():
    # A transaction that writes waits for others from its start, so it never fails in the middle.
    return sqlite3.connect(DATABASE, timeout=10, isolation_level="IMMEDIATE")


def store(messages):
    """Commits messages before Sendoff hears that they have arrived. Those that are known already change nothing."""
    with closing(connect()) as db, db:
        db.executemany("INSERT INTO inbox (id, payload) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", messages)
    arrived.set()


def handle(db, invoice):
    """Messages may arrive in any order, so an older version does not replace a newer one."""
    db.execute(
        """INSERT INTO invoice (id, version, state, changes) VALUES (:invoice, :version, :state, 1)
           ON CONFLICT (id) DO UPDATE SET changes = changes + 1, version = MAX(version, excluded.version),
           state = CASE WHEN excluded.version > version THEN excluded.state ELSE state END""",
        invoice,
    )


def handle_next():
    """The effect and the mark are one transaction: after a crash there are both or neither."""
    with closing(connect()) as db, db:
        row = db.execute(
            """UPDATE inbox SET status = 'done' WHERE position = (
               SELECT MIN(position) FROM inbox WHERE status = 'waiting') RETURNING position, payload"""
        ).fetchone()
        if row is None:
            return False
        db.execute("SAVEPOINT effect")
        try:
            handle(db, json.loads(row[1]))
        except sqlite3.OperationalError:
            raise  # the database is locked: the next round tries again
        except Exception as error:
            # It would fail again. Set `status` to 'waiting' once the cause is gone.
            db.execute("ROLLBACK TO effect")
            db.execute("UPDATE inbox SET status = 'failed', error = ? WHERE position = ?", (repr(error), row[0]))
        return True


def reconcile():
    """Asks Sendoff for the messages of the last two days that are not in the inbox."""
    since = (datetime.now(timezone.utc) - timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = f"/api/v1/app/{os.environ['APPLICATION']}/endpoint/{os.environ['ENDPOINT']}/reconcile"
    known = "SELECT id FROM inbox WHERE received_at >= ? AND id > ? ORDER BY id LIMIT ?"
    after, more = "", True
    while more:
        with closing(connect()) as db:
            has = [id for (id,) in db.execute(known, (since, after, MAX_IDS))]
        full = len(has) == MAX_IDS
        body = {"since": since, "has": has, "hasMore": full, "iterator": after or None, "limit": 250}
        request = urllib.request.Request(os.environ["SENDOFF_URL"] + path, json.dumps(body).encode())
        request.add_header("authorization", f"Bearer {os.environ['SENDOFF_TOKEN']}")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as response:
            page = json.load(response)
        store((message["id"], json.dumps(message["payload"])) for message in page["data"])
        after, more = (has[-1], True) if page["done"] and full else (page["iterator"], not page["done"])


def repeat(work, pause):
    def loop():
        while True:
            try:
                while work():
                    pass
            except Exception:  # the database is locked, Sendoff is away: the next round repeats the work
                logging.exception("%s failed", work.__name__)
            pause()

    threading.Thread(target=loop, daemon=True).start()


def until_arrival():
    arrived.wait(timeout=1)
    arrived.clear()


@asynccontextmanager
async def lifespan(_):
    with closing(connect()) as db:
        db.executescript(SCHEMA)
    repeat(handle_next, until_arrival)
    if "SENDOFF_URL" in os.environ:
        repeat(reconcile, lambda: threading.Event().wait(NIGHT))
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/hooks")
async def receive(request: Request):
    if int(request.headers.get("content-length", MAX_BODY + 1)) > MAX_BODY:
        return Response(status_code=413)
    body = await request.body()  # the raw bytes: parsed and written again, they would not match the signature
    try:
        webhook.verify(body, dict(request.headers))
    except WebhookVerificationError:
        return Response(status_code=401)
    await run_in_threadpool(store, [(request.headers["webhook-id"], body.decode())])
    return Response(status_code=204)
