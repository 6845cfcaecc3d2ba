-- What a single customer is allowed apart from the plan: overrides of limits, usage credits, keys by project.

-- +goose Up
ALTER TABLE api_keys ADD COLUMN project TEXT NOT NULL DEFAULT '';

CREATE TABLE overrides (
    id          TEXT PRIMARY KEY,
    customer_id TEXT    NOT NULL REFERENCES customers (id),
    key_id      TEXT    NOT NULL, -- '': the customer's own
    limit_key   TEXT    NOT NULL,
    value       TEXT    NOT NULL,
    burst       TEXT    NOT NULL, -- '': as in the plan
    reason      TEXT    NOT NULL,
    author      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER, -- NULL: never
    ended_at    INTEGER  -- NULL: not taken back
) STRICT;
CREATE INDEX overrides_customer ON overrides (customer_id, id);

CREATE TABLE grants (
    id           TEXT PRIMARY KEY,
    customer_id  TEXT    NOT NULL REFERENCES customers (id),
    meter        TEXT    NOT NULL,
    amount       TEXT    NOT NULL, -- units; negative: what a grant lost
    grant_id     TEXT    NOT NULL, -- '': a grant of its own
    reason       TEXT    NOT NULL,
    author       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    expires_at   INTEGER -- NULL: never
) STRICT;
CREATE INDEX grants_customer ON grants (customer_id, id);
CREATE UNIQUE INDEX grants_expired ON grants (grant_id) WHERE grant_id <> '';

-- +goose Down
DROP TABLE grants;
DROP TABLE overrides;
ALTER TABLE api_keys DROP COLUMN project;
