-- Times are microseconds since 1970 in UTC; NULL is "none". Decimals are plain text, posted money is minor units.

-- +goose Up
CREATE TABLE catalogs (
    version    INTEGER PRIMARY KEY CHECK (version > 0),
    source     BLOB    NOT NULL,
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    applied_at INTEGER NOT NULL,
    applied_by TEXT    NOT NULL
) STRICT;

CREATE TABLE customers (
    id         TEXT PRIMARY KEY,
    key        TEXT    NOT NULL UNIQUE,
    name       TEXT    NOT NULL,
    zone       TEXT    NOT NULL,
    currency   TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE subscriptions (
    id              TEXT PRIMARY KEY,
    customer_id     TEXT    NOT NULL REFERENCES customers (id),
    plan            TEXT    NOT NULL,
    catalog_version INTEGER NOT NULL,
    start_at        INTEGER NOT NULL,
    end_at          INTEGER, -- NULL: open
    billing_day     INTEGER NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX subscriptions_customer ON subscriptions (customer_id, id);

CREATE TABLE api_keys (
    id          TEXT PRIMARY KEY,
    customer_id TEXT    NOT NULL REFERENCES customers (id),
    name        TEXT    NOT NULL,
    digest      BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER, -- NULL: never
    revoked_at  INTEGER  -- NULL: not revoked
) STRICT;
CREATE INDEX api_keys_customer ON api_keys (customer_id, id);

CREATE TABLE closes (
    subscription_id TEXT    NOT NULL REFERENCES subscriptions (id),
    period_start    INTEGER NOT NULL,
    period_end      INTEGER NOT NULL,
    position        INTEGER NOT NULL CHECK (position >= 0),
    closed_at       INTEGER NOT NULL,
    invoice_id      TEXT    NOT NULL DEFAULT '' CHECK (invoice_id = '' OR done = 1),
    done            INTEGER NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    PRIMARY KEY (subscription_id, period_start, period_end)
) STRICT;

CREATE TABLE invoices (
    number          INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    customer_id     TEXT    NOT NULL REFERENCES customers (id),
    subscription_id TEXT    NOT NULL REFERENCES subscriptions (id),
    plan            TEXT    NOT NULL,
    status          TEXT    NOT NULL CHECK (status = 'finalized'),
    currency        TEXT    NOT NULL,
    period_start    INTEGER NOT NULL,
    period_end      INTEGER NOT NULL,
    total_minor     INTEGER NOT NULL,
    catalog_version INTEGER NOT NULL,
    tz_version      TEXT    NOT NULL,
    position        INTEGER NOT NULL CHECK (position >= 0),
    finalized_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX invoices_customer ON invoices (customer_id, number);

-- The lines come first and the invoice closes over them: once it is there, none can be added.
CREATE TABLE invoice_lines (
    invoice_id    TEXT    NOT NULL REFERENCES invoices (id) DEFERRABLE INITIALLY DEFERRED,
    number        INTEGER NOT NULL CHECK (number > 0),
    id            TEXT    NOT NULL UNIQUE,
    kind          TEXT    NOT NULL,
    price         TEXT    NOT NULL,
    meter         TEXT    NOT NULL,
    period_start  INTEGER NOT NULL,
    period_end    INTEGER NOT NULL,
    quantity      TEXT    NOT NULL,
    tiers         TEXT, -- JSON; NULL: none
    exact         TEXT    NOT NULL,
    rounded_minor INTEGER NOT NULL,
    PRIMARY KEY (invoice_id, number)
) STRICT;

CREATE TABLE epochs (
    node     INTEGER NOT NULL,
    epoch    INTEGER NOT NULL CHECK (epoch BETWEEN 1 AND 4294967295),
    boot     TEXT    NOT NULL,
    begun_at INTEGER NOT NULL,
    PRIMARY KEY (node, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    customer_id  TEXT    NOT NULL,
    meter        TEXT    NOT NULL,
    window       INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    boot         TEXT    NOT NULL,
    window_end   INTEGER NOT NULL,
    charged      INTEGER NOT NULL CHECK (charged >= 0),
    written_off  INTEGER NOT NULL DEFAULT 0 CHECK (written_off BETWEEN 0 AND charged),
    closed       INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
    PRIMARY KEY (customer_id, meter, window, window_start, node, epoch)
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_open ON leases (node, epoch) WHERE closed = 0;
CREATE INDEX leases_closed ON leases (window_end) WHERE closed = 1;

CREATE TABLE audits (
    id     TEXT PRIMARY KEY,
    time   INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    action TEXT    NOT NULL,
    target TEXT    NOT NULL,
    detail TEXT    NOT NULL
) STRICT;
CREATE INDEX audits_target ON audits (target, id);

CREATE TABLE replays (
    actor       TEXT    NOT NULL,
    route       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    body_digest BLOB    NOT NULL CHECK (length(body_digest) = 32),
    status      INTEGER NOT NULL, -- 0: the first call is still running
    sealed      BLOB,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (actor, route, key)
) STRICT;
CREATE INDEX replays_created ON replays (created_at);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- What must never change does not change, whoever writes to the file. REPLACE deletes without a delete trigger, hence the
-- triggers on insert.

-- +goose StatementBegin
CREATE TRIGGER catalogs_no_update BEFORE UPDATE ON catalogs BEGIN SELECT RAISE(ABORT, 'a catalog version is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER catalogs_no_delete BEFORE DELETE ON catalogs BEGIN SELECT RAISE(ABORT, 'a catalog version is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER catalogs_gapless BEFORE INSERT ON catalogs
WHEN NEW.version <> (SELECT coalesce(max(version), 0) + 1 FROM catalogs)
BEGIN SELECT RAISE(ABORT, 'catalog versions follow each other without a gap'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoices_no_update BEFORE UPDATE ON invoices BEGIN SELECT RAISE(ABORT, 'a finalized invoice is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoices_no_delete BEFORE DELETE ON invoices BEGIN SELECT RAISE(ABORT, 'a finalized invoice is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoices_no_replace BEFORE INSERT ON invoices
WHEN EXISTS (SELECT 1 FROM invoices WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'a finalized invoice is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoices_gapless BEFORE INSERT ON invoices
WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM invoices)
BEGIN SELECT RAISE(ABORT, 'invoice numbers follow each other without a gap'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoice_lines_no_update BEFORE UPDATE ON invoice_lines BEGIN SELECT RAISE(ABORT, 'a finalized invoice is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoice_lines_no_delete BEFORE DELETE ON invoice_lines BEGIN SELECT RAISE(ABORT, 'a finalized invoice is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoice_lines_no_insert BEFORE INSERT ON invoice_lines
WHEN EXISTS (SELECT 1 FROM invoices WHERE id = NEW.invoice_id) OR EXISTS (SELECT 1 FROM invoice_lines WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'a finalized invoice is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER closes_done BEFORE UPDATE ON closes WHEN OLD.done = 1 BEGIN SELECT RAISE(ABORT, 'a finished close is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audits_no_update BEFORE UPDATE ON audits BEGIN SELECT RAISE(ABORT, 'an audit entry is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audits_no_delete BEFORE DELETE ON audits BEGIN SELECT RAISE(ABORT, 'an audit entry is immutable'); END;
-- +goose StatementEnd
