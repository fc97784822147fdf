-- What each insertion and each change of a conversion costs besides the row itself. Half of it was reading again, by id, the rows
-- that the trigger has in hand, and by plans that were made when the tables were small or the queue empty: a look for a queued
-- conversion among those that have changed went through the whole queue. `conversion_record` isn't called any more; it stays for
-- transactions that are under way.

-- Records transitions, numbers them within their batch, and wakes listeners. Batch rows are locked in the order
-- of their ids, so that statements touching several batches can't deadlock.
CREATE FUNCTION record_transitions(changed conversion[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    batches uuid[] := ARRAY (SELECT DISTINCT c.batch_id FROM unnest(changed) c WHERE c.batch_id IS NOT NULL);
BEGIN
    IF cardinality(batches) = 0 THEN
        INSERT INTO conversion_event (conversion_id, sequence, status, stage, attempt, node_id)
        SELECT c.id, c.sequence, c.status, c.stage, c.attempt, c.node_id FROM unnest(changed) c;
    ELSE
        PERFORM 1 FROM batch WHERE id = ANY (batches) ORDER BY id FOR NO KEY UPDATE;
        WITH fresh AS (
            SELECT c.*, row_number() OVER (PARTITION BY c.batch_id ORDER BY c.batch_index) AS step FROM unnest(changed) c
        ), counted AS (
            UPDATE batch SET sequence = batch.sequence + steps.count
            FROM (SELECT batch_id, count(*)::int AS count FROM fresh WHERE batch_id IS NOT NULL GROUP BY batch_id) steps
            WHERE batch.id = steps.batch_id
            RETURNING batch.id, batch.sequence - steps.count AS base
        )
        INSERT INTO conversion_event (conversion_id, sequence, batch_id, batch_sequence, status, stage, attempt, node_id)
        SELECT f.id, f.sequence, f.batch_id, counted.base + f.step, f.status, f.stage, f.attempt, f.node_id
        FROM fresh f LEFT JOIN counted ON counted.id = f.batch_id;
    END IF;
    PERFORM notice_give('orfeas_event', json_build_object('conversion', c.id, 'batch', c.batch_id)::text) FROM unnest(changed) c;
    PERFORM notice_give('orfeas_queue', '') FROM unnest(changed) c WHERE c.status = 'queued' LIMIT 1;
END
$$;

CREATE OR REPLACE FUNCTION conversion_after_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM record_transitions(ARRAY (SELECT ROW (n.*)::conversion FROM new_rows n));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION conversion_after_update() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed conversion[];
BEGIN
    changed := ARRAY (SELECT ROW (n.*)::conversion FROM new_rows n JOIN old_rows o ON o.id = n.id WHERE n.sequence <> o.sequence);
    IF cardinality(changed) > 0 THEN
        PERFORM record_transitions(changed);
    END IF;
    RETURN NULL;
END
$$;

-- The same condition as before. In SQL it was put in place of its call, which each statement that writes a conversion did anew.
CREATE OR REPLACE FUNCTION is_webhook(hook jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN hook IS NULL OR coalesce(jsonb_typeof(hook) = 'object'
        AND hook ->> 'url' ~ '^https?://' AND octet_length(hook ->> 'url') <= 2048
        AND octet_length(hook ->> 'host') BETWEEN 1 AND 300
        AND jsonb_array_length(hook -> 'events') > 0
        AND hook -> 'events' <@ '["conversion.started", "conversion.succeeded", "conversion.failed", "conversion.canceled",
            "batch.finished"]', false);
END
$$;
