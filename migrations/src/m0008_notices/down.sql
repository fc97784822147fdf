CREATE OR REPLACE FUNCTION conversion_record(changed uuid[]) RETURNS void LANGUAGE plpgsql AS $$
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

CREATE OR REPLACE FUNCTION webhook_tell_batches(touched uuid[]) RETURNS void LANGUAGE plpgsql AS $$
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

CREATE OR REPLACE FUNCTION conversion_tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
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

DROP FUNCTION notice_give;
DROP TABLE notice;
