-- Backfills and aliases.

-- +goose Up
CREATE TABLE backfills (
    id         TEXT PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    reason     TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('open', 'closing', 'closed', 'reverting', 'reverted')),
    opened_at  INTEGER NOT NULL,
    opened_by  TEXT    NOT NULL,
    changed_at INTEGER NOT NULL,
    changed_by TEXT    NOT NULL,
    changed_for TEXT   NOT NULL DEFAULT '',
    cursor     TEXT    NOT NULL DEFAULT '',
    events     INTEGER NOT NULL DEFAULT 0 CHECK (events >= 0),
    counted    INTEGER NOT NULL DEFAULT 0 CHECK (counted >= 0),
    unmatched  INTEGER NOT NULL DEFAULT 0 CHECK (unmatched >= 0),
    voided     INTEGER NOT NULL DEFAULT 0 CHECK (voided >= 0)
) STRICT;
CREATE INDEX backfills_working ON backfills (state) WHERE state NOT IN ('closed', 'reverted');

CREATE TABLE aliases (
    id         TEXT PRIMARY KEY,
    kind       TEXT    NOT NULL CHECK (kind IN ('type', 'customer')),
    name       TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    UNIQUE (kind, name)
) STRICT;

-- What was reverted stays so.

-- +goose StatementBegin
CREATE TRIGGER backfills_reverted BEFORE UPDATE ON backfills WHEN OLD.state = 'reverted' BEGIN SELECT RAISE(ABORT, 'a reverted backfill is over'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER backfills_no_delete BEFORE DELETE ON backfills BEGIN SELECT RAISE(ABORT, 'a backfill is kept for ever'); END;
-- +goose StatementEnd
