#!/usr/bin/env python3
"""Measures candidate schemas for the store's tables on SQLite and PostgreSQL.

    python3 benches/shapes/shapes.py variants [NAME …]  cost of a delivery in each schema
    python3 benches/shapes/shapes.py views              query plans of a UNION ALL view of deliveries
    python3 benches/shapes/shapes.py snapshot           queue reads while a snapshot is open
    python3 benches/shapes/shapes.py retention          DROP of a partition compared with DELETE in steps

Needs psycopg 3 and PostgreSQL's initdb and pg_ctl. PostgreSQL runs in a temporary folder, with fsync. SQLite is Python's own,
or that of pysqlite3-binary if installed.
"""

import argparse
import glob
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid

import psycopg

try:
    import pysqlite3 as sqlite3
except ImportError:
    import sqlite3

# --- Servers ----------------------------------------------------------------------------------------------------------


class Postgres:
    """A cluster with fsync in a temporary folder, which `close` removes."""

    SETTINGS = "-c listen_addresses=127.0.0.1 -c shared_buffers=256MB -c max_wal_size=16GB -c checkpoint_timeout=1h -c wal_keep_size=8GB"

    def __init__(self, more=""):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
        self.bin = found[-1] if found else os.path.dirname(shutil.which("initdb"))
        self.folder = tempfile.mkdtemp(prefix="shapes-postgres-")
        self.data = f"{self.folder}/data"
        # PostgreSQL refuses to run as root.
        self.user = ["setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups", "--"] if os.geteuid() == 0 else []
        if self.user:
            os.chown(self.folder, 65534, 65534)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.run("initdb", "-D", self.data, "-U", "sendoff", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.run("pg_ctl", "start", "-s", "-w", "-D", self.data, "-l", f"{self.folder}/log",
                 "-o", f"-p {self.port} -k {self.folder} {self.SETTINGS} {more}")

    def run(self, program, *arguments):
        done = subprocess.run([*self.user, f"{self.bin}/{program}", *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, cwd="/")
        if done.returncode != 0 and program != "pg_waldump":
            raise SystemExit(f"{program} failed:\n{done.stdout}")
        return done.stdout

    def connect(self, database="postgres"):
        url = f"host=127.0.0.1 port={self.port} user=sendoff dbname={database}"
        return psycopg.connect(url, autocommit=True, prepare_threshold=0)

    def fresh_database(self, name):
        with self.connect() as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name}")
            admin.execute(f"CREATE DATABASE {name}")
        return self.connect(name)

    def close(self):
        self.run("pg_ctl", "stop", "-s", "-w", "-m", "immediate", "-D", self.data)
        shutil.rmtree(self.folder)


def open_sqlite(path):
    """Opened like Sendoff does, but without automatic checkpoints."""
    db = sqlite3.connect(path, isolation_level=None, cached_statements=300)
    for pragma in ("page_size = 8192", "journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 0",
                   "cache_size = -65536", "temp_store = memory"):
        db.execute(f"PRAGMA {pragma}")
    return db


def uuid7(micros, serial):
    """An id that sorts by time, then by `serial`."""
    millis = micros // 1000
    value = millis << 80 | 7 << 76 | (serial & 0xFFF) << 64 | 2 << 62 | random.getrandbits(62)
    return uuid.UUID(int=value)

# --- The load ---------------------------------------------------------------------------------------------------------

APPS, ENDPOINTS = 20, 10
BATCH = {1: 250, 10: 50}
URL = "https://receiver.example.com/webhooks/incoming"
REQUEST_HEADERS = "\n".join(["content-type: application/json", "user-agent: Sendoff/1.0 (+https://sendoff.example/docs)", "accept: */*",
                             "webhook-id: msg_0190b6a8c5d27c3e9a6f5b1d2e3f4a5b", "webhook-timestamp: 1700000000",
                             "webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=", "x-customer: 8f4e1c2b7a",
                             "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "content-length: 512"])
RESPONSE_HEADERS = "content-type: text/plain\ndate: Wed, 15 Nov 2023 12:00:00 GMT\nserver: nginx/1.24.0\ncontent-length: 10\nconnection: keep-alive"
SLIM_HEADERS = "1700000000 K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="
PAYLOAD = b'{"id":"' + b"x" * 504 + b'"}'
DELIVERED, RETRY, DEAD = range(3)


class Delivery:
    """A delivery in the engine; `bit` is its position in its message's pack, or None outside a pack."""

    __slots__ = ("message", "endpoint", "app", "attempts", "generation", "bit", "attempt", "at", "outcome")

    def __init__(self, message, endpoint, app, bit):
        self.message, self.endpoint, self.app, self.bit = message, endpoint, app, bit
        self.attempts = self.generation = 0


class Load:
    """Batches of messages, records and resends: 5 % of deliveries fail once, 1 % die, 1 % are resent. A batch's first attempts
    are recorded in three batches (60, 30 and 10 %), its retries four batches later."""

    def __init__(self, fan_out, deliveries, seed=11):
        self.dice, self.fan_out = random.Random(seed), fan_out
        self.batches = deliveries // (BATCH[fan_out] * fan_out)
        self.now = 1_700_000_000_000_000
        self.apps = [self.id() for _ in range(APPS)]
        self.endpoints = {app: [self.id() for _ in range(ENDPOINTS)] for app in self.apps}
        self.slots = {app: self.dice.randrange(256) for app in self.apps}

    def id(self):
        return uuid.UUID(int=self.now // 1000 << 80 | 7 << 76 | self.dice.getrandbits(12) << 64 | 2 << 62 | self.dice.getrandbits(62))

    def first(self, share):
        """The smallest message id after this share of the load."""
        span = self.batches * BATCH[self.fan_out] * (200 + 21 * self.fan_out)
        return uuid.UUID(int=int(1_700_000_000_000_000 + share * span) // 1000 << 80)

    def __iter__(self):
        """Pairs of a schema's method name and its arguments."""
        records = [[] for _ in range(self.batches + 12)]
        resends = [[] for _ in range(self.batches + 12)]
        for k in range(self.batches + 8):
            messages = []
            for n in range(BATCH[self.fan_out] if k < self.batches else 0):
                self.now += 200
                app = self.dice.choice(self.apps)
                to = self.dice.sample(self.endpoints[app], self.fan_out)
                messages.append((self.id(), app, self.now, [Delivery(None, one, app, bit) for bit, one in enumerate(to)]))
                for one in messages[-1][3]:
                    one.message = messages[-1][0]
                    records[k + self.dice.choices((0, 1, 2), (6, 3, 1))[0]].append(one)
            if messages:
                yield "accept", messages
            for one in records[k]:
                self.now += 20
                one.attempt, one.at = self.id(), self.now
                chance = self.dice.random() if one.attempts == 0 else 0.5
                one.outcome = DEAD if chance < 0.01 else RETRY if chance < 0.06 else DELIVERED
                if one.outcome == RETRY:
                    records[k + 4].append(one)
                elif one.attempts == 0 and one.outcome == DELIVERED and self.dice.random() < 0.01 and k + 4 < self.batches:
                    resends[k + 3].append(one)
            yield "record", sorted(records[k], key=lambda one: (one.message, one.endpoint))
            if resends[k]:
                records[k + 1] += resends[k]
                yield "resend", sorted(resends[k], key=lambda one: (one.message, one.endpoint))


# --- Two stores that write rows like Sendoff ---------------------------------------------------------------------------


class PostgresStore:
    """One statement for all rows, as arrays of binary values."""

    kind, by_id = "postgres", False

    def __init__(self, server, name):
        self.server, self.db = server, server.fresh_database(name)
        self.db.execute("SET jit = off; SET enable_seqscan = off; SET enable_bitmapscan = off", prepare=False)
        self.helper = server.connect(name)
        self.prepared = []

    def schema(self, sql):
        self.db.execute(sql.replace("/*WR*/", "").replace("/*WR-ATTEMPT*/", ""), prepare=False)

    @staticmethod
    def new(types):
        return "UNNEST(" + ", ".join(f"%b::{one}[]" for one in types.values()) + f") AS new ({', '.join(types)})"

    def insert(self, table, types, rows, tail=""):
        names = ", ".join(types)
        self.change(f"INSERT INTO {table} ({names}) SELECT {names} FROM {{new}}{tail}", types, rows)

    def change(self, sql, types, rows, expect=None):
        if rows:
            self.prepared.append((sql.replace("{new}", self.new(types)), [list(column) for column in zip(*rows)], expect))

    def commit(self):
        """Runs the prepared statements in one transaction."""
        self.db.execute("BEGIN")
        for sql, values, expect in self.prepared:
            done = self.db.execute(sql, values)
            assert expect is None or done.rowcount == expect, (sql, done.rowcount, expect)
        self.db.execute("COMMIT")
        self.prepared.clear()

    def vacuum(self, tables):
        for table in tables:
            self.helper.execute(f"VACUUM {table}")

    @staticmethod
    def nanos(connection):
        with open(f"/proc/{connection.info.backend_pid}/schedstat") as file:
            return int(file.read().split()[0])

    def marks(self):
        lsn = self.db.execute("SELECT pg_current_wal_lsn()::text, pg_current_wal_lsn() - '0/0'").fetchone()
        return {"cpu": self.nanos(self.db), "vacuum": self.nanos(self.helper), "wal": int(lsn[1]), "lsn": lsn[0]}

    def begin(self):
        self.db.execute("CHECKPOINT")

    def disk(self, tables):
        self.helper.execute("VACUUM")
        sizes = [self.db.execute(f"SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relkind = 'r' AND relname ~ '^{table}(_p[0-9])?$'").fetchone()[0]
                 for table in tables]
        return {table: int(size) for table, size in zip(tables, sizes)}

    def records(self, before, after):
        """Log records of each kind between two positions."""
        text = self.server.run("pg_waldump", "--stats=record", "-p", f"{self.server.data}/pg_wal", "-s", before["lsn"], "-e", after["lsn"])
        found = {kind: (int(count), int(fpi)) for kind, count, fpi in re.findall(r"^(\w+/[\w+]+)\s+(\d+) \([^)]*\)\s+\d+ \([^)]*\)\s+(\d+)", text, re.M)}
        number = lambda *kinds: sum(found.get(kind + init, (0, 0))[0] for kind in kinds for init in ("", "+INIT"))
        return {"inserts": number("Heap/INSERT"), "updates": number("Heap/UPDATE"), "hot": number("Heap/HOT_UPDATE"), "deletes": number("Heap/DELETE"),
                "entries": number("Btree/INSERT_LEAF", "Btree/INSERT_POST", "Btree/SPLIT_L", "Btree/SPLIT_R"),
                "images": sum(fpi for _, fpi in found.values())}

    def close(self):
        self.db.close()
        self.helper.close()


class SqliteStore:
    """Wide rows as VALUES in chunks; narrow rows as concatenated ids and a JSON list of the other columns."""

    kind = "sqlite"
    CHUNKS = (256, 128, 64, 32, 16, 8, 4, 2, 1)

    def __init__(self, rowid=()):
        self.folder = tempfile.mkdtemp(prefix="shapes-")
        self.db = open_sqlite(f"{self.folder}/store.db")
        self.rowid, self.by_id, self.prepared, self.cpu = rowid, "by id" in rowid, [], 0

    def schema(self, sql):
        def table(found):
            return found[0].replace("/*WR*/", "" if found[1] in self.rowid else "WITHOUT ROWID")
        sql = re.sub(r"\b(UUID|BYTEA)\b", "BLOB", sql)
        sql = re.sub(r"\) WITH \([^;]*\);", ");", sql)
        self.db.executescript(re.sub(r"CREATE TABLE (\w+)[^;]*;", table, sql))

    def insert(self, table, types, rows, tail=""):
        names, rest = ", ".join(types), [[v.bytes if isinstance(v, uuid.UUID) else v for v in row] for row in rows]
        narrow = sum(one == "uuid" for one in types.values())
        if narrow >= len(types) - 1 and not tail:
            return self.change(f"INSERT OR FAIL INTO {table} ({names}) SELECT {names} FROM {{new}}", types, rows)
        row = "(" + ", ".join("?" * len(types)) + ")"
        while rest:
            size = next(one for one in self.CHUNKS if one <= len(rest) and one * len(types) <= 32_766)
            chunk, rest = rest[:size], rest[size:]
            select = f"INSERT OR FAIL INTO {table} ({names}) VALUES {', '.join([row] * size)}{tail}"
            self.prepared.append((select, [value for row in chunk for value in row], size))

    def change(self, sql, types, rows, expect=None):
        if not rows:
            return
        ids = [name for name, one in types.items() if one == "uuid"]
        more = [name for name, one in types.items() if one != "uuid"]
        assert list(types) == ids + more
        width = 16 * len(ids)
        columns = [f"substr(?1, key * {width} + {16 * n + 1}, 16) AS {name}" for n, name in enumerate(ids)]
        columns += [f"value AS {name}" if len(more) == 1 else f"value ->> {n} AS {name}" for n, name in enumerate(more)]
        new = f"(SELECT {', '.join(columns)} FROM json_each(?2)) AS new"
        packed = b"".join(value.bytes for row in rows for value in row[:len(ids)])
        rest = [list(row[len(ids):]) for row in rows]
        listed = json.dumps([one[0] if len(more) == 1 else one if more else 0 for one in rest])
        self.prepared.append((sql.replace("{new}", new), [packed, listed], expect))

    def commit(self):
        began = time.process_time_ns()
        self.db.execute("BEGIN IMMEDIATE")
        counts = [self.db.execute(sql, values).rowcount for sql, values, _ in self.prepared]
        self.db.execute("COMMIT")
        self.cpu += time.process_time_ns() - began
        for (sql, _, expect), count in zip(self.prepared, counts):
            assert expect is None or count == expect, (sql, count, expect)
        self.prepared.clear()

    def vacuum(self, tables):
        pass

    def begin(self):
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def marks(self):
        return {"cpu": self.cpu, "vacuum": 0, "wal": os.path.getsize(f"{self.folder}/store.db-wal")}

    def records(self, before, after):
        return {}

    def disk(self, tables):
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            return {table: self.db.execute("SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = ?)",
                                           [table]).fetchone()[0] or 0 for table in tables}
        except sqlite3.OperationalError:  # built without dbstat
            pages, free, size = (self.db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
            return {"all": (pages - free) * size}

    def close(self):
        self.db.close()
        shutil.rmtree(self.folder)


# --- The schemas ------------------------------------------------------------------------------------------------------

MESSAGE = """CREATE TABLE message (id UUID PRIMARY KEY, app_id UUID NOT NULL, {org} event_type TEXT NOT NULL, event_id TEXT, channels TEXT, tags TEXT,
    payload BYTEA, raw_type TEXT, occurred_at BIGINT NOT NULL, accepted_at BIGINT NOT NULL, deliver_at BIGINT, content_until BIGINT) /*WR*/;
CREATE INDEX message_list ON message (app_id, id);
"""
ATTEMPT = """message_id UUID NOT NULL, endpoint_id UUID NOT NULL, app_id UUID NOT NULL, {org} number INTEGER NOT NULL, trigger SMALLINT NOT NULL,
    at BIGINT NOT NULL, url TEXT, request_headers TEXT NOT NULL, failure TEXT, detail TEXT NOT NULL, status INTEGER, duration_us BIGINT NOT NULL,
    response_headers TEXT NOT NULL, response_body BYTEA NOT NULL, next_at BIGINT"""
COUNTS = ["delivered", "failed", "retried", "dead"] + [f"le{n}" for n in range(12)]
ROLLUP = f"""CREATE TABLE rollup (org TEXT NOT NULL, endpoint_id UUID NOT NULL, minute BIGINT NOT NULL, {', '.join(f'{one} BIGINT NOT NULL' for one in COUNTS)},
    PRIMARY KEY (org, endpoint_id, minute)) /*WR*/{{fill}};
CREATE INDEX rollup_age ON rollup (minute);
"""
NIL = uuid.UUID(int=0)
ORG = "acme-production"
QUEUE = " WITH (fillfactor = 70)"


class Shape:
    """Common to all schemas: messages, attempts and rollups."""

    tables, churn, org, slim, rollup_fill = (), (), False, False, None

    def __init__(self, store, load):
        self.store, self.load = store, load
        store.schema(self.ddl())

    def ddl(self):
        org = "org TEXT NOT NULL," if self.org else ""
        fill = f" WITH (fillfactor = {self.rollup_fill})" if self.store.kind == "postgres" and self.rollup_fill else ""
        return MESSAGE.format(org=org) + ROLLUP.format(fill=fill)

    def messages(self, messages):
        types = {"id": "uuid", "app_id": "uuid", "event_type": "text", "event_id": "text", "channels": "text", "payload": "bytea",
                 "occurred_at": "bigint", "accepted_at": "bigint"} | ({"org": "text"} if self.org else {})
        more = (ORG,) if self.org else ()
        self.store.insert("message", types, [(id, app, "invoice.paid", None, None, PAYLOAD, at, at, *more) for id, app, at, _ in messages])

    def attempts(self, finished):
        types = {"id": "uuid", "message_id": "uuid", "endpoint_id": "uuid", "app_id": "uuid", "number": "integer", "trigger": "smallint",
                 "at": "bigint", "url": "text", "request_headers": "text", "failure": "text", "detail": "text", "status": "integer",
                 "duration_us": "bigint", "response_headers": "text", "response_body": "bytea", "next_at": "bigint"}
        if self.org:
            types |= {"org": "text"}
        if self.settles:
            types |= {"step": "integer", "generation": "integer", "settles": "boolean"}
        url, headers = (None, SLIM_HEADERS) if self.slim else (URL, REQUEST_HEADERS)
        rows = []
        for one in sorted(finished, key=lambda one: one.attempt) if self.store.by_id else finished:
            failed = one.outcome != DELIVERED
            row = [one.attempt, one.message, one.endpoint, one.app, one.attempts + 1, 0, one.at, url, headers, "status" if failed else None, "",
                   503 if failed else 200, 4000, RESPONSE_HEADERS, b"0123456789", one.at + 5_000_000 if one.outcome == RETRY else None]
            row += [ORG] if self.org else []
            row += [0, one.generation, not failed] if self.settles else []
            rows.append(row)
        tail = " ON CONFLICT DO NOTHING" + (" RETURNING id" if self.store.kind == "postgres" else "")
        self.store.insert("attempt", types, rows, tail)

    def rollups(self, finished):
        sums = {}
        for one in finished:
            for scope in (NIL, one.endpoint):
                sum_ = sums.setdefault((ORG, scope, one.at // 60_000_000 * 60_000_000), [0] * 16)
                for n in ((0, 4), (1, 2, 4), (1, 3, 4))[one.outcome]:
                    sum_[n] += 1
        types = {"org": "text", "endpoint_id": "uuid", "minute": "bigint"} | dict.fromkeys(COUNTS, "bigint")
        tail = " ON CONFLICT (org, endpoint_id, minute) DO UPDATE SET " + ", ".join(f"{one} = rollup.{one} + excluded.{one}" for one in COUNTS)
        self.store.insert("rollup", types, [(*key, *sums[key]) for key in sorted(sums)], tail)

    def accept(self, messages):
        self.messages(messages)
        self.queue(messages)
        self.store.commit()

    def record(self, finished):
        self.advance(finished)
        self.attempts(finished)
        self.rollups(finished)
        self.store.commit()
        for one in finished:
            one.attempts += 1

    def resend(self, deliveries):
        self.again(deliveries)
        self.store.commit()
        for one in deliveries:
            one.generation += 1


class RollupOnly(Shape):
    """Only messages and rollups, which are the same in all schemas."""

    tables, settles = ("message", "rollup"), False

    def queue(self, messages):
        pass

    again = advance = attempts = queue


class RollupFill(RollupOnly):
    """Like RollupOnly, with free space in the rollups' pages."""

    rollup_fill = 50


class Today(Shape):
    tables, churn, settles = ("message", "delivery", "attempt", "rollup"), ("delivery",), False

    def ddl(self):
        return super().ddl() + f"""
CREATE TABLE delivery (message_id UUID NOT NULL, endpoint_id UUID NOT NULL, app_id UUID NOT NULL, state SMALLINT NOT NULL, due_at BIGINT NOT NULL,
    attempts INTEGER NOT NULL, step INTEGER NOT NULL, generation INTEGER NOT NULL, trigger SMALLINT NOT NULL, reason TEXT, seq BIGINT,
    PRIMARY KEY (message_id, endpoint_id)) /*WR*/;
CREATE INDEX delivery_pending ON delivery (endpoint_id, state, due_at) WHERE state <= 1;
CREATE INDEX delivery_of_endpoint ON delivery (endpoint_id, message_id);
CREATE INDEX delivery_dead ON delivery (message_id) WHERE state = 3;
CREATE INDEX delivery_retry ON delivery (due_at) WHERE state = 1;
CREATE INDEX delivery_in_order ON delivery (endpoint_id, seq) WHERE state <= 1 AND seq > 0;
CREATE INDEX delivery_in_time ON delivery (endpoint_id, due_at) WHERE state <= 1 AND seq = 0;
CREATE TABLE attempt (id UUID PRIMARY KEY, {ATTEMPT.format(org='')}) /*WR*/;
CREATE INDEX attempt_of_message ON attempt (message_id, id);
CREATE INDEX attempt_of_endpoint ON attempt (endpoint_id, id);
"""

    def queue(self, messages):
        types = {"message_id": "uuid", "endpoint_id": "uuid", "app_id": "uuid", "due_at": "bigint"}
        rows = [(one.message, one.endpoint, one.app, at) for _, _, at, some in messages for one in some]
        self.store.change("""INSERT INTO delivery (message_id, endpoint_id, app_id, state, due_at, attempts, step, generation, trigger)
            SELECT message_id, endpoint_id, app_id, 0, due_at, 0, 0, 0, 0 FROM {new}""", types, rows, len(rows))

    def advance(self, finished):
        types = {"message_id": "uuid", "endpoint_id": "uuid", "due_at": "bigint"}
        for (outcome, attempts, generation), group in grouped(finished, lambda one: (one.outcome, one.attempts, one.generation)):
            state, reason = ((2, "NULL"), (1, "NULL"), (3, "'exhausted'"))[outcome]
            rows = [(one.message, one.endpoint, one.at + (5_000_000 if outcome == RETRY else 0)) for one in group]
            self.store.change(f"""UPDATE delivery SET state = {state}, due_at = new.due_at, attempts = {attempts + 1}, step = 0, trigger = 0,
                reason = {reason} FROM {{new}} WHERE delivery.message_id = new.message_id AND delivery.endpoint_id = new.endpoint_id
                AND delivery.generation = {generation} AND delivery.attempts = {attempts} AND delivery.state <= 1""", types, rows, len(rows))

    def again(self, deliveries):
        types = {"message_id": "uuid", "endpoint_id": "uuid"}
        self.store.change("""UPDATE delivery SET state = 0, due_at = 1700000000000000, generation = generation + 1, trigger = 1 FROM {new}
            WHERE delivery.message_id = new.message_id AND delivery.endpoint_id = new.endpoint_id AND delivery.state >= 2""",
                          types, [(one.message, one.endpoint) for one in deliveries], len(deliveries))


class Due(Shape):
    """1: a pending delivery is a row of `due`, deleted when it ends."""

    tables, churn, settles, partitions = ("message", "due", "dead", "attempt", "rollup"), ("due",), True, 0
    more = ""

    def ddl(self):
        org = "org TEXT NOT NULL," if self.org else ""
        sql = super().ddl() + f"""
CREATE TABLE due (message_id UUID NOT NULL, endpoint_id UUID NOT NULL, app_id UUID NOT NULL, {org} slot SMALLINT NOT NULL, kind SMALLINT NOT NULL,
    due_at BIGINT NOT NULL, attempts INTEGER NOT NULL, step INTEGER NOT NULL, generation INTEGER NOT NULL, trigger SMALLINT NOT NULL, seq BIGINT,
    PRIMARY KEY (message_id, endpoint_id)) /*WR*/{';' if self.store.kind == 'sqlite' else QUEUE + ';'}
CREATE INDEX due_lane ON due (slot, endpoint_id, kind, due_at);
CREATE TABLE dead (message_id UUID NOT NULL, endpoint_id UUID NOT NULL, app_id UUID NOT NULL, {org} reason TEXT NOT NULL, at BIGINT NOT NULL,
    attempts INTEGER NOT NULL, step INTEGER NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (message_id, endpoint_id)) /*WR*/;
CREATE INDEX dead_of_endpoint ON dead (endpoint_id, message_id);
CREATE TABLE attempt (id UUID NOT NULL, {ATTEMPT.format(org=org)}, step INTEGER NOT NULL, generation INTEGER NOT NULL, settles BOOLEAN NOT NULL,
    PRIMARY KEY (message_id, endpoint_id, id)) /*WR*/;
CREATE INDEX attempt_of_endpoint ON attempt (endpoint_id, id);
""" + self.more
        if self.store.by_id:
            sql = sql.replace("CREATE TABLE attempt (id UUID NOT NULL,", "CREATE TABLE attempt (id UUID PRIMARY KEY,")
            sql = sql.replace("settles BOOLEAN NOT NULL,\n    PRIMARY KEY (message_id, endpoint_id, id))", "settles BOOLEAN NOT NULL)")
            sql += "CREATE UNIQUE INDEX attempt_of_delivery ON attempt (message_id, endpoint_id, id);\n"
        if self.partitions:
            bounds = [self.load.first(n / self.partitions) for n in range(1, self.partitions)]
            for table, column in (("message", "id"), ("dead", "message_id"), ("attempt", "message_id")):
                sql = re.sub(rf"(CREATE TABLE {table} \([^;]*?\)) /\*WR\*/;", rf"\1 PARTITION BY RANGE ({column});", sql)
                ends = ["MINVALUE"] + [f"'{one}'" for one in bounds] + ["MAXVALUE"]
                sql += "".join(f"CREATE TABLE {table}_p{n} PARTITION OF {table} FOR VALUES FROM ({ends[n]}) TO ({ends[n + 1]});\n"
                               for n in range(self.partitions))
        return sql

    def into_due(self, rows, kind):
        """Columns: message, endpoint, app, slot, due_at, attempts, generation."""
        types = {"message_id": "uuid", "endpoint_id": "uuid", "app_id": "uuid", "slot": "smallint", "due_at": "bigint"}
        names, values = ("org, ", f"'{ORG}', ") if self.org else ("", "")
        for (attempts, generation), group in grouped(rows, lambda row: (row[5], row[6])):
            self.store.change(f"""INSERT INTO due (message_id, endpoint_id, app_id, {names}slot, kind, due_at, attempts, step, generation, trigger)
                SELECT message_id, endpoint_id, app_id, {values}slot, {kind}, due_at, {attempts}, 0, {generation}, 0 FROM {{new}}""",
                              types, [row[:5] for row in group], len(group))

    def queue(self, messages):
        self.into_due([(one.message, one.endpoint, one.app, self.load.slots[one.app], at, 0, 0) for _, _, at, some in messages for one in some], 0)

    def advance(self, finished):
        ids = {"message_id": "uuid", "endpoint_id": "uuid"}
        for (retry, attempts, generation), group in grouped(finished, lambda one: (one.outcome == RETRY, one.attempts, one.generation)):
            guard = f"generation = {generation} AND attempts = {attempts}"
            if retry:
                rows = [(one.message, one.endpoint, one.at + 5_000_000) for one in group]
                self.store.change(f"""UPDATE due SET kind = 1, due_at = new.due_at, attempts = {attempts + 1}, trigger = 0 FROM {{new}}
                    WHERE due.message_id = new.message_id AND due.endpoint_id = new.endpoint_id AND {guard}""",
                                  ids | {"due_at": "bigint"}, rows, len(rows))
                continue
            rows = [(one.message, one.endpoint) for one in group]
            if self.store.kind == "postgres":
                self.store.change(f"""DELETE FROM due USING {{new}} WHERE due.message_id = new.message_id AND due.endpoint_id = new.endpoint_id
                    AND {guard} RETURNING due.message_id, due.endpoint_id""", ids, rows, len(rows))
            else:
                self.store.change(f"DELETE FROM due WHERE (message_id, endpoint_id) IN (SELECT message_id, endpoint_id FROM {{new}}) AND {guard}",
                                  ids, rows, len(rows))
        self.bury([one for one in finished if one.outcome == DEAD])

    def bury(self, dead):
        names, values = ("org, ", f"'{ORG}', ") if self.org else ("", "")
        self.store.change(f"""INSERT INTO dead (message_id, endpoint_id, app_id, {names}reason, at, attempts, step, generation)
            SELECT message_id, endpoint_id, app_id, {values}'exhausted', at, 1, 0, 0 FROM {{new}}""",
                          {"message_id": "uuid", "endpoint_id": "uuid", "app_id": "uuid", "at": "bigint"},
                          [(one.message, one.endpoint, one.app, one.at) for one in dead])

    def again(self, deliveries):
        self.into_due([(one.message, one.endpoint, one.app, self.load.slots[one.app], one.at, one.attempts, one.generation + 1) for one in deliveries], 0)
        self.store.change("""UPDATE attempt SET settles = FALSE FROM {new} WHERE attempt.message_id = new.message_id
            AND attempt.endpoint_id = new.endpoint_id AND attempt.settles""",
                          {"message_id": "uuid", "endpoint_id": "uuid"}, [(one.message, one.endpoint) for one in deliveries], len(deliveries))


ORG_LISTS = "CREATE INDEX attempt_of_org ON attempt (org, id);\nCREATE INDEX message_of_org ON message (org, id);\n"
SETTLED = "CREATE INDEX attempt_settled ON attempt (endpoint_id, message_id) WHERE settles;\n"
DUE_LIST = "CREATE INDEX due_of_endpoint ON due (endpoint_id, message_id);\n"


class DueLists(Due):
    """1b: plus the organization and every index used by lists."""

    org, more = True, ORG_LISTS + SETTLED + DUE_LIST


class DueLists2(Due):
    """1b without message (org, id)."""

    org, more = True, "CREATE INDEX attempt_of_org ON attempt (org, id);\n" + SETTLED + DUE_LIST


class DueLists3(Due):
    """… and without due (endpoint, message)."""

    org, more = True, "CREATE INDEX attempt_of_org ON attempt (org, id);\n" + SETTLED


class DueLists4(Due):
    """… and without attempt (endpoint, message) WHERE settles: an endpoint's deliveries are found through the application's messages."""

    org, more = True, "CREATE INDEX attempt_of_org ON attempt (org, id);\n"


class Packed(DueLists):
    """2: fresh deliveries share one row per message and slot, with one bit per endpoint."""

    tables, churn, fresh_fill = ("message", "fresh", "due", "dead", "attempt", "rollup"), ("fresh", "due"), 70

    def ddl(self):
        self.done = {}
        fill = f" WITH (fillfactor = {self.fresh_fill})" if self.store.kind == "postgres" else ""
        return super().ddl() + f"""CREATE TABLE fresh (slot SMALLINT NOT NULL, message_id UUID NOT NULL, chunk SMALLINT NOT NULL, app_id UUID NOT NULL,
    endpoints BYTEA NOT NULL, done BIGINT NOT NULL, PRIMARY KEY (slot, message_id, chunk)) /*WR*/{fill};
"""

    def queue(self, messages):
        types = {"slot": "smallint", "message_id": "uuid", "chunk": "smallint", "app_id": "uuid", "endpoints": "bytea", "done": "bigint"}
        rows = [(self.load.slots[app], id, 0, app, b"".join(one.endpoint.bytes for one in some), 0) for id, app, _, some in messages]
        self.store.insert("fresh", types, rows)
        self.done.update((row[1], 0) for row in rows)

    def advance(self, finished):
        first = [one for one in finished if one.bit is not None]
        super().advance([one for one in finished if one.bit is None])
        full = (1 << self.load.fan_out) - 1
        rows = []
        for message, some in grouped(first, lambda one: one.message):
            before = self.done[message]
            after = before | sum(1 << one.bit for one in some)
            self.done[message] = after
            rows.append((message, self.load.slots[some[0].app], before, after))
        types = {"message_id": "uuid", "slot": "smallint", "before": "bigint", "after": "bigint"}
        same = "fresh.slot = new.slot AND fresh.message_id = new.message_id AND fresh.chunk = 0 AND fresh.done = new.before"
        ended, others = [row for row in rows if row[3] == full], [row for row in rows if row[3] != full]
        if self.store.kind == "postgres":
            self.store.change(f"DELETE FROM fresh USING {{new}} WHERE {same} RETURNING fresh.message_id", types, ended, len(ended))
        else:
            self.store.change("DELETE FROM fresh WHERE (slot, message_id, chunk, done) IN (SELECT slot, message_id, 0, before FROM {new})",
                              types, ended, len(ended))
        self.store.change(f"UPDATE fresh SET done = new.after FROM {{new}} WHERE {same}", types, others, len(others))
        self.into_due([(one.message, one.endpoint, one.app, self.load.slots[one.app], one.at + 5_000_000, 1, 0) for one in first if one.outcome == RETRY], 1)
        self.bury([one for one in first if one.outcome == DEAD])
        for one in first:
            one.bit = None


class Partitioned(Packed):
    """3: messages, dead deliveries and attempts in 4 partitions by the message's id."""

    partitions = 4


class Slim(Packed):
    """4: attempts without derivable columns."""

    slim = True


def grouped(rows, key):
    groups = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups.items()


SHAPES = {"rollups": RollupOnly, "rollups50": RollupFill, "today": Today, "due": Due, "lists": DueLists, "lists2": DueLists2, "lists3": DueLists3, "lists4": DueLists4,
          "packed": Packed, "partitioned": Partitioned, "slim": Slim}
ROWID = {"": (), "+byid": ("by id",), "+attempt": ("attempt",), "+queue": ("due", "fresh"), "+rowid": ("due", "dead", "attempt", "fresh"), "+all": ("due", "dead", "attempt", "fresh", "message")}


def run(store, shape_class, fan_out, deliveries):
    load = Load(fan_out, deliveries)
    shape = shape_class(store, load)
    warm, since_vacuum, done, counted, before = deliveries // 6, 0, 0, 0, None
    for name, rows in load:
        if before is None and done >= warm:
            store.begin()
            before, counted_from = store.marks(), done
        getattr(shape, name)(rows)
        if name == "accept":
            done += len(rows) * fan_out
            if (since_vacuum := since_vacuum + len(rows) * fan_out) >= 5_000:
                store.vacuum(shape.churn)
                since_vacuum = 0
    store.vacuum(shape.churn)
    after, counted = store.marks(), done - counted_from
    found = {"cpu": (after["cpu"] - before["cpu"]) / counted / 1e3, "vacuum": (after["vacuum"] - before["vacuum"]) / counted / 1e3,
             "wal": (after["wal"] - before["wal"]) / counted}
    found |= {name: count / counted for name, count in store.records(before, after).items()}
    found["disk"] = {table: size / done for table, size in store.disk(shape.tables).items()}
    return found


def variants(names, deliveries, rounds, engines, fan_outs):
    server = Postgres("-c autovacuum=off") if "postgres" in engines else None
    best = {}
    try:
        for round_ in range(rounds):
            for fan_out in fan_outs:
                for engine in engines:
                    for name in names:
                        base, _, kind = name.partition("+")
                        if engine == "postgres" and kind or engine == "sqlite" and base == "partitioned":
                            continue
                        store = PostgresStore(server, "shapes") if engine == "postgres" else SqliteStore(ROWID["+" + kind if kind else ""])
                        found = run(store, SHAPES[base], fan_out, deliveries)
                        store.close()
                        key = (engine, fan_out, name)
                        if key not in best or found["cpu"] < best[key]["cpu"]:
                            best[key] = found
    finally:
        if server:
            server.close()
    for engine in engines:
        print(f"\n{engine}" + (f" {sqlite3.sqlite_version}" if engine == "sqlite" else ""))
        for fan_out in fan_outs:
            for name in names:
                if one := best.get((engine, fan_out, name)):
                    rest = "".join(f"  {key} {one[key]:.2f}" for key in ("inserts", "updates", "hot", "deletes", "entries", "images") if key in one)
                    sizes = " ".join(f"{table} {size:.0f}" for table, size in one["disk"].items())
                    print(f"  fan-out {fan_out:2}  {name:16} cpu {one['cpu']:5.1f} µs  vacuum {one['vacuum']:4.1f} µs  wal {one['wal']:6.0f} B  "
                          f"disk {sum(one['disk'].values()):5.0f} B ({sizes}){rest}", flush=True)

# --- The view ---------------------------------------------------------------------------------------------------------

VIEW_SCHEMA = """
CREATE TABLE application (id UUID PRIMARY KEY, org TEXT NOT NULL, name TEXT NOT NULL, operational BOOLEAN NOT NULL, deleted_at BIGINT);
CREATE TABLE endpoint (id UUID PRIMARY KEY, app_id UUID NOT NULL, url TEXT NOT NULL, disabled BOOLEAN NOT NULL, deleted_at BIGINT);
CREATE TABLE message (id UUID PRIMARY KEY, app_id UUID NOT NULL, org TEXT NOT NULL, event_type TEXT NOT NULL, payload BYTEA,
    accepted_at BIGINT NOT NULL) /*WR*/;
CREATE INDEX message_list ON message (app_id, id);
CREATE TABLE due (message_id UUID NOT NULL, endpoint_id UUID NOT NULL, app_id UUID NOT NULL, org TEXT NOT NULL, slot SMALLINT NOT NULL,
    kind SMALLINT NOT NULL, due_at BIGINT NOT NULL, attempts INTEGER NOT NULL, step INTEGER NOT NULL, generation INTEGER NOT NULL,
    trigger SMALLINT NOT NULL, seq BIGINT, PRIMARY KEY (message_id, endpoint_id)) /*WR*/;
CREATE INDEX due_lane ON due (slot, endpoint_id, kind, due_at);
CREATE INDEX due_of_endpoint ON due (endpoint_id, message_id);
CREATE TABLE dead (message_id UUID NOT NULL, endpoint_id UUID NOT NULL, app_id UUID NOT NULL, org TEXT NOT NULL, at BIGINT NOT NULL,
    attempts INTEGER NOT NULL, step INTEGER NOT NULL, generation INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (message_id, endpoint_id)) /*WR*/;
CREATE INDEX dead_of_endpoint ON dead (endpoint_id, message_id);
CREATE TABLE attempt (id UUID NOT NULL, message_id UUID NOT NULL, endpoint_id UUID NOT NULL, app_id UUID NOT NULL, org TEXT NOT NULL,
    number INTEGER NOT NULL, step INTEGER NOT NULL, generation INTEGER NOT NULL, settles BOOLEAN NOT NULL, trigger SMALLINT NOT NULL,
    at BIGINT NOT NULL, url TEXT NOT NULL, request_headers TEXT NOT NULL, failure TEXT, status INTEGER, duration_us BIGINT NOT NULL,
    PRIMARY KEY (message_id, endpoint_id, id)) /*WR*/;
CREATE INDEX attempt_of_endpoint ON attempt (endpoint_id, id);
CREATE INDEX attempt_settled ON attempt (endpoint_id, message_id) WHERE settles;
CREATE VIEW standing AS
    SELECT message_id, endpoint_id, app_id, kind AS state, due_at, attempts, step, generation, trigger, CAST(NULL AS TEXT) AS reason, seq,
        CAST(1 AS BOOLEAN) AS stands FROM due
    UNION ALL
    SELECT message_id, endpoint_id, app_id, CAST(3 AS SMALLINT), at, attempts, step, generation, CAST(0 AS SMALLINT), reason,
        CAST(NULL AS BIGINT), CAST(1 AS BOOLEAN) FROM dead
    UNION ALL
    SELECT message_id, endpoint_id, app_id, CAST(2 AS SMALLINT), at, number, step, generation, CAST(0 AS SMALLINT), CAST(NULL AS TEXT),
        CAST(NULL AS BIGINT), settles FROM attempt;
CREATE VIEW delivery AS SELECT * FROM standing WHERE stands;
"""

LIST = """SELECT d.message_id, d.endpoint_id, d.app_id, p.name AS app_name, d.state, d.due_at, d.attempts, d.reason, m.event_type,
  m.accepted_at, (m.payload IS NOT NULL AND e.deleted_at IS NULL) AS sendable, e.url, e.disabled FROM """
JOINED = " CROSS JOIN application p CROSS JOIN message m CROSS JOIN endpoint e WHERE "
TIED = " AND m.id = d.message_id AND p.id = d.app_id AND e.id = d.endpoint_id AND p.org = 'org1' AND p.deleted_at IS NULL AND NOT p.operational"
STRETCH = " AND d.message_id <= $m AND d.message_id >= $floor AND (d.message_id < $m OR d.endpoint_id < $e)"
BACK = " ORDER BY d.message_id DESC, d.endpoint_id DESC LIMIT 51"

VIEW_QUERIES = {
    "i   deliveries of one message": "SELECT * FROM delivery WHERE message_id = $m ORDER BY endpoint_id",
    "i'  one delivery": "SELECT * FROM delivery WHERE message_id = $m AND endpoint_id = $e",
    "ii  of one endpoint, newest 51":
        "SELECT * FROM delivery d WHERE d.endpoint_id = $e AND d.message_id < $m AND d.message_id >= $floor ORDER BY d.message_id DESC LIMIT 51",
    "ii' endpoint_messages.rs":
        """SELECT d.message_id, d.state, d.due_at, d.attempts, d.step, d.generation, d.reason, m.accepted_at, m.event_type,
             m.payload IS NOT NULL AS content FROM delivery d CROSS JOIN message m
           WHERE m.id = d.message_id AND d.endpoint_id = $e AND d.app_id = $a
             AND EXISTS (SELECT 1 FROM application WHERE id = $a AND org = 'org1' AND deleted_at IS NULL)
             AND d.message_id < $m AND d.message_id >= $floor ORDER BY d.message_id DESC LIMIT 51""",
    "ii\" nth along the index":
        "SELECT message_id FROM delivery WHERE endpoint_id = $e AND message_id >= $floor AND message_id < $m ORDER BY message_id DESC LIMIT 1 OFFSET 100",
    "iii newest 51 of all": LIST + "delivery d" + JOINED + "1 = 1" + STRETCH + TIED + BACK,
    "iii' of an application (message CROSS JOIN view)":
        LIST + "message w CROSS JOIN delivery d" + JOINED + "w.app_id = $a AND w.id <= $m AND w.id >= $floor AND d.message_id = w.id"
        + STRETCH + TIED + " ORDER BY w.id DESC, d.endpoint_id DESC LIMIT 51",
    "iii+ of an application, ordered by columns of the result":
        LIST.replace("d.message_id", "w.id AS message_id", 1) + "message w CROSS JOIN delivery d" + JOINED + "w.app_id = $a AND w.id <= $m AND w.id >= $floor AND d.message_id = w.id"
        + STRETCH + TIED + " ORDER BY w.id DESC, d.endpoint_id DESC LIMIT 51",
    "iii^ newest 51 of all, within 2,000 rows": LIST + "delivery d" + JOINED + "d.message_id <= $m AND d.message_id >= $near2" + STRETCH + TIED + BACK,
    "iii~ nth of all": "SELECT d.message_id, d.endpoint_id FROM delivery d WHERE 1 = 1" + STRETCH + " ORDER BY d.message_id DESC, d.endpoint_id DESC LIMIT 1 OFFSET 1999",
    "iii\" of few (CTE CROSS JOIN view)":
        "WITH few AS MATERIALIZED (SELECT d.message_id, d.endpoint_id FROM dead d WHERE 1 = 1" + STRETCH + " LIMIT 500) "
        + LIST + "few CROSS JOIN delivery d" + JOINED + "d.message_id = few.message_id AND d.endpoint_id = few.endpoint_id" + TIED + BACK,
    "iii* of messages in a list": LIST + "delivery d" + JOINED + "d.message_id IN ($list)" + STRETCH + TIED + BACK,
    "iv  missed (EXISTS)":
        """SELECT id, CASE WHEN payload IS NULL OR EXISTS
             (SELECT 1 FROM delivery d WHERE d.message_id = message.id AND d.endpoint_id = $e) THEN 1 ELSE 0 END AS passed
           FROM message WHERE app_id = $a AND id > $floor AND id < $m ORDER BY id LIMIT 500""",
    "v   states of 50 messages":
        """SELECT message_id, state, CASE WHEN reason = 'canceled' THEN 1 ELSE 0 END AS canceled, count(*)
           FROM delivery WHERE message_id IN ($list) GROUP BY 1, 2, 3""",
    "v'  states at an endpoint":
        """SELECT state, CASE WHEN reason = 'canceled' THEN 1 ELSE 0 END AS canceled, count(*) FROM delivery
           WHERE endpoint_id = $e AND message_id >= $near AND message_id < $m GROUP BY 1, 2""",
}


def view_rows(messages):
    """Rows for the view's tables: 10 organizations, 100 applications with 10 endpoints each, and 10 deliveries per message."""
    at = 1_700_000_000_000_000
    apps = [uuid7(at, n) for n in range(100)]
    endpoints = {app: [uuid7(at, n) for n in range(10)] for app in apps}
    rows = {name: [] for name in ("application", "endpoint", "message", "due", "dead", "attempt")}
    for n, app in enumerate(apps):
        rows["application"].append((app, f"org{n % 10}", f"app {n}", False, None))
        rows["endpoint"] += [(one, app, "https://receiver.example/hook", False, None) for one in endpoints[app]]
    dice = random.Random(7)
    for n in range(messages):
        now = at + 1_000_000_000 + n * 1_000_000
        app, message, org = apps[n % 100], uuid7(now, 0), f"org{n % 10}"
        rows["message"].append((message, app, org, "invoice.paid", b"x" * 100, now))
        for endpoint in endpoints[app]:
            chance = dice.random()
            attempts = 1 if chance < 0.93 or chance >= 0.99 else 2
            if chance < 0.02:
                rows["due"].append((message, endpoint, app, org, 3, dice.randrange(2), now, 0, 0, 0, 0, None))
                continue
            for number in range(1, attempts + 1):
                last = number == attempts
                failed = chance >= 0.99 or not last
                rows["attempt"].append((uuid7(now + number * 1000, 0), message, endpoint, app, org, number, 0, 0, last and not failed, 0, now,
                                        "https://receiver.example/hook", "h" * 60, "status" if failed else None, 500 if failed else 200, 900))
            if chance >= 0.99:
                rows["dead"].append((message, endpoint, app, org, now, 1, 0, 0, "exhausted"))
    return rows


def for_sqlite(sql):
    sql = re.sub(r"\b(UUID|BYTEA)\b", "BLOB", sql).replace("/*WR*/", "WITHOUT ROWID")
    return sql.replace("CAST(0 AS BOOLEAN)", "0")


def for_postgres(sql):
    return sql.replace("/*WR*/", "")


def bind(sql, values, literal):
    """`sql` with literal parameters."""
    sql = sql.replace("$list", ", ".join(literal(one) for one in values["list"]))
    return re.sub(r"\$(\w+)", lambda name: literal(values[name[1]]), sql)


def views():
    rows = view_rows(20_000)
    some = rows["message"][-1509]
    app = some[1]
    endpoint = [one[0] for one in rows["endpoint"] if one[1] == app][4]
    values = {"m": some[0], "e": endpoint, "a": app, "floor": rows["message"][0][0], "near": rows["message"][-10_000][0], "near2": rows["message"][-1709][0],
              "list": [one[0] for one in rows["message"] if one[1] == app][-60:-10]}
    folder = tempfile.mkdtemp(prefix="shapes-")
    db = open_sqlite(f"{folder}/views.db")
    db.executescript(for_sqlite(VIEW_SCHEMA))
    db.execute("BEGIN")
    for table, some_rows in rows.items():
        plain = [tuple(v.bytes if isinstance(v, uuid.UUID) else v for v in row) for row in some_rows]
        db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(plain[0]))})", plain)
    db.execute("COMMIT")
    print(f"rows: { {table: len(some_rows) for table, some_rows in rows.items()} }\n\n== SQLite {sqlite3.sqlite_version}")
    for name, sql in VIEW_QUERIES.items():
        text = bind(sql, values, lambda one: f"x'{one.hex}'")
        plan = db.execute("EXPLAIN QUERY PLAN " + text).fetchall()
        began = time.process_time()
        found = db.execute(text).fetchall()
        print(f"\n-- {name}: {len(found)} rows, {(time.process_time() - began) * 1e3:.2f} ms CPU")
        depth = {0: 0}
        for step, parent, _, detail in plan:
            depth[step] = depth.get(parent, 0) + 1
            print("  " * depth[step] + detail)
    server = Postgres()
    try:
        db = server.fresh_database("views")
        db.execute("SET jit = off")
        db.execute(for_postgres(VIEW_SCHEMA), prepare=False)
        for table, some_rows in rows.items():
            with db.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for row in some_rows:
                    copy.write_row(row)
        db.execute("VACUUM ANALYZE")
        print(f"\n== {db.execute('SELECT version()').fetchone()[0][:16]}")
        for mode in ("force_custom_plan", "force_generic_plan"):
            db.execute(f"SET plan_cache_mode = {mode}")
            for name, sql in VIEW_QUERIES.items():
                names = [one for one in dict.fromkeys(re.findall(r"\$(\w+)", sql)) if one != "list"]
                text = sql.replace("IN ($list)", "= ANY($list)")
                order = names + (["list"] if "$list" in text else [])
                for n, one in enumerate(order):
                    text = re.sub(rf"\${one}\b", f"${n + 1}", text)
                types = ["uuid[]" if one == "list" else "uuid" for one in order]
                db.execute(f"PREPARE q ({', '.join(types)}) AS {text}", prepare=False)
                arguments = ["'{" + ",".join(map(str, values[one])) + "}'" if one == "list" else f"'{values[one]}'" for one in order]
                call = f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY) EXECUTE q ({', '.join(arguments)})"
                db.execute(call, prepare=False)
                plan = [row[0] for row in db.execute(call, prepare=False)]
                db.execute("DEALLOCATE q")
                buffers = next(line.strip() for line in plan if "Buffers" in line)
                print(f"\n-- {name} [{mode}]: {plan[-1]}, {buffers}")
                hidden = ("Buffers", "Planning", "Execution", "Index Cond", "Memory", "Heap Fetches")
                print("\n".join(line for line in plan if not any(word in line for word in hidden)))
    finally:
        server.close()
        shutil.rmtree(folder)

# --- An open snapshot -------------------------------------------------------------------------------------------------


def snapshot(turned_over):
    """PostgreSQL: `due` after many rows were inserted and deleted under an open snapshot."""
    server = Postgres("-c autovacuum_naptime=5s")
    try:
        store = PostgresStore(server, "shapes")
        load = Load(10, 1)
        shape = DueLists(store, load)
        other = server.connect("shapes")
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM due")
        slots = ", ".join(str(slot) for slot in sorted(set(load.slots.values())))
        app = load.apps[0]
        lane = f"slot = {load.slots[app]} AND endpoint_id = '{load.endpoints[app][0]}' AND kind = 0"
        columns = "message_id, endpoint_id, kind, due_at, attempts, step, generation, trigger"
        # Skips from lane to lane, like `pending_lanes`.
        scan = f"""WITH RECURSIVE first AS ((SELECT slot, endpoint_id, kind, due_at FROM due WHERE slot = ANY('{{{slots}}}')
                ORDER BY slot, endpoint_id, kind, due_at LIMIT 1) UNION ALL SELECT next.* FROM first, LATERAL (
                SELECT slot, endpoint_id, kind, due_at FROM due WHERE (slot, endpoint_id, kind) > (first.slot, first.endpoint_id, first.kind)
                ORDER BY slot, endpoint_id, kind, due_at LIMIT 1) AS next) SELECT * FROM first"""

        def look(title):
            floor, due = load.id(), load.now
            print(f"\n{title}; dead rows: {store.db.execute('SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = %s', ['due']).fetchone()[0]}")
            for name, sql in (("scan of all lanes", scan),
                              ("scan by the key, floor on the message", f"SELECT message_id, endpoint_id, slot FROM due WHERE message_id >= '{floor}' ORDER BY message_id LIMIT 10000"),
                              ("one lane", f"SELECT {columns} FROM due WHERE {lane} ORDER BY due_at LIMIT 100"),
                              ("one lane, floor on the message (not in its index)",
                               f"SELECT {columns} FROM due WHERE {lane} AND message_id >= '{floor}' ORDER BY due_at LIMIT 100"),
                              ("one lane, floor on the due time", f"SELECT {columns} FROM due WHERE {lane} AND due_at >= {due} ORDER BY due_at LIMIT 100")):
                spent = []
                for _ in range(5):
                    before = store.nanos(store.db)
                    rows = store.db.execute(sql, prepare=False).fetchall()
                    spent.append((store.nanos(store.db) - before) / 1e6)
                buffers = [row[0] for row in store.db.execute("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) " + sql, prepare=False) if "Buffers" in row[0]][0]
                print(f"  {name:50} first {spent[0]:7.2f} ms, then {min(spent[1:]):7.2f} ms CPU, {len(rows)} rows, {buffers.strip()}")

        look("before")
        marks, done = [store.marks()], 0
        while done < turned_over:
            load.now += 100_000
            rows = []
            for n in range(500):
                app = load.dice.choice(load.apps)
                rows.append((load.id(), load.dice.choice(load.endpoints[app]), app, load.slots[app], load.now + n, 0, 0))
            shape.into_due(rows, 0)
            store.commit()
            store.change("DELETE FROM due USING {new} WHERE due.message_id = new.message_id AND due.endpoint_id = new.endpoint_id",
                         {"message_id": "uuid", "endpoint_id": "uuid"}, [row[:2] for row in rows], len(rows))
            store.commit()
            done += len(rows)
            if done % (turned_over // 3) < 500:
                marks.append(store.marks())
        load.now += 100_000
        costs = [(after["cpu"] - before["cpu"]) / (turned_over / 3) / 1e3 for before, after in zip(marks, marks[1:])]
        print("CPU per inserted and deleted row, by thirds:", ", ".join(f"{one:.1f} µs" for one in costs))
        look(f"{turned_over} rows came and went under the snapshot")
        other.execute("COMMIT")
        look("the snapshot is gone, nothing was vacuumed by hand")
        store.helper.execute("VACUUM due")
        look("after VACUUM")
        other.close()
        store.close()
    finally:
        server.close()


# --- Retention --------------------------------------------------------------------------------------------------------


def retention(deliveries):
    """The cost of removing attempts: DELETE in steps of 20,000, or DROP of a partition."""
    server = Postgres("-c autovacuum=off")
    try:
        for engine, name, kind in (("postgres", "lists", ""), ("postgres", "partitioned", ""), ("sqlite", "lists", ""), ("sqlite", "lists", "+attempt"),
                                   ("sqlite", "lists", "+byid"), ("sqlite", "today", "")):
            store = PostgresStore(server, "shapes") if engine == "postgres" else SqliteStore(ROWID[kind])
            load = Load(10, deliveries)
            shape = SHAPES[name](store, load)
            for method, rows in load:
                getattr(shape, method)(rows)
            store.vacuum(shape.tables)
            store.begin()
            ids = [row[0] for row in store.db.execute("SELECT message_id FROM attempt ORDER BY message_id")]
            total, before, longest = len(ids), store.marks(), 0
            if name == "partitioned":
                drop = [(f"DROP TABLE attempt_p{n}", []) for n in range(4)]
                steps = [[one] for one in drop]
            else:
                bounds = [ids[n] for n in range(20_000, total, 20_000)]
                mark = "%b" if engine == "postgres" else "?"
                steps = [[(f"DELETE FROM attempt WHERE message_id < {mark}", [bound])] for bound in bounds]
                total = 20_000 * len(bounds)
            for step in steps:
                store.prepared = [(sql, values, None) for sql, values in step]
                began = time.monotonic()
                store.commit()
                longest = max(longest, time.monotonic() - began)
            middle = store.marks()
            if name != "partitioned":
                store.vacuum(["attempt"])
            after = store.marks()
            print(f"{engine:8} {name + kind:14} {total} attempts: cpu {(middle['cpu'] - before['cpu']) / total / 1e3:6.2f} µs, vacuum "
                  f"{(after['vacuum'] - middle['vacuum']) / total / 1e3:5.2f} µs, wal {(after['wal'] - before['wal']) / total:6.0f} B each; "
                  f"longest step {longest * 1e3:.0f} ms", flush=True)
            store.close()
    finally:
        server.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["variants", "views", "snapshot", "retention"])
    arguments.add_argument("names", nargs="*", help="schemas: " + ", ".join(SHAPES) + "; on SQLite, with a table kind: " + ", ".join(filter(None, ROWID)))
    arguments.add_argument("--deliveries", type=int, default=20_000, help="deliveries per variant")
    arguments.add_argument("--turned-over", type=int, default=300_000, help="rows inserted and deleted under the snapshot")
    arguments.add_argument("--rounds", type=int, default=1, help="rounds; the one with the least CPU counts")
    arguments.add_argument("--engines", default="sqlite,postgres")
    arguments.add_argument("--fan-outs", default="1,10")
    given = arguments.parse_args()
    if given.what == "views":
        views()
    elif given.what == "snapshot":
        snapshot(given.turned_over)
    elif given.what == "retention":
        retention(80_000)
    else:
        fan_outs = [int(one) for one in given.fan_outs.split(",")]
        variants(given.names or list(SHAPES), given.deliveries, given.rounds, given.engines.split(","), fan_outs)


if __name__ == "__main__":
    main()
