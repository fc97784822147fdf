-- Webhooks: who is to be told of what, and what became of telling them. Deliveries are made by triggers, in the
-- transaction that makes the transition which they tell of, so that none is forgotten and none told of what was not.

-- A hook: where (`url`; `host` is its host and port), and of which events.
CREATE FUNCTION is_webhook(hook jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT hook IS NULL OR coalesce(jsonb_typeof(hook) = 'object'
        AND hook ->> 'url' ~ '^https?://' AND octet_length(hook ->> 'url') <= 2048
        AND octet_length(hook ->> 'host') BETWEEN 1 AND 300
        AND jsonb_array_length(hook -> 'events') > 0
        AND hook -> 'events' <@ '["conversion.started", "conversion.succeeded", "conversion.failed", "conversion.canceled",
            "batch.finished"]', false)
$$;
ALTER TABLE conversion ADD COLUMN webhook jsonb CHECK (is_webhook(webhook));
ALTER TABLE batch ADD COLUMN webhook jsonb CHECK (is_webhook(webhook));
-- Of what its owner submits without a hook of its own.
ALTER TABLE api_key ADD COLUMN webhook jsonb CHECK (is_webhook(webhook));

-- UUIDv7, made here because older servers than 18 have no function for it.
CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid
$$;

CREATE TABLE webhook_delivery (
    -- Also the message's id: the same at each attempt, so that receivers can tell repetitions.
    id               uuid PRIMARY KEY DEFAULT new_id(),
    owner            text NOT NULL CHECK (owner <> ''),
    event            text NOT NULL CHECK (event IN
                     ('conversion.started', 'conversion.succeeded', 'conversion.failed', 'conversion.canceled', 'batch.finished')),
    -- What it is about: a conversion, of this batch or of none, or the batch itself.
    conversion_id    uuid REFERENCES conversion ON DELETE CASCADE,
    batch_id         uuid REFERENCES batch ON DELETE CASCADE,
    -- The transition that it tells of. Of one conversion, the earlier go first.
    sequence         integer NOT NULL CHECK (sequence > 0),
    url              text NOT NULL CHECK (url <> ''),
    host             text NOT NULL CHECK (host <> ''),
    status           text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- How many of them were made before it was sent again on demand.
    attempts_before  integer NOT NULL DEFAULT 0 CHECK (attempts_before BETWEEN 0 AND attempts),
    -- While a node is at it: when another one may take over.
    next_attempt_at  timestamptz DEFAULT now(),
    node_id          uuid,
    -- A day after the first attempt.
    give_up_at       timestamptz,
    last_status_code integer CHECK (last_status_code BETWEEN 100 AND 999),
    last_error       text CHECK (last_error IN ('not_public', 'unreachable', 'timeout', 'redirected',
                     'refused', 'gone', 'key_ended', 'internal')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    delivered_at     timestamptz,
    CHECK ((event = 'batch.finished') = (conversion_id IS NULL)),
    CHECK (conversion_id IS NOT NULL OR batch_id IS NOT NULL),
    CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK (node_id IS NULL OR status = 'pending'),
    CHECK ((status = 'delivered') = (delivered_at IS NOT NULL)),
    CHECK (status <> 'delivered' OR (last_error IS NULL AND last_status_code IS NOT NULL)),
    CHECK (status <> 'failed' OR last_error IS NOT NULL),
    CHECK ((attempts > attempts_before) OR (give_up_at IS NULL AND status = 'pending'))
);
-- The claim goes from host to host, and to the earliest of each.
CREATE INDEX webhook_delivery_due ON webhook_delivery (host, next_attempt_at, id) WHERE status = 'pending';
CREATE INDEX webhook_delivery_waiting_batch ON webhook_delivery (batch_id) WHERE status = 'pending';
CREATE UNIQUE INDEX webhook_delivery_of_conversion ON webhook_delivery (conversion_id, sequence) WHERE conversion_id IS NOT NULL;
CREATE UNIQUE INDEX webhook_delivery_of_batch ON webhook_delivery (batch_id) WHERE conversion_id IS NULL;
CREATE INDEX webhook_delivery_in_batch ON webhook_delivery (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX webhook_delivery_of_owner ON webhook_delivery (owner, id);
CREATE INDEX webhook_delivery_age ON webhook_delivery (created_at);

-- The hook of what an owner submitted: its own, or else its key's, as long as that lets anybody in.
CREATE FUNCTION webhook_of(own jsonb, called text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(own, (SELECT webhook FROM api_key
        WHERE called LIKE 'key:%' AND id = substr(called, 5) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())))
$$;

-- Tells of batches that have ended with this statement. Whoever ends the last conversions of a batch side by side waits here
-- for the other, and the last of them sees that all have ended. Batches are locked in the order of their ids.
CREATE FUNCTION webhook_tell_batches(touched uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM batch WHERE id = ANY (touched) ORDER BY id FOR NO KEY UPDATE;
    INSERT INTO webhook_delivery (owner, event, batch_id, sequence, url, host)
    SELECT ended.owner, 'batch.finished', ended.id, ended.sequence, ended.hook ->> 'url', ended.hook ->> 'host'
    FROM (SELECT batch.*, webhook_of(webhook, owner) AS hook FROM batch WHERE id = ANY (touched)) ended
    WHERE ended.hook -> 'events' ? 'batch.finished'
        AND NOT EXISTS (SELECT 1 FROM conversion WHERE batch_id = ended.id AND status IN ('queued', 'running'))
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM pg_notify('orfeas_webhook', '');
    END IF;
END
$$;

CREATE FUNCTION conversion_tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched uuid[];
BEGIN
    INSERT INTO webhook_delivery (owner, event, conversion_id, batch_id, sequence, url, host)
    SELECT told.owner, told.event, told.id, told.batch_id, told.sequence, told.hook ->> 'url', told.hook ->> 'host'
    FROM (SELECT n.id, n.owner, n.batch_id, n.sequence, webhook_of(n.webhook, n.owner) AS hook,
              'conversion.' || CASE n.status WHEN 'running' THEN 'started' ELSE n.status END AS event
          FROM new_rows n JOIN old_rows o ON o.id = n.id
          -- Started once: a conversion that was taken back and claimed anew goes on.
          WHERE o.status <> n.status AND n.status <> 'queued' AND (n.status <> 'running' OR n.attempt = 1)) told
    WHERE told.hook -> 'events' ? told.event;
    IF FOUND THEN
        PERFORM pg_notify('orfeas_webhook', '');
    END IF;
    touched := ARRAY (SELECT DISTINCT n.batch_id FROM new_rows n JOIN old_rows o ON o.id = n.id
        WHERE n.batch_id IS NOT NULL AND o.status <> n.status AND n.status IN ('succeeded', 'failed', 'canceled'));
    IF cardinality(touched) > 0 THEN
        PERFORM webhook_tell_batches(touched);
    END IF;
    RETURN NULL;
END
$$;
-- After `conversion_updated`, which numbers the batch's transitions: triggers fire in the order of their names.
CREATE TRIGGER conversion_updated_webhooks AFTER UPDATE ON conversion
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION conversion_tell_change();

-- What waited may have been the last that a batch waited for.
CREATE FUNCTION conversion_tell_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched uuid[];
BEGIN
    touched := ARRAY (SELECT DISTINCT batch_id FROM old_rows WHERE batch_id IS NOT NULL AND status = 'queued');
    IF cardinality(touched) > 0 THEN
        PERFORM webhook_tell_batches(touched);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER conversion_deleted_webhooks AFTER DELETE ON conversion
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION conversion_tell_deletion();
