DROP TABLE audit_checkpoint, audit_seal, audit_pending, audit_event;
DROP FUNCTION audit_prune, audit_event_await_seal, audit_refuse_change;
