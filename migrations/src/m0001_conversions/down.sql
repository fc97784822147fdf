DROP TABLE idempotency, conversion_event, queue_control, owner_clock, node;
ALTER TABLE asset DROP CONSTRAINT asset_conversion_id_fkey;
DROP TABLE conversion, asset, batch;
DROP FUNCTION conversion_after_update, conversion_after_insert, conversion_record, conversion_check_transition;
