-- Who did what, and what was refused. Written once, chained by the sealer, removed by retention alone.

CREATE TABLE audit_event (
    id         uuid PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp() CHECK (isfinite(at)),
    kind       text NOT NULL CHECK (kind IN ('mutation', 'refusal', 'refusals', 'command')),
    actor      text CHECK (actor ~ '^(user|key):' AND char_length(actor) <= 300),
    key_id     text CHECK (key_id <> '' AND char_length(key_id) <= 64),
    operation  text CHECK (operation <> '' AND char_length(operation) <= 200),
    outcome    text NOT NULL CHECK (outcome ~ '^[A-Z][A-Z0-9_]{1,63}$'),
    address    text CHECK (address <> '' AND char_length(address) <= 64),
    request_id text CHECK (request_id <> '' AND char_length(request_id) <= 128),
    node_id    uuid,
    count      integer NOT NULL DEFAULT 1 CHECK (count >= 1),
    details    jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object' AND octet_length(details::text) <= 4096),
    CHECK (count = 1 OR kind = 'refusals')
);
CREATE INDEX audit_event_newest ON audit_event (at DESC, id DESC);
CREATE INDEX audit_event_of_actor ON audit_event (actor, at DESC, id DESC) WHERE actor IS NOT NULL;
CREATE INDEX audit_event_of_key ON audit_event (key_id, at DESC, id DESC) WHERE key_id IS NOT NULL;
CREATE INDEX audit_event_of_outcome ON audit_event (outcome, at DESC, id DESC);

-- What the sealer has yet to chain. A list rather than a mark that the sealer moves on: a transaction that commits late
-- can't be passed over, and the sealer touches nothing that a writer waits for. No foreign key: an event that vanished
-- before it was sealed leaves its line here for the verification to find.
CREATE TABLE audit_pending (
    event_id uuid PRIMARY KEY
);

-- mac = HMAC(the audit key of `master`; seq, the mac before, every column of the event).
CREATE TABLE audit_seal (
    seq      bigint PRIMARY KEY CHECK (seq >= 1),
    event_id uuid NOT NULL UNIQUE,
    master   text NOT NULL CHECK (master <> ''),
    mac      bytea NOT NULL CHECK (octet_length(mac) = 32)
);

-- The last seal that retention has removed: the verification starts after it. `own_mac` vouches for the row.
CREATE TABLE audit_checkpoint (
    seq           bigint PRIMARY KEY CHECK (seq >= 1),
    mac           bytea NOT NULL CHECK (octet_length(mac) = 32),
    master        text NOT NULL CHECK (master <> ''),
    own_mac       bytea NOT NULL CHECK (octet_length(own_mac) = 32),
    pruned_at     timestamptz NOT NULL CHECK (isfinite(pruned_at)),
    events_pruned bigint NOT NULL CHECK (events_pruned >= 1)
);

CREATE FUNCTION audit_event_await_seal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_pending SELECT id FROM added;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_event_await_seal AFTER INSERT ON audit_event REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION audit_event_await_seal();

-- Against mistakes: whoever may run SQL can set the setting or drop the trigger. That such a change is found is the
-- business of the seals, whose key is not in the database.
CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' OR current_setting('orfeas.audit_pruning', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'the audit log is append-only: % of % is refused', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_seal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();

-- Removes the seals up to one, their events, and the checkpoints that this makes useless; returns how many events went.
CREATE FUNCTION audit_prune(seq_max bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    pruned bigint;
BEGIN
    PERFORM set_config('orfeas.audit_pruning', 'on', true);
    WITH gone AS (DELETE FROM audit_seal WHERE seq <= seq_max RETURNING event_id)
    DELETE FROM audit_event USING gone WHERE audit_event.id = gone.event_id;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    DELETE FROM audit_checkpoint WHERE seq < seq_max;
    PERFORM set_config('orfeas.audit_pruning', 'off', true);
    RETURN pruned;
END $$;
