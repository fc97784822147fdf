CREATE OR REPLACE FUNCTION is_webhook(hook jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT hook IS NULL OR coalesce(jsonb_typeof(hook) = 'object'
        AND hook ->> 'url' ~ '^https?://' AND octet_length(hook ->> 'url') <= 2048
        AND octet_length(hook ->> 'host') BETWEEN 1 AND 300
        AND jsonb_array_length(hook -> 'events') > 0
        AND hook -> 'events' <@ '["conversion.started", "conversion.succeeded", "conversion.failed", "conversion.canceled",
            "batch.finished"]', false)
$$;

CREATE OR REPLACE FUNCTION conversion_after_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM conversion_record(ARRAY (SELECT id FROM new_rows));
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION conversion_after_update() RETURNS trigger LANGUAGE plpgsql AS $$
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

DROP FUNCTION record_transitions;
