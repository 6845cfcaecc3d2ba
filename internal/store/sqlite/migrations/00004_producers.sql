-- Who may report usage with a token of their own, and what gateways signed.

-- +goose Up
CREATE TABLE producers (
    id         TEXT PRIMARY KEY,
    key        TEXT    NOT NULL UNIQUE,
    sources    TEXT    NOT NULL, -- JSON array of patterns
    types      TEXT    NOT NULL, -- JSON array of patterns
    created_at INTEGER NOT NULL,
    expires_at INTEGER, -- NULL: never
    revoked_at INTEGER  -- NULL: not revoked
) STRICT;

CREATE TABLE producer_tokens (
    id          TEXT PRIMARY KEY,
    producer_id TEXT    NOT NULL REFERENCES producers (id),
    digest      BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER -- NULL: not revoked
) STRICT;
CREATE INDEX producer_tokens_producer ON producer_tokens (producer_id, id);

-- Public keys stay for ever: what a gateway signed can be checked later.
CREATE TABLE gateway_keys (
    id         TEXT PRIMARY KEY,
    node       INTEGER NOT NULL,
    public     BLOB    NOT NULL UNIQUE CHECK (length(public) = 32),
    from_epoch INTEGER NOT NULL CHECK (from_epoch > 0), -- good until the node's next key
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX gateway_keys_node ON gateway_keys (node, from_epoch);

CREATE TABLE gateway_progress (
    node     INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    covered  INTEGER NOT NULL CHECK (covered >= 0),
    PRIMARY KEY (node, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE gateway_findings (
    node     INTEGER NOT NULL,
    reason   TEXT    NOT NULL,
    count    INTEGER NOT NULL CHECK (count > 0),
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    detail   TEXT    NOT NULL, -- of the last one
    PRIMARY KEY (node, reason)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER gateway_keys_no_update BEFORE UPDATE ON gateway_keys BEGIN SELECT RAISE(ABORT, 'a gateway key is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER gateway_keys_no_delete BEFORE DELETE ON gateway_keys BEGIN SELECT RAISE(ABORT, 'a gateway key is immutable'); END;
-- +goose StatementEnd
