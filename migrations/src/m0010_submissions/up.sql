-- What admits a submission, all of it or nothing, in one call: idempotency, the owner's virtual time, quotas and the new rows.
--
-- Yields the conversions, or one row that says why there are none, and then nothing has been changed:
--   known     the idempotency key was used in the last `key_hours`
--   gone      a picture, or the conversion to be repeated, is no longer there
--   stored    the owner's files take `used` with the new ones, and may take `allowed`
--   at_once   `used` of the owner's conversions are queued or running, and `allowed` may be
--   per_day   `used` were charged to the owner today, which has so many seconds left, and `allowed` may be
--
-- Locks are taken in the order that `erase_conversions` takes them in. Each statement sees what was committed when it had its
-- locks: whoever waits for the owner's clock counts what the one before has added.
CREATE FUNCTION submit_conversions(submission jsonb)
RETURNS TABLE (refused text, allowed bigint, used bigint, seconds_left double precision, made conversion) LANGUAGE plpgsql AS $$
DECLARE
    wanted record;
    count  integer;
    locked integer;
    span   interval;
    start  timestamptz;
    today  date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    SELECT * INTO wanted FROM jsonb_to_record(submission) AS submission (
        owner text, priority text, model text, options jsonb, retry_of uuid, webhook jsonb,
        request_id text, trace_parent text, trace_state text,
        -- The conversions; their places in the submitted list count within a batch alone.
        batch_id uuid, ids uuid[], sources uuid[], indexes integer[],
        -- How far they are ranked apart, and how much before their virtual time.
        step double precision, bonus double precision,
        -- Sources to be made, and those that were there.
        new_sources jsonb, old_sources uuid[],
        -- What the owner may use; none: whatever there is.
        stored_max bigint, charged boolean, at_once bigint, per_day bigint,
        key text, fingerprint text, key_hours integer);
    count := cardinality(wanted.ids);
    span := make_interval(secs => wanted.step * count);

    IF wanted.key IS NOT NULL THEN
        -- Two at once: the second waits here until the first has committed, and then finds its row.
        INSERT INTO idempotency AS earlier (owner, key, fingerprint, conversion_id, batch_id)
        VALUES (wanted.owner, wanted.key, decode(wanted.fingerprint, 'hex'),
            CASE WHEN wanted.batch_id IS NULL THEN wanted.ids[1] END, wanted.batch_id)
        ON CONFLICT (owner, key) DO UPDATE SET fingerprint = excluded.fingerprint, created_at = now(),
            conversion_id = excluded.conversion_id, batch_id = excluded.batch_id
            WHERE earlier.created_at < now() - make_interval(hours => wanted.key_hours);
        IF NOT FOUND THEN
            refused := 'known';
            RAISE SQLSTATE 'OF001';
        END IF;
    END IF;

    -- Locks the owner's clock: until the end of the transaction nobody else adds conversions of this owner. It never lies behind
    -- the time.
    INSERT INTO owner_clock AS clock (owner, virtual_at) VALUES (wanted.owner, now() + span)
    ON CONFLICT (owner) DO UPDATE SET virtual_at = greatest(clock.virtual_at, now()) + span
    RETURNING virtual_at - span INTO start;

    -- What the rows will refer to, before anything else is locked that whoever deletes it locks afterwards.
    IF wanted.retry_of IS NOT NULL THEN
        PERFORM 1 FROM conversion WHERE id = wanted.retry_of FOR KEY SHARE;
        IF NOT FOUND THEN
            refused := 'gone';
            RAISE SQLSTATE 'OF001';
        END IF;
    END IF;
    PERFORM 1 FROM asset WHERE id = ANY (wanted.old_sources) ORDER BY id FOR KEY SHARE;
    GET DIAGNOSTICS locked = ROW_COUNT;
    IF locked < cardinality(wanted.old_sources) THEN
        refused := 'gone';
        RAISE SQLSTATE 'OF001';
    END IF;

    IF wanted.new_sources <> '[]' THEN
        INSERT INTO asset (id, owner, kind, storage_key, file_name, media_type, bytes, sha256, width, height, created_at)
        SELECT id, wanted.owner, 'source', storage_key, file_name, media_type, bytes, decode(sha256, 'hex'), width, height, created_at
        FROM jsonb_to_recordset(wanted.new_sources) AS source (id uuid, storage_key text, file_name text, media_type text,
            bytes bigint, sha256 text, width integer, height integer, created_at timestamptz);
    END IF;
    -- The insertion has locked the owner's count, so that nobody else adds to it meanwhile.
    allowed := wanted.stored_max;
    IF allowed IS NOT NULL THEN
        used := (SELECT bytes FROM owner_storage WHERE owner = wanted.owner);
        IF used > allowed THEN
            refused := 'stored';
            RAISE SQLSTATE 'OF001';
        END IF;
    END IF;

    IF wanted.charged THEN
        allowed := wanted.at_once;
        used := (SELECT count(*) FROM conversion WHERE owner = wanted.owner AND status IN ('queued', 'running'));
        IF used + count > allowed THEN
            refused := 'at_once';
            RAISE SQLSTATE 'OF001';
        END IF;
        allowed := wanted.per_day;
        used := coalesce((SELECT conversions FROM usage_day WHERE owner = wanted.owner AND day = today), 0);
        IF used + count > allowed THEN
            refused := 'per_day';
            seconds_left := extract(epoch FROM today + 1 - (now() AT TIME ZONE 'UTC'));
            RAISE SQLSTATE 'OF001';
        END IF;
        INSERT INTO usage_day (owner, day, conversions) VALUES (wanted.owner, today, count)
        ON CONFLICT (owner, day) DO UPDATE SET conversions = usage_day.conversions + excluded.conversions;
    END IF;

    IF wanted.batch_id IS NOT NULL THEN
        INSERT INTO batch (id, owner, size, webhook) VALUES (wanted.batch_id, wanted.owner, count, wanted.webhook);
    END IF;
    RETURN QUERY
    INSERT INTO conversion AS fresh (id, owner, priority, batch_id, batch_index, retry_of, source_asset_id, model, options, rank,
        charged, webhook, request_id, trace_parent, trace_state)
    SELECT item.id, wanted.owner, wanted.priority, wanted.batch_id, CASE WHEN wanted.batch_id IS NOT NULL THEN item.index END,
        wanted.retry_of, item.source, wanted.model, wanted.options,
        start + make_interval(secs => wanted.step * (item.place - 1) - wanted.bonus),
        wanted.charged, wanted.webhook, wanted.request_id, wanted.trace_parent, wanted.trace_state
    FROM unnest(wanted.ids, wanted.sources, wanted.indexes) WITH ORDINALITY AS item (id, source, index, place)
    ORDER BY item.place
    RETURNING NULL::text, NULL::bigint, NULL::bigint, NULL::double precision, fresh;
EXCEPTION WHEN SQLSTATE 'OF001' THEN
    -- All that was done is undone; what was said of it is not.
    RETURN NEXT;
END
$$;
