-- What both peers keep, beside their queue's own tables.
CREATE TABLE api_key (
    id     text PRIMARY KEY,
    secret text NOT NULL
);
CREATE TABLE nonce (
    key_id     text NOT NULL REFERENCES api_key,
    nonce      text NOT NULL,
    keep_until timestamptz NOT NULL,
    PRIMARY KEY (key_id, nonce)
);
CREATE TABLE asset (
    id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner   text NOT NULL,
    picture bytea NOT NULL
);
CREATE TABLE conversion (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner       text NOT NULL,
    asset_id    uuid NOT NULL REFERENCES asset,
    options     jsonb NOT NULL,
    status      text NOT NULL DEFAULT 'QUEUED' CHECK (status IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    finished_at timestamptz
);
CREATE INDEX conversion_of_owner ON conversion (owner, created_at);
