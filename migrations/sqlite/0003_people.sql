-- Who looks, and what they did: operators, customers' visits, the audit log.

-- Somebody who signs in to the dashboard by name and password. Without a row here, one-time links are the only way in.
CREATE TABLE operator (
    id         BLOB PRIMARY KEY,
    -- What is typed to sign in; compared in lower case.
    name       TEXT NOT NULL UNIQUE,
    -- argon2id, in the PHC string format.
    password   TEXT NOT NULL,
    -- The organizations that they may look at, a JSON list; NULL: all.
    orgs       TEXT,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT
) WITHOUT ROWID;

-- Whose session it is; NULL: somebody who came by a one-time link.
ALTER TABLE session ADD COLUMN operator_id BLOB;

-- A customer's session in the portal: one application, as the team decided.
CREATE TABLE visit (
    hash       BLOB PRIMARY KEY,
    org        TEXT NOT NULL,
    app_id     BLOB NOT NULL,
    -- As of the link; JSON.
    options    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) WITHOUT ROWID;

-- What people did: written in the transaction of what was done, never changed.
CREATE TABLE audit (
    id     BLOB PRIMARY KEY,
    org    TEXT NOT NULL,
    at     BIGINT NOT NULL,
    -- operator, link, customer, key, token, command.
    kind   TEXT NOT NULL,
    -- Who it was, as people know them.
    who    TEXT NOT NULL,
    act    TEXT NOT NULL,
    app_id BLOB,
    -- What it was done to: an id or a name.
    thing  TEXT NOT NULL,
    detail TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX audit_list ON audit (org, id);
CREATE INDEX audit_age ON audit (at);
