-- The invariants of docs/ARCHITECTURE.md that the database itself keeps.

CREATE TABLE node (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    role         text NOT NULL CHECK (role IN ('all', 'api', 'worker')),
    version      text NOT NULL,
    devices      jsonb NOT NULL DEFAULT '[]',
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE queue_control (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    paused     boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text
);
INSERT INTO queue_control DEFAULT VALUES;

-- The virtual time up to which an owner's submissions have been ranked.
CREATE TABLE owner_clock (
    owner      text PRIMARY KEY,
    virtual_at timestamptz NOT NULL
);

CREATE TABLE batch (
    id         uuid PRIMARY KEY,
    owner      text NOT NULL CHECK (owner <> ''),
    size       integer NOT NULL CHECK (size > 0),
    sequence   integer NOT NULL DEFAULT 0 CHECK (sequence >= 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX batch_of_owner ON batch (owner, id);

CREATE TABLE asset (
    id            uuid PRIMARY KEY,
    owner         text NOT NULL CHECK (owner <> ''),
    kind          text NOT NULL CHECK (kind IN ('source', 'preview', 'mesh')),
    conversion_id uuid,
    attempt       smallint,
    storage_key   text NOT NULL UNIQUE,
    file_name     text NOT NULL CHECK (file_name <> ''),
    media_type    text NOT NULL,
    format        text CHECK (format IN ('glb', 'obj', 'stl', 'ply', 'three_mf')),
    bytes         bigint NOT NULL CHECK (bytes > 0),
    sha256        bytea NOT NULL CHECK (octet_length(sha256) = 32),
    width         integer CHECK (width > 0),
    height        integer CHECK (height > 0),
    triangles     integer CHECK (triangles > 0),
    vertices      integer CHECK (vertices > 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'mesh') = (format IS NOT NULL)),
    CHECK ((kind = 'mesh') = (triangles IS NOT NULL AND vertices IS NOT NULL)),
    CHECK ((kind = 'mesh') = (width IS NULL OR height IS NULL)),
    CHECK ((kind = 'source') = (conversion_id IS NULL)),
    CHECK ((conversion_id IS NULL) = (attempt IS NULL))
);
CREATE UNIQUE INDEX asset_of_conversion ON asset (conversion_id, kind, format) NULLS NOT DISTINCT WHERE conversion_id IS NOT NULL;

CREATE TABLE conversion (
    id                  uuid PRIMARY KEY,
    owner               text NOT NULL CHECK (owner <> ''),
    priority            text NOT NULL CHECK (priority IN ('agent', 'user')),
    batch_id            uuid REFERENCES batch,
    batch_index         integer CHECK (batch_index >= 0),
    retry_of            uuid REFERENCES conversion ON DELETE SET NULL,
    source_asset_id     uuid NOT NULL REFERENCES asset,
    model               text NOT NULL,
    options             jsonb NOT NULL,
    status              text NOT NULL DEFAULT 'queued'
                        CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    stage               text CHECK (stage IN ('prepare', 'encode', 'reconstruct', 'mesh', 'texture', 'export')),
    sequence            integer NOT NULL DEFAULT 1 CHECK (sequence > 0),
    attempt             smallint NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    failures            smallint NOT NULL DEFAULT 0 CHECK (failures >= 0),
    rank                timestamptz NOT NULL,
    run_at              timestamptz NOT NULL DEFAULT now(),
    node_id             uuid,
    lease_until         timestamptz,
    cancel_requested_at timestamptz,
    error_code          text,
    error_message       text,
    error_retryable     boolean,
    timings             jsonb,
    quality             jsonb,
    created_at          timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    finished_at         timestamptz,
    expires_at          timestamptz,
    UNIQUE (batch_id, batch_index),
    CHECK ((batch_id IS NULL) = (batch_index IS NULL)),
    CHECK ((status = 'running') = (stage IS NOT NULL)),
    CHECK ((status = 'running') = (lease_until IS NOT NULL)),
    CHECK ((status = 'running') = (node_id IS NOT NULL)),
    CHECK ((status = 'failed') = (error_code IS NOT NULL)),
    CHECK ((error_code IS NULL) = (error_message IS NULL)),
    CHECK ((error_code IS NULL) = (error_retryable IS NULL)),
    CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'canceled'))),
    CHECK (status <> 'succeeded' OR (timings IS NOT NULL AND quality IS NOT NULL)),
    CHECK (status <> 'running' OR (attempt > 0 AND started_at IS NOT NULL))
);
ALTER TABLE asset ADD FOREIGN KEY (conversion_id) REFERENCES conversion ON DELETE CASCADE;

-- The claim walks this index and nothing else: rank holds class and fairness, id breaks ties.
CREATE INDEX conversion_claim ON conversion (rank, id) WHERE status = 'queued';
CREATE INDEX conversion_leases ON conversion (lease_until) WHERE status = 'running';
CREATE INDEX conversion_of_node ON conversion (node_id) WHERE status = 'running';
CREATE INDEX conversion_of_owner ON conversion (owner, id);
CREATE INDEX conversion_of_source ON conversion (source_asset_id);
CREATE INDEX conversion_retries ON conversion (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX conversion_recent ON conversion (finished_at) WHERE status = 'succeeded';
CREATE INDEX conversion_listing ON conversion (id);

-- Every transition of (status, stage, attempt), numbered without a gap within its conversion and its batch.
CREATE TABLE conversion_event (
    conversion_id  uuid NOT NULL REFERENCES conversion ON DELETE CASCADE,
    sequence       integer NOT NULL CHECK (sequence > 0),
    batch_id       uuid,
    batch_sequence integer CHECK (batch_sequence > 0),
    status         text NOT NULL,
    stage          text,
    attempt        smallint NOT NULL,
    node_id        uuid,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (conversion_id, sequence),
    UNIQUE (batch_id, batch_sequence),
    CHECK ((batch_id IS NULL) = (batch_sequence IS NULL))
);

CREATE TABLE idempotency (
    owner         text NOT NULL,
    key           text NOT NULL CHECK (key <> ''),
    fingerprint   bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    conversion_id uuid,
    batch_id      uuid,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, key),
    CHECK (conversion_id IS NULL OR batch_id IS NULL)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

-- The state machine: which status may follow which, that attempts only grow, and that each transition is numbered.
CREATE FUNCTION conversion_check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.status, NEW.stage, NEW.attempt) IS NOT DISTINCT FROM (OLD.status, OLD.stage, OLD.attempt) THEN
        NEW.sequence := OLD.sequence;
        RETURN NEW;
    END IF;
    IF NEW.status <> OLD.status AND NOT (
        (OLD.status = 'queued' AND NEW.status IN ('running', 'canceled', 'failed'))
        OR (OLD.status = 'running' AND NEW.status IN ('queued', 'succeeded', 'failed', 'canceled'))
    ) THEN
        RAISE EXCEPTION 'conversion % can not go from % to %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'conversion_transition';
    END IF;
    IF NEW.attempt <> OLD.attempt + (OLD.status = 'queued' AND NEW.status = 'running')::int THEN
        RAISE EXCEPTION 'conversion %: an attempt begins with each claim and at no other time', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'conversion_attempt';
    END IF;
    NEW.sequence := OLD.sequence + 1;
    RETURN NEW;
END
$$;
CREATE TRIGGER conversion_transition BEFORE UPDATE ON conversion
    FOR EACH ROW EXECUTE FUNCTION conversion_check_transition();

-- Records transitions, numbers them within their batch, and wakes listeners. Batch rows are locked in the order
-- of their ids, so that statements touching several batches can't deadlock.
CREATE FUNCTION conversion_record(changed uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM batch
        WHERE id IN (SELECT batch_id FROM conversion WHERE id = ANY (changed) AND batch_id IS NOT NULL)
        ORDER BY id FOR NO KEY UPDATE;
    WITH fresh AS (
        SELECT c.*, row_number() OVER (PARTITION BY c.batch_id ORDER BY c.batch_index) AS step
        FROM conversion c WHERE c.id = ANY (changed)
    ), counted AS (
        UPDATE batch SET sequence = batch.sequence + steps.count
        FROM (SELECT batch_id, count(*)::int AS count FROM fresh WHERE batch_id IS NOT NULL GROUP BY batch_id) steps
        WHERE batch.id = steps.batch_id
        RETURNING batch.id, batch.sequence - steps.count AS base
    )
    INSERT INTO conversion_event (conversion_id, sequence, batch_id, batch_sequence, status, stage, attempt, node_id)
    SELECT f.id, f.sequence, f.batch_id, counted.base + f.step, f.status, f.stage, f.attempt, f.node_id
    FROM fresh f LEFT JOIN counted ON counted.id = f.batch_id;
    PERFORM pg_notify('orfeas_event', json_build_object('conversion', id, 'batch', batch_id)::text)
        FROM conversion WHERE id = ANY (changed);
    PERFORM pg_notify('orfeas_queue', '') FROM conversion WHERE id = ANY (changed) AND status = 'queued' LIMIT 1;
END
$$;

CREATE FUNCTION conversion_after_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM conversion_record(ARRAY (SELECT id FROM new_rows));
    RETURN NULL;
END
$$;
CREATE TRIGGER conversion_inserted AFTER INSERT ON conversion
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION conversion_after_insert();

CREATE FUNCTION conversion_after_update() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed uuid[];
BEGIN
    changed := ARRAY (SELECT n.id FROM new_rows n JOIN old_rows o ON o.id = n.id WHERE n.sequence <> o.sequence);
    IF cardinality(changed) > 0 THEN
        PERFORM conversion_record(changed);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER conversion_updated AFTER UPDATE ON conversion
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION conversion_after_update();
