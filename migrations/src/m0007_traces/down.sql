ALTER TABLE conversion DROP COLUMN trace_state, DROP COLUMN trace_parent, DROP COLUMN request_id;
