-- As before, but for one line: the owners' counts of stored bytes are locked where the order says so. What had not run yet has no files,
-- so that its owner's day was locked first, and the count only with the pictures: whoever submitted a picture meanwhile, and had the
-- count, waited for the day, and Postgres ended one of the two.
--
-- Locks are taken in one order, which is also that of submissions and of workers: idempotency, conversions, batches, sources,
-- owner_storage, usage_day. Each statement sees what was committed when it had its locks.
CREATE OR REPLACE FUNCTION erase_conversions(doomed uuid[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    gone    uuid[];
    sources uuid[];
    batches uuid[];
    emptied uuid[];
BEGIN
    PERFORM 1 FROM idempotency
        WHERE conversion_id = ANY (doomed)
            OR batch_id IN (SELECT batch_id FROM conversion WHERE id = ANY (doomed) AND batch_id IS NOT NULL)
        ORDER BY owner, key FOR UPDATE;
    SELECT array_agg(id), array_agg(DISTINCT source_asset_id), array_agg(DISTINCT batch_id) FILTER (WHERE batch_id IS NOT NULL)
        INTO gone, sources, batches
        FROM (SELECT id, source_asset_id, batch_id FROM conversion
              WHERE id = ANY (doomed) AND status <> 'running' ORDER BY id FOR UPDATE) locked;
    IF gone IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE conversion SET retry_of = NULL WHERE retry_of = ANY (gone);
    PERFORM 1 FROM batch WHERE id = ANY (batches) ORDER BY id FOR UPDATE;
    -- Whoever submits the same picture again holds it until its row is there, and is waited for.
    PERFORM 1 FROM asset WHERE id = ANY (sources) ORDER BY id FOR UPDATE;
    PERFORM 1 FROM owner_storage WHERE owner IN (SELECT owner FROM conversion WHERE id = ANY (gone)) ORDER BY owner FOR NO KEY UPDATE;
    -- Beside the assets there may be what attempts have left that did not come to their end.
    INSERT INTO erasure (storage_key)
        SELECT 'conversions/cnv_' || replace(id::text, '-', '') || '/' FROM conversion WHERE id = ANY (gone) AND attempt > 0
        ON CONFLICT DO NOTHING;
    UPDATE idempotency SET conversion_id = NULL, fingerprint = decode(repeat('00', 32), 'hex') WHERE conversion_id = ANY (gone);
    -- One statement each instead of a cascade for each row.
    DELETE FROM asset WHERE conversion_id = ANY (gone);
    DELETE FROM conversion_event WHERE conversion_id = ANY (gone);
    DELETE FROM conversion WHERE id = ANY (gone);
    DELETE FROM asset WHERE id = ANY (sources) AND NOT EXISTS (SELECT FROM conversion WHERE source_asset_id = asset.id);
    emptied := ARRAY (SELECT id FROM batch WHERE id = ANY (batches)
        AND NOT EXISTS (SELECT FROM conversion WHERE batch_id = batch.id));
    UPDATE idempotency SET batch_id = NULL, fingerprint = decode(repeat('00', 32), 'hex') WHERE batch_id = ANY (emptied);
    DELETE FROM batch WHERE id = ANY (emptied);
    RETURN cardinality(gone);
END
$$;
