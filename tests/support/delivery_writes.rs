//! Lets tests write to the view `delivery` like to a table: triggers put each row where its state belongs. The product
//! has none of them.

/// What SQLite does for each row: `{clear}` takes the old one out of wherever it is, `{put}` puts the new one in its place.
const SQLITE: &str = "
CREATE TRIGGER delivery_insert INSTEAD OF INSERT ON delivery BEGIN {put} END;
CREATE TRIGGER delivery_update INSTEAD OF UPDATE ON delivery BEGIN {clear} {put} END;
CREATE TRIGGER delivery_delete INSTEAD OF DELETE ON delivery BEGIN {clear} END;";

const POSTGRES: &str = "
CREATE FUNCTION sendoff.write_delivery() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP <> 'INSERT' THEN {clear} END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    {put}
    RETURN NEW;
END $$;
CREATE TRIGGER delivery_write INSTEAD OF INSERT OR UPDATE OR DELETE ON sendoff.delivery
    FOR EACH ROW EXECUTE FUNCTION sendoff.write_delivery();";

const CLEAR: &str = "
    DELETE FROM {s}due WHERE message_id = OLD.message_id AND endpoint_id = OLD.endpoint_id;
    DELETE FROM {s}dead WHERE message_id = OLD.message_id AND endpoint_id = OLD.endpoint_id;
    UPDATE {s}attempt SET settles = NULL WHERE message_id = OLD.message_id AND endpoint_id = OLD.endpoint_id;";

/// One that is delivered is told by its newest attempt, which is made up if there is none.
const PUT: &str = "
    INSERT INTO {s}due (message_id, endpoint_id, app_id, slot, kind, due_at, attempts, step, generation, trigger, seq)
        SELECT NEW.message_id, NEW.endpoint_id, NEW.app_id, (SELECT slot FROM {s}endpoint WHERE id = NEW.endpoint_id),
            NEW.state, NEW.due_at, NEW.attempts, NEW.step, NEW.generation, NEW.trigger, NEW.seq WHERE NEW.state <= 1;
    INSERT INTO {s}dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation)
        SELECT NEW.message_id, NEW.endpoint_id, NEW.app_id, (SELECT org FROM {s}application WHERE id = NEW.app_id),
            COALESCE(NEW.reason, 'exhausted'), NEW.due_at, NEW.attempts, NEW.step, NEW.generation WHERE NEW.state = 3;
    INSERT INTO {s}attempt (id, message_id, endpoint_id, app_id, org, number, generation, trigger, at, url, request_headers,
            detail, duration_us, response_headers, response_body)
        SELECT NEW.message_id, NEW.message_id, NEW.endpoint_id, NEW.app_id,
            (SELECT org FROM {s}application WHERE id = NEW.app_id), 1, NEW.generation, 0, NEW.due_at, '', '', '', 0, '', {none}
        WHERE NEW.state = 2 AND NOT EXISTS
            (SELECT 1 FROM {s}attempt a WHERE a.message_id = NEW.message_id AND a.endpoint_id = NEW.endpoint_id);
    UPDATE {s}attempt SET settles = NEW.attempts, generation = NEW.generation
        WHERE NEW.state = 2 AND message_id = NEW.message_id AND endpoint_id = NEW.endpoint_id AND id =
            (SELECT a.id FROM {s}attempt a WHERE a.message_id = NEW.message_id AND a.endpoint_id = NEW.endpoint_id
             ORDER BY a.id DESC LIMIT 1);";

/// The statements, for one of the two engines.
pub fn delivery_writes(sqlite: bool) -> String {
    let (frame, schema, none) = if sqlite { (SQLITE, "", "x''") } else { (POSTGRES, "sendoff.", "''") };
    frame.replace("{clear}", CLEAR).replace("{put}", PUT).replace("{s}", schema).replace("{none}", none)
}
