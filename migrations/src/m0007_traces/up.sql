-- Where a conversion comes from: the request that submitted it, and the place in a trace (W3C Trace Context) below which its
-- attempts and the telling of hooks belong. Nodes of the version before write neither, and their conversions have none.
ALTER TABLE conversion
    ADD COLUMN request_id text CHECK (char_length(request_id) BETWEEN 1 AND 128),
    ADD COLUMN trace_parent text CHECK (trace_parent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'),
    ADD COLUMN trace_state text CHECK (trace_state IS NULL OR (octet_length(trace_state) BETWEEN 1 AND 512 AND trace_parent IS NOT NULL));
