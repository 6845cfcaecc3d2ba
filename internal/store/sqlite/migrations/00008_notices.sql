-- What customers and operators are told, and its way to webhooks.

-- +goose Up
CREATE TABLE notices (
    id          TEXT PRIMARY KEY,
    kind        TEXT    NOT NULL,
    customer_id TEXT    NOT NULL REFERENCES customers (id),
    once        TEXT    NOT NULL UNIQUE,
    at          INTEGER NOT NULL,
    body        BLOB    NOT NULL
) STRICT;
CREATE INDEX notices_customer ON notices (customer_id, id);
CREATE INDEX notices_at ON notices (at);

CREATE TABLE webhooks (
    id          TEXT PRIMARY KEY,
    url         TEXT    NOT NULL,
    kinds       TEXT    NOT NULL, -- JSON array; empty: all
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER -- NULL: in use
) STRICT;

CREATE TABLE deliveries (
    notice_id  TEXT    NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
    webhook_id TEXT    NOT NULL REFERENCES webhooks (id),
    state      TEXT    NOT NULL CHECK (state IN ('due', 'delivered', 'failed')),
    attempts   INTEGER NOT NULL,
    next_at    INTEGER, -- NULL unless due
    last_at    INTEGER,
    last_error TEXT    NOT NULL,
    PRIMARY KEY (notice_id, webhook_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'due';

-- +goose Down
DROP TABLE deliveries;
DROP TABLE webhooks;
DROP TABLE notices;
