-- Endpoints that do nothing but fail are warned of before they are disabled; contacts are told by mail.

-- How many of the warnings were given in this streak of failures, and when the last one was; none: 0, NULL.
ALTER TABLE endpoint ADD COLUMN warned SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE endpoint ADD COLUMN warned_at BIGINT;

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
