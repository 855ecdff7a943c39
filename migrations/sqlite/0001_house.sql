-- The house's tables: who wants what (organization, application, endpoint, event type), what is on its way (message,
-- delivery, attempt), the way in (outbox) and who works (process, slot). Times are microseconds since 1970, ids UUIDv7.
-- The hot tables (message, delivery, attempt) have no foreign keys, and keys that grow with time.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
);

CREATE TABLE application (
    id            BLOB PRIMARY KEY,
    org           TEXT NOT NULL,
    uid           TEXT,
    name          TEXT NOT NULL,
    throttle_rate INTEGER,
    metadata      TEXT NOT NULL,
    contact_email TEXT,
    -- The house's own: what happens to an organization's endpoints and messages is sent to this one's endpoints. Listed nowhere.
    operational   BOOLEAN NOT NULL DEFAULT FALSE,
    -- Grows with every change of the application or one of its endpoints: what the fan-out's cache is checked against.
    version       BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    deleted_at    BIGINT
);
CREATE UNIQUE INDEX application_uid ON application (org, uid);
CREATE INDEX application_by_uid ON application (uid);
CREATE INDEX application_list ON application (org, id);
CREATE UNIQUE INDEX application_operational ON application (org) WHERE operational;

CREATE TABLE endpoint (
    id               BLOB PRIMARY KEY,
    app_id           BLOB NOT NULL,
    uid              TEXT,
    url              TEXT NOT NULL,
    description      TEXT NOT NULL,
    disabled         BOOLEAN NOT NULL,
    disabled_reason  TEXT,
    event_types      TEXT,
    channels         TEXT,
    throttle_rate    INTEGER,
    timeout_s        INTEGER,
    retry_schedule   TEXT,
    signature_type   TEXT NOT NULL,
    extra_signatures TEXT NOT NULL,
    -- Sealed: header values may be secrets.
    headers          BLOB,
    metadata         TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    deleted_at       BIGINT,
    -- Since when it has done nothing but fail; NULL: its last attempt was delivered, or it had none.
    failing_since    BIGINT,
    -- 1 until the sweep has ended the pending deliveries of a deleted endpoint.
    unburied         SMALLINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX endpoint_uid ON endpoint (app_id, uid);
CREATE INDEX endpoint_list ON endpoint (app_id, id);
CREATE INDEX endpoint_failing ON endpoint (failing_since) WHERE failing_since IS NOT NULL;
CREATE INDEX endpoint_unburied ON endpoint (id) WHERE unburied = 1;

CREATE TABLE endpoint_secret (
    endpoint_id BLOB NOT NULL,
    made_at     BIGINT NOT NULL,
    -- Sealed; the endpoint's id is the associated data.
    sealed      BLOB NOT NULL,
    -- An old secret signs along until then; NULL: the current one.
    expires_at  BIGINT,
    PRIMARY KEY (endpoint_id, made_at)
) WITHOUT ROWID;

CREATE TABLE event_type (
    org           TEXT NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    archived      BOOLEAN NOT NULL,
    deprecated    BOOLEAN NOT NULL,
    feature_flags TEXT NOT NULL,
    group_name    TEXT,
    schemas       TEXT,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    PRIMARY KEY (org, name)
);

CREATE TABLE message (
    id          BLOB PRIMARY KEY,
    app_id      BLOB NOT NULL,
    event_type  TEXT NOT NULL,
    event_id    TEXT,
    channels    TEXT,
    tags        TEXT,
    -- NULL: the content was deleted, or kept no longer than was asked for.
    payload     BLOB,
    -- The payload is any bytes of this type, and no JSON object; NULL: it is one.
    raw_type    TEXT,
    occurred_at BIGINT NOT NULL,
    accepted_at BIGINT NOT NULL,
    -- Not to be sent before; NULL: at once.
    deliver_at  BIGINT,
    -- When the content goes; NULL: together with the message.
    content_until BIGINT
) WITHOUT ROWID;
CREATE INDEX message_list ON message (app_id, id);
CREATE INDEX message_content_age ON message (content_until) WHERE content_until IS NOT NULL;

-- The callers' own ids, apart from the messages: a unique key cannot span time partitions.
CREATE TABLE message_key (
    app_id     BLOB NOT NULL,
    event_id   TEXT NOT NULL,
    message_id BLOB NOT NULL,
    PRIMARY KEY (app_id, event_id)
) WITHOUT ROWID;
CREATE INDEX message_key_age ON message_key (message_id);

-- state: 0 fresh, 1 retry (both pending), 2 delivered, 3 dead.
CREATE TABLE delivery (
    message_id  BLOB NOT NULL,
    endpoint_id BLOB NOT NULL,
    app_id      BLOB NOT NULL,
    state       SMALLINT NOT NULL,
    due_at      BIGINT NOT NULL,
    attempts    INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    trigger     SMALLINT NOT NULL,
    reason      TEXT,
    PRIMARY KEY (message_id, endpoint_id)
) WITHOUT ROWID;
-- What an endpoint's lane reads: fresh ones and retries apart, the longest due first.
CREATE INDEX delivery_pending ON delivery (endpoint_id, state, due_at) WHERE state <= 1;
-- What an endpoint was sent, by message: what it missed, how it stands.
CREATE INDEX delivery_of_endpoint ON delivery (endpoint_id, message_id);
CREATE INDEX delivery_dead ON delivery (message_id) WHERE state = 3;
CREATE INDEX delivery_retry ON delivery (due_at) WHERE state = 1;

CREATE TABLE attempt (
    id               BLOB PRIMARY KEY,
    message_id       BLOB NOT NULL,
    endpoint_id      BLOB NOT NULL,
    app_id           BLOB NOT NULL,
    number           INTEGER NOT NULL,
    trigger          SMALLINT NOT NULL,
    at               BIGINT NOT NULL,
    url              TEXT NOT NULL,
    request_headers  TEXT NOT NULL,
    failure          TEXT,
    detail           TEXT NOT NULL,
    status           INTEGER,
    duration_us      BIGINT NOT NULL,
    response_headers TEXT NOT NULL,
    response_body    BLOB NOT NULL,
    next_at          BIGINT
) WITHOUT ROWID;
CREATE INDEX attempt_of_message ON attempt (message_id, id);
CREATE INDEX attempt_of_endpoint ON attempt (endpoint_id, id);

-- Counts shown to people: attempts by minute, of an endpoint or (the nil id) of the whole organization.
CREATE TABLE rollup (
    org         TEXT NOT NULL,
    endpoint_id BLOB NOT NULL,
    minute      BIGINT NOT NULL,
    delivered   BIGINT NOT NULL,
    failed      BIGINT NOT NULL,
    retried     BIGINT NOT NULL,
    dead        BIGINT NOT NULL,
    -- How many attempts took at most 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 15000 ms, and longer.
    le0 BIGINT NOT NULL, le1 BIGINT NOT NULL, le2 BIGINT NOT NULL, le3 BIGINT NOT NULL,
    le4 BIGINT NOT NULL, le5 BIGINT NOT NULL, le6 BIGINT NOT NULL, le7 BIGINT NOT NULL,
    le8 BIGINT NOT NULL, le9 BIGINT NOT NULL, le10 BIGINT NOT NULL, le11 BIGINT NOT NULL,
    PRIMARY KEY (org, endpoint_id, minute)
) WITHOUT ROWID;
CREATE INDEX rollup_age ON rollup (minute);

-- The way in for the team's own transactions. Nothing here can refuse an insert: text columns that may all be absent, a
-- surrogate key, and no constraint of ours: not even the key is unique. What is wrong with a row the relay finds out, and says
-- so in `stuck_reason`.
CREATE TABLE outbox (
    -- Nobody's: the relay goes by the rowid, which a second column of the same number cannot collide with.
    id           INTEGER,
    application  TEXT,
    event_type   TEXT,
    payload      TEXT,
    event_id     TEXT,
    channels     TEXT,
    occurred_at  TEXT,
    -- From here on the relay's own: when it looks at the row (again), why the row could not be routed, and since when.
    look_at      BIGINT DEFAULT 0,
    stuck_reason TEXT,
    stuck_since  BIGINT
);
CREATE INDEX outbox_next ON outbox (CASE typeof(look_at) WHEN 'integer' THEN look_at ELSE 0 END);
CREATE INDEX outbox_stuck ON outbox (stuck_since) WHERE stuck_reason IS NOT NULL;

CREATE TABLE process (
    id         BLOB PRIMARY KEY,
    name       TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- The 256 slots and their leases: who sends for the endpoints of a slot, and under which epoch.
CREATE TABLE slot (
    slot       SMALLINT PRIMARY KEY,
    owner      BLOB,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
INSERT INTO slot (slot, owner, epoch, expires_at)
WITH RECURSIVE count (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM count WHERE n < 255)
SELECT n, NULL, 0, 0 FROM count;

-- What callers may show instead of a signed token: only the hash of a key is kept.
CREATE TABLE api_key (
    id           BLOB PRIMARY KEY,
    org          TEXT NOT NULL,
    name         TEXT NOT NULL,
    hash         BLOB NOT NULL,
    -- The last characters of the key, for people who must tell several apart.
    hint         TEXT NOT NULL,
    -- What it may do, a JSON list; NULL: everything.
    scopes       TEXT,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE UNIQUE INDEX api_key_hash ON api_key (hash);
CREATE INDEX api_key_list ON api_key (org, id);

-- What a POST under an idempotency key made, for as long as the same key gives the same answer. Never the answer itself.
CREATE TABLE once (
    -- SHA-256 of who called, what, and under which key.
    hash BLOB PRIMARY KEY,
    -- SHA-256 of the body.
    body BLOB NOT NULL,
    made TEXT NOT NULL,
    at   BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX once_age ON once (at);

-- Work that an organization asked for and that goes on behind the answer, in steps. It is resumed where it was left.
CREATE TABLE background (
    id         BLOB PRIMARY KEY,
    org        TEXT NOT NULL,
    app_id     BLOB,
    kind       TEXT NOT NULL,
    -- running, finished, failed, canceled.
    state      TEXT NOT NULL,
    -- What was asked for, and how far it has come; JSON.
    data       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- Whose turn it is: nobody else's before then.
    leased_until BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX background_list ON background (org, id);
CREATE INDEX background_running ON background (leased_until) WHERE state = 'running';

CREATE TABLE login_link (
    hash       BLOB PRIMARY KEY,
    org        TEXT NOT NULL,
    expires_at BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE session (
    hash       BLOB PRIMARY KEY,
    org        TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) WITHOUT ROWID;

-- Tokens that were logged out, until they would have expired by themselves: the next to come with one is refused.
CREATE TABLE revoked_token (
    hash  BLOB PRIMARY KEY,
    until BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX revoked_token_age ON revoked_token (until);

-- Links that let a customer into the portal, once.
CREATE TABLE portal_link (
    hash       BLOB PRIMARY KEY,
    org        TEXT NOT NULL,
    app_id     BLOB NOT NULL,
    -- What they will see there and for how long; JSON.
    options    TEXT NOT NULL,
    expires_at BIGINT NOT NULL
) WITHOUT ROWID;
