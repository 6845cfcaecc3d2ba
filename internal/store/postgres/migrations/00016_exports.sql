-- Streaming exports: what goes where, and how far it is. Instants of progress are the machine's clock, not the business clock.

-- +goose Up
CREATE TABLE exports (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    sink text COLLATE "C" NOT NULL, -- URL; credentials by reference only
    events boolean NOT NULL,
    entries boolean NOT NULL,
    paused boolean NOT NULL,
    created_at bigint NOT NULL,
    position bigint NOT NULL CHECK (position >= 0), -- of the journal
    entry bigint NOT NULL CHECK (entry >= 0), -- ledger_entries.n
    moved_at bigint, -- NULL: never
    failures bigint NOT NULL CHECK (failures >= 0),
    next_at bigint, -- NULL: at once
    last_error text COLLATE "C" NOT NULL,
    failed_at bigint,
    CHECK (events OR entries)
);
CREATE TRIGGER exports_go_forward BEFORE UPDATE ON exports FOR EACH ROW WHEN (NEW.position < OLD.position OR NEW.entry < OLD.entry)
    EXECUTE FUNCTION tally_refuse('an export never goes back');

-- +goose Down
DROP TABLE exports;
