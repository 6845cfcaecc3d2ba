-- Gateways in processes of their own, and the tokens with which they join.

-- +goose Up
CREATE TABLE gateway_nodes (
    node       INTEGER PRIMARY KEY CHECK (node BETWEEN 2 AND 65535),
    name       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER -- NULL: not revoked
) STRICT;

CREATE TABLE gateway_tokens (
    id         TEXT PRIMARY KEY,
    node       INTEGER NOT NULL REFERENCES gateway_nodes (node),
    digest     BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER -- NULL: not revoked
) STRICT;
CREATE INDEX gateway_tokens_node ON gateway_tokens (node, id);
