-- Since when an endpoint is disabled; NULL: it is not.
ALTER TABLE endpoint ADD COLUMN disabled_at BIGINT;
UPDATE endpoint SET disabled_at = updated_at WHERE disabled;
