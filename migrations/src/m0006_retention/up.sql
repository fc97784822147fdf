-- What leaves: conversions that have expired or are deleted, the bytes behind them, and what an owner's files take meanwhile.
--
-- Expiry is a rule (when it ended, plus the setting), not a date in the row: the column `expires_at` of the first step is read by
-- nobody any more, and stays for nodes of the version before.

-- The sweep walks this from its old end and reads what has expired, and nothing else.
CREATE INDEX conversion_finished ON conversion (finished_at) WHERE finished_at IS NOT NULL;

-- Keys whose rows are gone and whose bytes are not yet: written with what removes the rows, removed when the store has no such
-- bytes. One that ends with a slash stands for everything below.
CREATE TABLE erasure (
    storage_key     text PRIMARY KEY CHECK (storage_key <> '' AND left(storage_key, 1) <> '/'),
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- While a node is at it: when another one may take over.
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX erasure_due ON erasure (next_attempt_at);

CREATE FUNCTION erasure_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orfeas_erasure', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER erasure_added AFTER INSERT ON erasure FOR EACH STATEMENT EXECUTE FUNCTION erasure_wake();

-- What an owner's assets take, kept by the triggers below: reading it costs one row, however many assets there are.
CREATE TABLE owner_storage (
    owner text PRIMARY KEY CHECK (owner <> ''),
    bytes bigint NOT NULL CHECK (bytes >= 0)
);

CREATE FUNCTION asset_stored() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    doomed text;
BEGIN
    SELECT storage_key INTO doomed FROM new_rows JOIN erasure USING (storage_key) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the bytes of % are to be erased', doomed
            USING ERRCODE = 'check_violation', CONSTRAINT = 'asset_not_erased';
    END IF;
    INSERT INTO owner_storage (owner, bytes)
    SELECT owner, sum(bytes)::bigint FROM new_rows GROUP BY owner ORDER BY owner
    ON CONFLICT (owner) DO UPDATE SET bytes = owner_storage.bytes + excluded.bytes;
    RETURN NULL;
END
$$;
CREATE TRIGGER asset_stored AFTER INSERT ON asset
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION asset_stored();

-- However a row goes, by its conversion or alone, its bytes are not forgotten.
CREATE FUNCTION asset_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM old_rows) THEN
        RETURN NULL;
    END IF;
    INSERT INTO erasure (storage_key) SELECT storage_key FROM old_rows ON CONFLICT DO NOTHING;
    PERFORM 1 FROM owner_storage WHERE owner IN (SELECT owner FROM old_rows) ORDER BY owner FOR NO KEY UPDATE;
    UPDATE owner_storage SET bytes = owner_storage.bytes - gone.bytes
    FROM (SELECT owner, sum(bytes)::bigint AS bytes FROM old_rows GROUP BY owner) gone
    WHERE owner_storage.owner = gone.owner;
    RETURN NULL;
END
$$;
CREATE TRIGGER asset_gone AFTER DELETE ON asset
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION asset_gone();

-- Else the count above and the key that is erased would not be those of what was stored.
CREATE FUNCTION asset_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'asset %: what is stored does not change', OLD.id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'asset_unchanging';
END
$$;
CREATE TRIGGER asset_unchanging BEFORE UPDATE OF owner, bytes, storage_key ON asset
    FOR EACH ROW EXECUTE FUNCTION asset_refuse_change();

-- From the first trigger on nobody else has written an asset, so this is exact.
INSERT INTO owner_storage (owner, bytes) SELECT owner, sum(bytes)::bigint FROM asset GROUP BY owner;

-- An entry whose conversion or batch was erased names neither, and answers every repetition of its key until it is forgotten.
CREATE INDEX idempotency_of_conversion ON idempotency (conversion_id) WHERE conversion_id IS NOT NULL;
CREATE INDEX idempotency_of_batch ON idempotency (batch_id) WHERE batch_id IS NOT NULL;

-- Removes conversions that don't run, with all that is theirs: events, assets, deliveries, what their idempotency keys stood for,
-- pictures that no other conversion refers to, and batches that are left empty. Returns how many there were.
--
-- Locks are taken in one order, which is also that of submissions and of workers: idempotency, conversions, batches, sources,
-- owner_storage, usage_day. Each statement sees what was committed when it had its locks.
CREATE FUNCTION erase_conversions(doomed uuid[]) RETURNS integer LANGUAGE plpgsql AS $$
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

-- The store that belongs to this database, and when it is next looked through for bytes without a row.
CREATE TABLE store_sweep (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Written into the store as well: bytes in a store of somebody else's are not without a row, but without ours.
    store_id   uuid NOT NULL DEFAULT gen_random_uuid(),
    adopted_at timestamptz,
    next_at    timestamptz NOT NULL DEFAULT now() + interval '1 hour'
);
INSERT INTO store_sweep DEFAULT VALUES;
