-- An ordered endpoint's deliveries are sent one after another, each after the one before it is delivered or dead.
ALTER TABLE endpoint ADD COLUMN ordered BOOLEAN NOT NULL DEFAULT FALSE;

-- A delivery's number in the order of its endpoint. 0: it is scheduled, and gets its number when its time has come. NULL: its
-- endpoint was not ordered when it was made. Nothing without a number is in these indexes.
ALTER TABLE delivery ADD COLUMN seq BIGINT;
CREATE INDEX delivery_in_order ON delivery (endpoint_id, seq) WHERE state <= 1 AND seq > 0;
CREATE INDEX delivery_in_time ON delivery (endpoint_id, due_at) WHERE state <= 1 AND seq = 0;

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
