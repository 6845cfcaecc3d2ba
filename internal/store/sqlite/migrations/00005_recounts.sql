-- +goose Up
CREATE TABLE recounts (
    id              TEXT PRIMARY KEY,
    meter           TEXT    NOT NULL,
    from_at         INTEGER, -- NULL: open
    to_at           INTEGER,
    dry_run         INTEGER NOT NULL CHECK (dry_run IN (0, 1)),
    include_closed  INTEGER NOT NULL CHECK (include_closed IN (0, 1)),
    actor           TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    catalog_version INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('running', 'done', 'cancelled', 'failed')),
    updated_at      INTEGER NOT NULL,
    cursor          TEXT    NOT NULL,
    done            INTEGER NOT NULL CHECK (done >= 0),
    total           INTEGER NOT NULL CHECK (total >= 0),
    last            INTEGER NOT NULL CHECK (last IN (0, 1)),
    seen            INTEGER NOT NULL CHECK (seen >= 0),
    read            INTEGER NOT NULL,
    changed         INTEGER NOT NULL,
    closed          INTEGER NOT NULL,
    admitted        INTEGER NOT NULL,
    unreadable      INTEGER NOT NULL,
    difference      TEXT    NOT NULL,
    problem         TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX recounts_running ON recounts (meter) WHERE state = 'running';
-- +goose StatementBegin
CREATE TRIGGER recounts_ended BEFORE UPDATE ON recounts WHEN OLD.state <> 'running'
BEGIN SELECT RAISE(ABORT, 'a recount that has ended is immutable'); END;
-- +goose StatementEnd
