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
);
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
);
CREATE INDEX rollup_day_age ON rollup_day (day);
CREATE INDEX rollup_day_failed ON rollup_day (org, day, endpoint_id, failed) WHERE failed > 0;
