"""A plain receiver, as many exist: `X-Signature: sha256=…`, the HMAC of the body in hex. Python's standard library.

    SECRET=whsec_… python3 plain_sha256.py 9000

Its endpoint has "extraSignatures": [{"style": "github", "header": "X-Signature"}].

This signature covers neither a time nor webhook-id: someone who has recorded a request can send it again under another
id. So the id is taken from the payload, which is signed.
"""

import hashlib
import hmac
import json
import os
import sqlite3
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_BODY = 1024 * 1024  # bytes
SECRET = os.environ["SECRET"].encode()  # the whole text

SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (
  position INTEGER PRIMARY KEY, -- the order of the queue
  id TEXT NOT NULL UNIQUE, -- of the payload; duplicates have the same one
  payload TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'waiting', -- then done or failed
  error TEXT);
CREATE INDEX IF NOT EXISTS inbox_waiting ON inbox (position) WHERE status = 'waiting';
CREATE TABLE IF NOT EXISTS invoice (
  id TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, changes INTEGER NOT NULL);
"""

arrived = threading.Event()


def is_valid(header, body):
    expected = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(header.encode(), expected.encode())  # in constant time


def connect():
    # A transaction that writes waits for others from its start, so it never fails in the middle.
    return sqlite3.connect(os.environ.get("DATABASE", "inbox.db"), timeout=10, isolation_level="IMMEDIATE")


def store(body):
    """Commits a message before Sendoff hears that it has arrived. One that is known already changes nothing."""
    with closing(connect()) as db, db:
        row = (json.loads(body)["id"], body.decode())
        db.execute("INSERT INTO inbox (id, payload) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", row)
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


def work():
    while True:
        try:
            while handle_next():
                pass
        except sqlite3.OperationalError as error:
            print(error, file=sys.stderr)
        arrived.wait(timeout=1)
        arrived.clear()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        # The raw bytes: parsed and written again, they would not match the signature.
        body = self.rfile.read(min(length, MAX_BODY))
        valid = length <= MAX_BODY and is_valid(self.headers.get("x-signature", ""), body)
        if valid:
            store(body)
        self.send_response(204 if valid else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    with closing(connect()) as db:
        db.executescript(SCHEMA)
    threading.Thread(target=work, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
