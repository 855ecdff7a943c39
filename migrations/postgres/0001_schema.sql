-- Applications and what belongs to them (application, endpoint, event_type), the way in (outbox), the queue of what still has
-- to be sent (due), the history (message, attempt, dead), leases (process, slot) and access. Times are microseconds since 1970,
-- ids UUIDv7. Tables of the hot path have no foreign keys, and keys that grow with time.
--
-- "message" and "attempt" are partitioned by the message's id, which begins with its time, so that retention can drop whole partitions.
-- The first partitions are at the end of this file. There is no DEFAULT partition: it would forbid DETACH CONCURRENTLY.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);

-- What each version of the schema can be used by: every binary whose own schema is at least "oldest_binary". A migration that processes of the
-- version before can live with adds its line, and they stay ready; one without a line can be used by its own binaries alone.
CREATE TABLE schema_compatibility (
    version       BIGINT PRIMARY KEY,
    oldest_binary BIGINT NOT NULL
);

-- Names and defaults of organizations. An organization needs no row; NULL: as in the process's settings.
CREATE TABLE organization (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL,
    theme               TEXT,
    payload_retention_s BIGINT,
    retry_schedule      TEXT,
    max_endpoints       INTEGER,
    public_catalog      BOOLEAN NOT NULL,
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL
);

CREATE TABLE application (
    id            UUID PRIMARY KEY,
    org           TEXT NOT NULL,
    uid           TEXT,
    name          TEXT NOT NULL,
    throttle_rate INTEGER,
    metadata      TEXT NOT NULL,
    contact_email TEXT,
    -- Receives the organization's operational events; hidden from every list.
    operational   BOOLEAN NOT NULL DEFAULT FALSE,
    -- Grows with every change of the application or one of its endpoints; the routing cache is checked against it.
    version       BIGINT NOT NULL,
    -- Endpoints that were deleted at this version or before may have no row any more: views that are older are read anew.
    changes_from  BIGINT NOT NULL DEFAULT 0,
    -- How many endpoints were ever created here: the next one's slot follows from it.
    endpoints_made INTEGER NOT NULL DEFAULT 0,
    -- How many there are that are not deleted.
    endpoints     INTEGER NOT NULL DEFAULT 0,
    -- The application's tokens that were issued at this time or before are refused.
    tokens_expired BIGINT NOT NULL DEFAULT 0,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    deleted_at    BIGINT,
    -- When everything but what lists still need was removed from a deleted row; NULL: the row is whole.
    purged_at     BIGINT
);
CREATE UNIQUE INDEX application_uid ON application (org, uid);
CREATE INDEX application_by_uid ON application (uid);
CREATE INDEX application_list ON application (org, id);
CREATE UNIQUE INDEX application_operational ON application (org) WHERE operational;
CREATE INDEX application_to_purge ON application (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE INDEX application_purged ON application (deleted_at) WHERE purged_at IS NOT NULL;

CREATE TABLE endpoint (
    id               UUID PRIMARY KEY,
    app_id           UUID NOT NULL,
    -- Fixed when the endpoint is created: a slot that moved would have two owners.
    slot             SMALLINT NOT NULL,
    uid              TEXT,
    url              TEXT NOT NULL,
    description      TEXT NOT NULL,
    disabled         BOOLEAN NOT NULL,
    disabled_reason  TEXT,
    disabled_at      BIGINT,
    event_types      TEXT,
    channels         TEXT,
    throttle_rate    INTEGER,
    timeout_s        INTEGER,
    retry_schedule   TEXT,
    -- Deliveries go one after another, each after the one before it was delivered or is dead.
    ordered          BOOLEAN NOT NULL DEFAULT FALSE,
    signature_type   TEXT NOT NULL,
    -- A number of the dialect's, kept for callers and without effect; NULL: 1.
    api_version      INTEGER,
    extra_signatures TEXT NOT NULL,
    -- Sealed: the format and URL of a chat hook; "url" is masked then. NULL: events are sent as signed JSON.
    chat             BYTEA,
    -- Sealed: header values may be secrets.
    headers          BYTEA,
    metadata         TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    deleted_at       BIGINT,
    -- Start of the current failure streak; NULL: the last attempt was delivered, or there was none.
    failing_since    BIGINT,
    -- How many warnings this streak has had, and when the last one was sent.
    warned           SMALLINT NOT NULL DEFAULT 0,
    warned_at        BIGINT,
    -- Until when its circuit breaker held back what waits, as of its last attempt that failed; NULL: it did not.
    rests_until      BIGINT,
    -- 1 from deletion until its pending deliveries have ended.
    pending_cleanup  SMALLINT NOT NULL DEFAULT 0,
    -- The version that its application got with the last change of it, its headers or its secrets.
    version          BIGINT NOT NULL DEFAULT 0,
    -- As of an application.
    purged_at        BIGINT
);
CREATE UNIQUE INDEX endpoint_uid ON endpoint (app_id, uid);
CREATE INDEX endpoint_list ON endpoint (app_id, id);
-- Search by the whole URL.
CREATE INDEX endpoint_url ON endpoint (url) WHERE deleted_at IS NULL;
-- What changed since the routing cache last looked.
CREATE INDEX endpoint_changes ON endpoint (app_id, version);
CREATE INDEX endpoint_failing ON endpoint (failing_since) WHERE failing_since IS NOT NULL;
-- A delivery ends the streak of its endpoint: nearly always it has none, and that is seen here without reading its row.
CREATE INDEX endpoint_failing_id ON endpoint (id) WHERE failing_since IS NOT NULL;
CREATE INDEX endpoint_pending_cleanup ON endpoint (id) WHERE pending_cleanup = 1;
CREATE INDEX endpoint_to_purge ON endpoint (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE INDEX endpoint_purged ON endpoint (deleted_at) WHERE purged_at IS NOT NULL;
CREATE INDEX endpoint_ordered ON endpoint (id) WHERE ordered AND deleted_at IS NULL;

CREATE TABLE endpoint_secret (
    endpoint_id UUID NOT NULL,
    made_at     BIGINT NOT NULL,
    -- Sealed; bound to this row and to being a secret.
    sealed      BYTEA NOT NULL,
    -- An old secret signs along until then; NULL: the current one.
    expires_at  BIGINT,
    PRIMARY KEY (endpoint_id, made_at)
);
CREATE INDEX endpoint_secret_age ON endpoint_secret (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE event_type (
    org           TEXT NOT NULL,
    -- Sorted by bytes, as in SQLite.
    name          TEXT COLLATE "C" NOT NULL,
    description   TEXT NOT NULL,
    archived      BOOLEAN NOT NULL,
    deprecated    BOOLEAN NOT NULL,
    feature_flags TEXT NOT NULL,
    group_name    TEXT,
    schemas       TEXT,
    -- off, warn or reject: what happens to messages whose payload does not match the newest schema.
    validation    TEXT NOT NULL DEFAULT 'off',
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    PRIMARY KEY (org, name)
);
CREATE INDEX event_type_validating ON event_type (org) WHERE validation <> 'off';

CREATE TABLE message (
    id          UUID NOT NULL,
    app_id      UUID NOT NULL,
    org         TEXT NOT NULL,
    event_type  TEXT NOT NULL,
    event_id    TEXT,
    -- How many deliveries it was accepted with: lists bound what they look at by it.
    deliveries  INTEGER NOT NULL DEFAULT 0,
    channels    TEXT,
    tags        TEXT,
    -- NULL: the content was deleted, or kept no longer than was asked for.
    payload     BYTEA,
    -- The payload is any bytes of this type, and no JSON object; NULL: it is one.
    raw_type    TEXT,
    occurred_at BIGINT NOT NULL,
    accepted_at BIGINT NOT NULL,
    -- Not to be sent before; NULL: at once.
    deliver_at  BIGINT,
    -- When the content goes; NULL: together with the message.
    content_until BIGINT,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX message_of_application ON message (app_id, id);
CREATE INDEX message_of_org ON message (org, id);
CREATE INDEX message_content_age ON message (content_until) WHERE content_until IS NOT NULL;

-- Locked while messages are accepted, so that the ids of an application's messages grow in the order of the commits. The rows never
-- change: a lock is a mark in the row, and leaves no old version behind.
CREATE TABLE feed_lock (
    number SMALLINT PRIMARY KEY
);
INSERT INTO feed_lock (number) SELECT n FROM generate_series(0, 1023) AS n;

-- A payload as jsonb, for searches by field; NULL where jsonb cannot hold it (raw payloads, \u0000, unpaired surrogates).
CREATE FUNCTION payload_json(payload BYTEA) RETURNS JSONB LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN convert_from(payload, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- The callers' own ids, apart from the messages: a unique key cannot span time partitions.
CREATE TABLE message_key (
    app_id     UUID NOT NULL,
    event_id   TEXT NOT NULL,
    message_id UUID NOT NULL,
    PRIMARY KEY (app_id, event_id)
);
CREATE INDEX message_key_age ON message_key (message_id);

-- Messages whose payload does not match the schema of their event type, which only warns.
CREATE TABLE payload_warning (
    message_id UUID PRIMARY KEY,
    app_id     UUID NOT NULL,
    detail     TEXT NOT NULL
);

-- The queue: one row per delivery that still has to be sent. It leaves the table when it ends, so that the table stays small
-- whatever the history holds.
CREATE TABLE due (
    message_id  UUID NOT NULL,
    endpoint_id UUID NOT NULL,
    app_id      UUID NOT NULL,
    -- The endpoint's: an owner reads the rows of its own slots alone.
    slot        SMALLINT NOT NULL,
    -- 0 fresh, 1 retry.
    kind        SMALLINT NOT NULL,
    due_at      BIGINT NOT NULL,
    attempts    INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    trigger     SMALLINT NOT NULL,
    -- Position in the order of an ordered endpoint. 0: scheduled, numbered when its time comes. NULL: not ordered.
    seq         BIGINT,
    PRIMARY KEY (message_id, endpoint_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
-- What a lane reads: fresh deliveries and retries apart, the longest due first.
CREATE INDEX due_of_lane ON due (slot, endpoint_id, kind, due_at);
CREATE INDEX due_retry ON due (due_at) WHERE kind = 1;
CREATE INDEX due_in_order ON due (endpoint_id, seq) WHERE seq > 0;
CREATE INDEX due_scheduled ON due (endpoint_id, due_at) WHERE seq = 0;

-- Deliveries of messages to very many endpoints, packed: they move to due in steps, and the row goes with the step that moves them.
CREATE TABLE fan_out (
    app_id     UUID NOT NULL,
    message_id UUID NOT NULL,
    pack       INTEGER NOT NULL,
    -- Ids of at most 256 endpoints, 16 bytes each.
    endpoints  BYTEA NOT NULL,
    PRIMARY KEY (app_id, message_id, pack)
);

-- Deliveries that ended undelivered; they can be resent.
CREATE TABLE dead (
    message_id  UUID NOT NULL,
    endpoint_id UUID NOT NULL,
    app_id      UUID NOT NULL,
    org         TEXT NOT NULL,
    reason      TEXT NOT NULL,
    at          BIGINT NOT NULL,
    attempts    INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    PRIMARY KEY (message_id, endpoint_id)
);
CREATE INDEX dead_of_endpoint ON dead (endpoint_id, message_id);
CREATE INDEX dead_of_org ON dead (org, message_id, endpoint_id);

CREATE TABLE attempt (
    id               UUID NOT NULL,
    message_id       UUID NOT NULL,
    endpoint_id      UUID NOT NULL,
    app_id           UUID NOT NULL,
    org              TEXT NOT NULL,
    number           INTEGER NOT NULL,
    -- The delivery's generation when the attempt began.
    generation       INTEGER NOT NULL,
    -- How many attempts the delivery had when this one delivered it; NULL: it did not, or the delivery was resent since. A
    -- delivered delivery has no other row.
    settles          INTEGER,
    trigger          SMALLINT NOT NULL,
    at               BIGINT NOT NULL,
    url              TEXT NOT NULL,
    request_headers  TEXT NOT NULL,
    failure          TEXT,
    detail           TEXT NOT NULL,
    status           INTEGER,
    duration_us      BIGINT NOT NULL,
    response_headers TEXT NOT NULL,
    response_body    BYTEA NOT NULL,
    next_at          BIGINT,
    PRIMARY KEY (message_id, endpoint_id, id)
) PARTITION BY RANGE (message_id);
CREATE INDEX attempt_of_endpoint ON attempt (endpoint_id, id);
CREATE INDEX attempt_of_org ON attempt (org, id);
CREATE INDEX attempt_delivered ON attempt (endpoint_id, message_id) WHERE settles IS NOT NULL;

-- Where deliveries stand. state: 0 fresh, 1 retry (both pending), 2 delivered, 3 dead. Three rules keep every read of it along
-- an index: no condition within an arm (PostgreSQL pulls up only arms without), the same type and affinity in all arms (SQLite
-- flattens only those), and ORDER BY names selected columns only (SQLite).
-- slot is -1 where the delivery has ended, so that "slot IN (-1, n)" leads along due_of_lane.
CREATE VIEW standing AS
    SELECT message_id, endpoint_id, app_id, slot, kind AS state, due_at, attempts, step, generation, trigger,
        CAST(NULL AS TEXT) AS reason, seq
    FROM due
    UNION ALL
    SELECT message_id, endpoint_id, app_id, CAST(-1 AS SMALLINT), CAST(3 AS SMALLINT), at, attempts, step, generation,
        CAST(0 AS SMALLINT), reason, CAST(NULL AS BIGINT)
    FROM dead
    UNION ALL
    SELECT message_id, endpoint_id, app_id, CAST(-1 AS SMALLINT), CAST(2 AS SMALLINT), at, settles, CAST(0 AS INTEGER),
        generation, CAST(0 AS SMALLINT), CAST(NULL AS TEXT), CAST(NULL AS BIGINT)
    FROM attempt;
-- Every delivery has exactly one row here. Of attempts, those that settle nothing have no number of attempts.
CREATE VIEW delivery AS
    SELECT message_id, endpoint_id, app_id, slot, state, due_at, attempts, step, generation, trigger, reason, seq
    FROM standing WHERE attempts IS NOT NULL;

-- Counts shown to people: attempts by minute, of an endpoint or (the nil id) of the whole organization.
-- Rows are added to again and again: with half of each page free, the new version stays on its page and no index is written (HOT).
CREATE TABLE rollup (
    org         TEXT NOT NULL,
    endpoint_id UUID NOT NULL,
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
) WITH (fillfactor = 50);
CREATE INDEX rollup_age ON rollup (minute);

-- The way in for the team's own transactions. Nothing here can refuse an insert: text columns that may all be absent, a
-- surrogate key, and no constraint of ours: not even the key is unique. What is wrong with a row the relay finds out, and says
-- so in `stuck_reason`.
--
-- The number comes from a sequence of our own that everybody may draw from: a writer needs INSERT on the outbox and no other
-- grant, and may even insert NULL, which an identity column would refuse.
CREATE SEQUENCE outbox_id;
GRANT USAGE ON SEQUENCE outbox_id TO PUBLIC;
CREATE TABLE outbox (
    id           BIGINT DEFAULT nextval('outbox_id'),
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
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER SEQUENCE outbox_id OWNED BY outbox.id;
-- A publication of all tables (change data capture, blue/green upgrades) refuses updates and deletes of a table without a key. This one can
-- have none: writers may repeat a number, and leave it out.
ALTER TABLE outbox REPLICA IDENTITY FULL;
CREATE INDEX outbox_next ON outbox (coalesce(look_at, 0), id);
CREATE INDEX outbox_stuck ON outbox (stuck_since) WHERE stuck_reason IS NOT NULL;

-- How many outbox rows became messages, by minute, for about an hour: shown to people.
CREATE TABLE outbox_relayed (
    minute  BIGINT PRIMARY KEY,
    relayed BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);

CREATE TABLE process (
    id         UUID PRIMARY KEY,
    name       TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- The 256 slots and their leases: who sends for the endpoints of a slot, and under which epoch.
CREATE TABLE slot (
    slot       SMALLINT PRIMARY KEY,
    owner      UUID,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
INSERT INTO slot (slot, owner, epoch, expires_at) SELECT n, NULL, 0, 0 FROM generate_series(0, 255) AS n;

-- What callers may show instead of a signed token: only the hash of a key is kept.
CREATE TABLE api_key (
    id           UUID PRIMARY KEY,
    org          TEXT NOT NULL,
    name         TEXT NOT NULL,
    hash         BYTEA NOT NULL,
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

-- Where an application's messages are fetched in place of being posted.
CREATE TABLE polling_endpoint (
    id          UUID NOT NULL PRIMARY KEY,
    app_id      UUID NOT NULL,
    uid         TEXT,
    disabled    BOOLEAN NOT NULL,
    event_types TEXT,
    channels    TEXT,
    metadata    TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX polling_endpoint_uid ON polling_endpoint (app_id, uid);
CREATE INDEX polling_endpoint_list ON polling_endpoint (app_id, id);

-- Readers whose position is kept here: what they asked from last.
CREATE TABLE polling_consumer (
    polling_endpoint_id UUID NOT NULL,
    name                TEXT NOT NULL,
    app_id              UUID NOT NULL,
    -- The first 60 bits of a message's id.
    position            BIGINT NOT NULL,
    -- Everything up to the position was read, and nothing followed it at this time.
    complete_at         BIGINT NOT NULL,
    -- How often it was moved by a seek, modulo 65,536.
    moves               INTEGER NOT NULL,
    -- A leased consumer (else leased_until is NULL): the greatest offsets that were given out, committed, and given out without ever being
    -- committed; the positions of what was given out last (8 bytes each, at most 250), and when the lease of these ends.
    given               BIGINT NOT NULL DEFAULT 0,
    committed           BIGINT NOT NULL DEFAULT 0,
    lapsed              BIGINT NOT NULL DEFAULT 0,
    leased              BYTEA,
    leased_until        BIGINT,
    -- To about a minute.
    polled_at           BIGINT NOT NULL,
    -- The polled_at after which its silence was reported.
    silence_reported    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (polling_endpoint_id, name)
);
CREATE INDEX polling_consumer_of_application ON polling_consumer (app_id);
-- Consumers whose silence is not reported yet, those that polled longest ago first.
CREATE INDEX polling_consumer_silence ON polling_consumer (polled_at) WHERE silence_reported <> polled_at;

-- Tokens that open one polling endpoint: only their hashes.
CREATE TABLE polling_token (
    id                  UUID NOT NULL PRIMARY KEY,
    hash                BYTEA NOT NULL,
    app_id              UUID NOT NULL,
    polling_endpoint_id UUID NOT NULL,
    -- Its last characters, for people who must tell several apart.
    hint                TEXT NOT NULL,
    created_at          BIGINT NOT NULL,
    expires_at          BIGINT
);
CREATE UNIQUE INDEX polling_token_hash ON polling_token (hash);
CREATE INDEX polling_token_list ON polling_token (polling_endpoint_id, id);
CREATE INDEX polling_token_of_application ON polling_token (app_id);

-- Programs on developers' machines that listeners forward messages to. Nothing is posted to them, and they go away when their listener has not
-- reported for an hour.
CREATE TABLE development_endpoint (
    app_id     UUID NOT NULL,
    -- The listener's.
    name       TEXT NOT NULL,
    -- Without credentials and query.
    url        TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    PRIMARY KEY (app_id, name)
);
CREATE INDEX development_endpoint_seen ON development_endpoint (seen_at);

-- How these programs responded: the newest 200 of each.
CREATE TABLE local_attempt (
    app_id        UUID NOT NULL,
    listener      TEXT NOT NULL,
    id            UUID NOT NULL,
    message_id    UUID NOT NULL,
    event_type    TEXT NOT NULL,
    -- NULL: there was no response.
    status        INTEGER,
    -- In microseconds.
    duration_us   BIGINT NOT NULL,
    -- At most 16 KiB.
    response_body TEXT NOT NULL,
    -- Why there was no response.
    error         TEXT NOT NULL,
    PRIMARY KEY (app_id, listener, id)
);

-- Autoconfig subscriptions: a token by which a receiver's own program makes its endpoint or its polling endpoint. Only the token's hash.
CREATE TABLE autoconfig (
    id                  UUID NOT NULL PRIMARY KEY,
    app_id              UUID NOT NULL,
    hash                BYTEA NOT NULL,
    -- The token's last characters.
    hint                TEXT NOT NULL,
    -- Feature flags of the token, as JSON.
    feature_flags       TEXT NOT NULL,
    -- What its endpoint signs with, sealed; the id and the token's hash are the associated data.
    secret              BYTEA NOT NULL,
    -- What was made by it; NULL: nothing yet.
    endpoint_id         UUID,
    polling_endpoint_id UUID,
    created_at          BIGINT NOT NULL
);
CREATE UNIQUE INDEX autoconfig_hash ON autoconfig (hash);
CREATE INDEX autoconfig_of_application ON autoconfig (app_id, id);

-- What a POST under an idempotency key made, for as long as the same key gives the same answer. Never the answer itself.
CREATE TABLE once (
    -- SHA-256 of who called, what, and under which key.
    hash BYTEA PRIMARY KEY,
    -- SHA-256 of the body.
    body BYTEA NOT NULL,
    made TEXT NOT NULL,
    at   BIGINT NOT NULL
);
CREATE INDEX once_age ON once (at);

-- Work that an organization asked for and that goes on behind the answer, in steps. It is resumed where it was left.
CREATE TABLE background (
    id         UUID PRIMARY KEY,
    org        TEXT NOT NULL,
    app_id     UUID,
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

-- Deliveries that background work made pending, the first 10,000 of each work.
CREATE TABLE resent (
    work_id     UUID NOT NULL,
    message_id  UUID NOT NULL,
    endpoint_id UUID NOT NULL,
    PRIMARY KEY (work_id, message_id, endpoint_id)
);

-- The copies of a message that a person edited and sent, for the page of the original.
CREATE TABLE edited_copy (
    message_id UUID NOT NULL,
    copy_id    UUID NOT NULL,
    PRIMARY KEY (message_id, copy_id)
);

-- The ids that a receiver said it has, for as long as what it misses is being sent again. Apart from the work's row, which every step rewrites.
CREATE TABLE background_received (
    background_id UUID PRIMARY KEY,
    -- At most 10,000 ids of messages, ascending, 16 bytes each.
    ids           BYTEA NOT NULL
);

CREATE TABLE login_link (
    hash       BYTEA PRIMARY KEY,
    org        TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE session (
    hash       BYTEA PRIMARY KEY,
    org        TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- NULL: a session of a one-time link.
    operator_id UUID,
    -- What the browser called itself, and where it was.
    agent      TEXT NOT NULL,
    address    TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX session_operator ON session (operator_id, created_at);

-- Tokens that were logged out, until they would have expired by themselves: the next to come with one is refused.
CREATE TABLE revoked_token (
    hash  BYTEA PRIMARY KEY,
    until BIGINT NOT NULL
);
CREATE INDEX revoked_token_age ON revoked_token (until);

-- Links that let a customer into the portal, once.
CREATE TABLE portal_link (
    hash       BYTEA PRIMARY KEY,
    org        TEXT NOT NULL,
    app_id     UUID NOT NULL,
    -- What they will see there and for how long; JSON.
    options    TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
-- An application has a bounded number of them.
CREATE INDEX portal_link_of_app ON portal_link (app_id, expires_at);

-- Counts of minutes, once they are older than any page shows minutes, are moved into those of their hour, and these into those of their day:
-- what was counted is the sum over all three tables, whatever of it has been moved. Each row is as in "rollup", over a longer time.

CREATE TABLE rollup_hour (
    org         TEXT NOT NULL,
    endpoint_id UUID NOT NULL,
    hour        BIGINT NOT NULL,
    delivered   BIGINT NOT NULL,
    failed      BIGINT NOT NULL,
    retried     BIGINT NOT NULL,
    dead        BIGINT NOT NULL,
    le0 BIGINT NOT NULL, le1 BIGINT NOT NULL, le2 BIGINT NOT NULL, le3 BIGINT NOT NULL,
    le4 BIGINT NOT NULL, le5 BIGINT NOT NULL, le6 BIGINT NOT NULL, le7 BIGINT NOT NULL,
    le8 BIGINT NOT NULL, le9 BIGINT NOT NULL, le10 BIGINT NOT NULL, le11 BIGINT NOT NULL,
    PRIMARY KEY (org, endpoint_id, hour)
) WITH (fillfactor = 50);
CREATE INDEX rollup_hour_age ON rollup_hour (hour);
-- Who fails most. There is none for minutes: a record would have to keep it up.
CREATE INDEX rollup_hour_failed ON rollup_hour (org, hour, endpoint_id, failed) WHERE failed > 0;

CREATE TABLE rollup_day (
    org         TEXT NOT NULL,
    endpoint_id UUID NOT NULL,
    day         BIGINT NOT NULL,
    delivered   BIGINT NOT NULL,
    failed      BIGINT NOT NULL,
    retried     BIGINT NOT NULL,
    dead        BIGINT NOT NULL,
    le0 BIGINT NOT NULL, le1 BIGINT NOT NULL, le2 BIGINT NOT NULL, le3 BIGINT NOT NULL,
    le4 BIGINT NOT NULL, le5 BIGINT NOT NULL, le6 BIGINT NOT NULL, le7 BIGINT NOT NULL,
    le8 BIGINT NOT NULL, le9 BIGINT NOT NULL, le10 BIGINT NOT NULL, le11 BIGINT NOT NULL,
    PRIMARY KEY (org, endpoint_id, day)
) WITH (fillfactor = 50);
CREATE INDEX rollup_day_age ON rollup_day (day);
CREATE INDEX rollup_day_failed ON rollup_day (org, day, endpoint_id, failed) WHERE failed > 0;

-- Who looks, and what they did: operators, customers' visits, the audit log.

-- Somebody who signs in to the dashboard by name and password. Without a row here, one-time links are the only way in.
CREATE TABLE operator (
    id         UUID PRIMARY KEY,
    -- What is typed to sign in; compared in lower case.
    name       TEXT NOT NULL UNIQUE,
    -- argon2id, in the PHC string format. NULL: signs in otherwise.
    password   TEXT,
    -- viewer, operator, admin.
    role       TEXT NOT NULL,
    -- The organizations that they may look at, a JSON list; NULL: all.
    orgs       TEXT,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT,
    -- The secret of the second factor, sealed under the master key; the step of the last code that was used; since when.
    totp       BYTEA,
    totp_step  BIGINT,
    totp_since BIGINT,
    -- The identity provider and its name for the person, of an account that signs in there.
    issuer     TEXT,
    subject    TEXT,
    UNIQUE (issuer, subject)
);

-- Unused recovery codes, as SHA-256.
CREATE TABLE recovery_code (
    operator_id UUID NOT NULL,
    hash        BYTEA NOT NULL,
    PRIMARY KEY (operator_id, hash)
);

-- Links with which a new password is set, at most one of an account.
CREATE TABLE password_reset (
    operator_id UUID PRIMARY KEY,
    hash        BYTEA NOT NULL UNIQUE,
    expires_at  BIGINT NOT NULL
);

-- The filters of a list that an operator keeps under a name.
CREATE TABLE saved_view (
    operator_id UUID NOT NULL,
    org         TEXT NOT NULL,
    name        TEXT NOT NULL,
    -- 'deliveries' or 'messages'.
    list        TEXT NOT NULL,
    -- A query string.
    query       TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (operator_id, org, name)
);

-- A customer's session in the portal: one application, as the team decided.
CREATE TABLE visit (
    hash       BYTEA PRIMARY KEY,
    org        TEXT NOT NULL,
    app_id     UUID NOT NULL,
    -- As of the link; JSON.
    options    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
-- An application has a bounded number of them.
CREATE INDEX visit_of_app ON visit (app_id, created_at);

-- Tokens that are refused from a time on: those of an application (the empty session) or of one of its portal sessions that were issued by then,
-- by the wall clock.
CREATE TABLE access_end (
    app_id     UUID NOT NULL,
    session_id TEXT NOT NULL,
    issued     BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL,
    PRIMARY KEY (app_id, session_id, ends_at)
);

-- What people did: written in the transaction of what was done, never changed.
CREATE TABLE audit (
    id     UUID PRIMARY KEY,
    org    TEXT NOT NULL,
    at     BIGINT NOT NULL,
    -- operator, link, customer, key, token, command.
    kind   TEXT NOT NULL,
    -- Who it was, as people know them.
    who    TEXT NOT NULL,
    act    TEXT NOT NULL,
    app_id UUID,
    -- What it was done to: an id or a name.
    thing  TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_list ON audit (org, id);
CREATE INDEX audit_age ON audit (at);

-- What the numbers are drawn from: a row apart from the endpoint's, because it is held until the commit of whatever draws. The nil
-- id's row is there from the first ordered endpoint on: relays take turns by it.
CREATE TABLE ordering (
    endpoint_id UUID PRIMARY KEY,
    next_seq    BIGINT NOT NULL,
    -- The next number for what was pending already when the endpoint became ordered: below all that came since.
    early_seq   BIGINT NOT NULL,
    -- When it became ordered, and when to look (again) for what has no number; NULL: there is nothing without.
    ordered_at  BIGINT NOT NULL,
    number_at   BIGINT
) WITH (fillfactor = 50);

-- Mails to applications' contacts: written in the transaction of what they tell, sent afterwards.
CREATE TABLE mail (
    id           UUID PRIMARY KEY,
    org          TEXT NOT NULL,
    app_id       UUID NOT NULL,
    app_name     TEXT NOT NULL,
    recipient    TEXT NOT NULL,
    -- What it tells, JSON; more may be added until it is taken to be sent for the first time.
    letter       TEXT NOT NULL,
    -- 0 waits, 1 sent, 2 given up.
    state        SMALLINT NOT NULL,
    created_at   BIGINT NOT NULL,
    -- When it was to go out first: an application gets one mail an hour at most.
    planned_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    attempts     INTEGER NOT NULL,
    -- Who took it has until then to send it.
    leased_until BIGINT NOT NULL,
    -- What the mail server said last.
    failure      TEXT
);
CREATE INDEX mail_waiting ON mail (due_at) WHERE state = 0;
CREATE INDEX mail_of_application ON mail (app_id, planned_at);

-- Messages before this one are past the retention: none of them is sent again, so that the queue has none of theirs for good once it has none.
-- Resends hold the row FOR SHARE. Always one row.
CREATE TABLE horizon (
    message_id UUID NOT NULL
);
-- It has no key, as its one value changes.
ALTER TABLE horizon REPLICA IDENTITY FULL;
INSERT INTO horizon (message_id) VALUES ('00000000-0000-0000-0000-000000000000');

-- Partitions that are being detached and dropped: what was interrupted is finished by this list.
CREATE TABLE leaving_partition (
    name TEXT PRIMARY KEY
);

-- The first partitions hold all that is older than the end of the next hour. They are never dropped: retention empties them row by row.
DO $$
DECLARE
    bound CONSTANT TEXT := lpad(to_hex((floor(extract(epoch FROM now()) / 3600)::bigint + 2) * 3600000), 12, '0')
        || '70008000000000000000';
BEGIN
    EXECUTE format('CREATE TABLE message_past PARTITION OF message FOR VALUES FROM (MINVALUE) TO (%L)', bound::uuid);
    EXECUTE format('CREATE TABLE attempt_past PARTITION OF attempt FOR VALUES FROM (MINVALUE) TO (%L)', bound::uuid);
END $$;
