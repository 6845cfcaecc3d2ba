-- Streaming exports: what goes where, and how far it is. Instants of progress are the machine's clock, not the business clock.

-- +goose Up
CREATE TABLE exports (
    id         TEXT PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    sink       TEXT    NOT NULL, -- URL; credentials by reference only
    events     INTEGER NOT NULL CHECK (events IN (0, 1)),
    entries    INTEGER NOT NULL CHECK (entries IN (0, 1)),
    paused     INTEGER NOT NULL CHECK (paused IN (0, 1)),
    created_at INTEGER NOT NULL,
    position   INTEGER NOT NULL CHECK (position >= 0), -- of the journal
    entry      INTEGER NOT NULL CHECK (entry >= 0), -- ledger_entries.n
    moved_at   INTEGER, -- NULL: never
    failures   INTEGER NOT NULL CHECK (failures >= 0),
    next_at    INTEGER, -- NULL: at once
    last_error TEXT    NOT NULL,
    failed_at  INTEGER,
    CHECK (events + entries > 0)
) STRICT;
-- +goose StatementBegin
CREATE TRIGGER exports_go_forward BEFORE UPDATE ON exports WHEN NEW.position < OLD.position OR NEW.entry < OLD.entry
BEGIN SELECT RAISE(ABORT, 'an export never goes back'); END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE exports;
