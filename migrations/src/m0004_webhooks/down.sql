DROP TRIGGER conversion_deleted_webhooks ON conversion;
DROP TRIGGER conversion_updated_webhooks ON conversion;
DROP FUNCTION conversion_tell_deletion, conversion_tell_change, webhook_tell_batches, webhook_of;
DROP TABLE webhook_delivery;
DROP FUNCTION new_id;
ALTER TABLE api_key DROP COLUMN webhook;
ALTER TABLE batch DROP COLUMN webhook;
ALTER TABLE conversion DROP COLUMN webhook;
DROP FUNCTION is_webhook;
