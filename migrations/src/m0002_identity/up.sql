-- Who may call, how much, and what has been used. Quotas are exact because they are charged here, in the transaction
-- that does what they are charged for.

-- The master keys that nodes have started with. A name stands for one key for ever; the fingerprint reveals nothing of it.
CREATE TABLE master_key (
    name          text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9_.-]{1,64}$'),
    fingerprint   bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    first_seen_at timestamptz NOT NULL DEFAULT now()
);
-- A node's ring, the key that it signs with first.
ALTER TABLE node ADD COLUMN master_keys text[] NOT NULL DEFAULT '{}';

-- Secrets are derived from a master key, the id and the generation: nothing here signs anything.
CREATE TABLE api_key (
    id                  text PRIMARY KEY CHECK (id ~ '^ofk_[0-9a-z]{20}$'),
    name                text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    permissions         text[] NOT NULL CHECK (cardinality(permissions) > 0 AND permissions <@ ARRAY [
                            'conversions:submit', 'conversions:batch', 'conversions:read', 'conversions:cancel', 'admin']),
    requests_per_minute integer NOT NULL CHECK (requests_per_minute BETWEEN 1 AND 1000000),
    conversions_at_once integer CHECK (conversions_at_once > 0),
    conversions_per_day integer CHECK (conversions_per_day > 0),
    images_per_batch    integer NOT NULL CHECK (images_per_batch BETWEEN 1 AND 256),
    networks            text[] CHECK (cardinality(networks) BETWEEN 1 AND 64),
    master              text NOT NULL REFERENCES master_key,
    generation          integer NOT NULL DEFAULT 1 CHECK (generation > 0),
    -- After a rotation the generation before works for a while, with the master key of its time.
    previous_master     text REFERENCES master_key,
    previous_until      timestamptz,
    -- Counts every change, so that nodes know their copies are old.
    version             integer NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at          timestamptz NOT NULL DEFAULT now(),
    created_by          text NOT NULL CHECK (created_by <> ''),
    expires_at          timestamptz,
    revoked_at          timestamptz,
    last_used_at        timestamptz,
    CHECK ((previous_master IS NULL) = (previous_until IS NULL)),
    CHECK (previous_master IS NULL OR generation > 1)
);
CREATE INDEX api_key_listing ON api_key (created_at DESC, id DESC);

-- A revoked key stays revoked, generations only grow, and listeners hear of every change but the time of the last use.
CREATE FUNCTION api_key_check_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN
        RAISE EXCEPTION 'key % is revoked for good', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'api_key_revoked';
    END IF;
    IF NEW.generation < OLD.generation THEN
        RAISE EXCEPTION 'key %: a generation that has passed never comes back', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'api_key_generation';
    END IF;
    IF (NEW.*) IS DISTINCT FROM (OLD.*) AND NEW.last_used_at IS NOT DISTINCT FROM OLD.last_used_at THEN
        NEW.version := OLD.version + 1;
        PERFORM pg_notify('orfeas_key', NEW.id);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER api_key_changed BEFORE UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION api_key_check_change();

-- Logged like everything else: a crash must not forget a nonce.
CREATE TABLE nonce (
    key_id     text NOT NULL REFERENCES api_key ON DELETE CASCADE,
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
    -- After this the signature is too old anyway.
    keep_until timestamptz NOT NULL,
    PRIMARY KEY (key_id, hash)
);
CREATE INDEX nonce_age ON nonce (keep_until);

-- The generic cell rate algorithm (ITU-T I.371): the theoretical arrival time of a caller's next request.
CREATE TABLE request_rate (
    caller     text PRIMARY KEY,
    arrival_at timestamptz NOT NULL
);
CREATE INDEX request_rate_age ON request_rate (arrival_at);

-- Charges `cost` requests to a caller, all or none. `remaining` could follow at once; all is unused again after
-- `reset_seconds`; when refused, the same charge is accepted after `retry_seconds`, if nothing else is charged meanwhile.
-- The clock is read after the row is locked, so that waiting for it counts as waiting.
CREATE FUNCTION charge_rate(
    who text, per_minute integer, burst integer, cost integer,
    OUT charged boolean, OUT remaining integer, OUT reset_seconds double precision, OUT retry_seconds double precision
) LANGUAGE plpgsql AS $$
DECLARE
    step    interval := interval '1 minute' / per_minute;
    arrival timestamptz;
    moment  timestamptz;
BEGIN
    IF cost > burst THEN
        RAISE EXCEPTION 'a charge of % can never be accepted, % are the most at once', cost, burst
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO request_rate AS rate (caller, arrival_at) VALUES (who, clock_timestamp() + cost * step)
    ON CONFLICT (caller) DO UPDATE SET arrival_at = greatest(rate.arrival_at, clock_timestamp()) + cost * step
        WHERE greatest(rate.arrival_at, clock_timestamp()) + cost * step <= clock_timestamp() + burst * step
    RETURNING arrival_at INTO arrival;
    charged := FOUND;
    IF NOT charged THEN
        SELECT arrival_at INTO arrival FROM request_rate WHERE caller = who;
    END IF;
    moment := clock_timestamp();
    arrival := greatest(arrival, moment);
    remaining := greatest(0, floor(extract(epoch FROM moment + burst * step - arrival) / extract(epoch FROM step)));
    reset_seconds := extract(epoch FROM arrival - moment);
    retry_seconds := CASE WHEN charged THEN 0
        ELSE greatest(0, extract(epoch FROM arrival + cost * step - burst * step - moment)) END;
END
$$;

-- What stands between a request whose signature is right and its execution: the key as it is now, the nonce, the quota.
-- A tenth of the minute's requests may come at once.
CREATE FUNCTION admit_request(
    called text, used_generation integer, nonce_hash bytea, nonce_until timestamptz, cost integer,
    OUT verdict text, OUT current_version integer, OUT allowed integer,
    OUT remaining integer, OUT reset_seconds double precision, OUT retry_seconds double precision
) LANGUAGE plpgsql AS $$
DECLARE
    mine api_key%ROWTYPE;
    rate record;
BEGIN
    SELECT * INTO mine FROM api_key WHERE id = called;
    current_version := mine.version;
    allowed := mine.requests_per_minute;
    IF mine.id IS NULL OR mine.revoked_at IS NOT NULL THEN
        verdict := 'revoked';
        RETURN;
    ELSIF mine.expires_at <= clock_timestamp() THEN
        verdict := 'expired';
        RETURN;
    ELSIF used_generation <> mine.generation
        AND NOT (used_generation = mine.generation - 1 AND coalesce(mine.previous_until > clock_timestamp(), false)) THEN
        verdict := 'superseded';
        RETURN;
    END IF;
    -- Operations of an open connection bring none: its upgrade brought one.
    IF nonce_hash IS NOT NULL THEN
        INSERT INTO nonce (key_id, hash, keep_until) VALUES (called, nonce_hash, nonce_until) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            verdict := 'replayed';
            RETURN;
        END IF;
    END IF;
    SELECT * INTO rate FROM charge_rate('key:' || called, allowed, greatest(1, allowed / 10), cost);
    remaining := rate.remaining;
    reset_seconds := rate.reset_seconds;
    retry_seconds := rate.retry_seconds;
    verdict := CASE WHEN rate.charged THEN 'admitted' ELSE 'limited' END;
    -- To the minute: operators want to know which keys are in use, not when to the second.
    IF mine.last_used_at IS NULL OR mine.last_used_at < clock_timestamp() - interval '1 minute' THEN
        UPDATE api_key SET last_used_at = clock_timestamp() WHERE id = called;
    END IF;
END
$$;

-- Conversions charged to an owner on a day of UTC.
CREATE TABLE usage_day (
    owner       text NOT NULL,
    day         date NOT NULL,
    conversions integer NOT NULL CHECK (conversions >= 0),
    PRIMARY KEY (owner, day)
);
CREATE INDEX usage_day_age ON usage_day (day);
-- Conversions at a time are counted, not kept: what is counted can't leak.
CREATE INDEX conversion_active ON conversion (owner) WHERE status IN ('queued', 'running');

-- Whether it was charged to its owner: what was not is not given back.
ALTER TABLE conversion ADD COLUMN charged boolean NOT NULL DEFAULT false;

-- How far an ended attempt had come, so that what is shown of it never falls.
ALTER TABLE conversion ADD COLUMN last_stage text
    CHECK (last_stage IN ('prepare', 'encode', 'reconstruct', 'mesh', 'texture', 'export'));
ALTER TABLE conversion_event ADD COLUMN last_stage text;

CREATE FUNCTION conversion_keep_stage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.last_stage := CASE WHEN NEW.status IN ('failed', 'canceled') THEN coalesce(OLD.stage, OLD.last_stage) END;
    RETURN NEW;
END
$$;
CREATE TRIGGER conversion_last_stage BEFORE UPDATE OF status ON conversion
    FOR EACH ROW EXECUTE FUNCTION conversion_keep_stage();
CREATE FUNCTION conversion_event_keep_stage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status IN ('failed', 'canceled') THEN
        NEW.last_stage := (SELECT last_stage FROM conversion WHERE id = NEW.conversion_id);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER conversion_event_last_stage BEFORE INSERT ON conversion_event
    FOR EACH ROW EXECUTE FUNCTION conversion_event_keep_stage();

-- Gives back what ended without being the owner's doing: called off or deleted before it ran, or failed by our fault.
-- Rows are taken in the order of their keys, so that two statements can't wait for each other.
CREATE FUNCTION give_back(owners text[], days date[]) RETURNS void LANGUAGE sql AS $$
    WITH due AS (
        SELECT usage.owner, usage.day, returned.count FROM usage_day usage
        JOIN (SELECT owner, day, count(*)::int AS count FROM unnest(owners, days) AS r (owner, day) GROUP BY owner, day) returned
            ON (returned.owner, returned.day) = (usage.owner, usage.day)
        ORDER BY usage.owner, usage.day FOR NO KEY UPDATE OF usage)
    UPDATE usage_day SET conversions = greatest(0, usage_day.conversions - due.count)
    FROM due WHERE (usage_day.owner, usage_day.day) = (due.owner, due.day)
$$;
CREATE FUNCTION conversion_give_back_ended() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    owners text[];
    days   date[];
BEGIN
    SELECT array_agg(n.owner), array_agg((n.created_at AT TIME ZONE 'UTC')::date) INTO owners, days
    FROM new_rows n JOIN old_rows o ON o.id = n.id
    WHERE n.charged AND ((o.status = 'queued' AND n.status = 'canceled' AND n.attempt = 0)
       OR (o.status <> 'failed' AND n.status = 'failed' AND n.error_code IN ('INTERNAL', 'OVERLOADED', 'MODEL_UNAVAILABLE')));
    IF owners IS NOT NULL THEN
        PERFORM give_back(owners, days);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER conversion_ended AFTER UPDATE ON conversion
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION conversion_give_back_ended();
CREATE FUNCTION conversion_give_back_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    owners text[];
    days   date[];
BEGIN
    SELECT array_agg(owner), array_agg((created_at AT TIME ZONE 'UTC')::date) INTO owners, days
    FROM old_rows WHERE charged AND status = 'queued' AND attempt = 0;
    IF owners IS NOT NULL THEN
        PERFORM give_back(owners, days);
    END IF;
    -- Whoever follows what is gone must learn of it.
    PERFORM pg_notify('orfeas_event', json_build_object('conversion', id, 'batch', batch_id)::text) FROM old_rows;
    RETURN NULL;
END
$$;
CREATE TRIGGER conversion_deleted AFTER DELETE ON conversion
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION conversion_give_back_deleted();
