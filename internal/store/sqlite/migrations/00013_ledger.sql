-- The ledger, and what became of finalized invoices. Amounts are minor units.

-- +goose Up
CREATE TABLE ledger_entries (
    n           INTEGER PRIMARY KEY AUTOINCREMENT, -- in order of storing
    id          TEXT    NOT NULL UNIQUE,
    key         TEXT    NOT NULL UNIQUE,
    kind        TEXT    NOT NULL,
    customer_id TEXT    NOT NULL REFERENCES customers (id),
    reference   TEXT    NOT NULL,
    at          INTEGER NOT NULL
) STRICT;
CREATE INDEX ledger_entries_customer ON ledger_entries (customer_id, n);
CREATE INDEX ledger_entries_reference ON ledger_entries (reference, n);

-- The postings come first and the entry closes over them: then they must balance, and none can be added.
CREATE TABLE ledger_postings (
    entry_id    TEXT    NOT NULL REFERENCES ledger_entries (id) DEFERRABLE INITIALLY DEFERRED,
    number      INTEGER NOT NULL CHECK (number > 0),
    account     TEXT    NOT NULL,
    customer_id TEXT    NOT NULL, -- empty: an account of the seller alone
    currency    TEXT    NOT NULL,
    minor       INTEGER NOT NULL CHECK (minor <> 0), -- above 0 a debit
    PRIMARY KEY (entry_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_postings_account ON ledger_postings (customer_id, account, currency, minor);

CREATE TABLE invoice_standings (
    invoice_id   TEXT    NOT NULL REFERENCES invoices (id) DEFERRABLE INITIALLY DEFERRED,
    turn         INTEGER NOT NULL CHECK (turn > 0),
    customer_id  TEXT    NOT NULL REFERENCES customers (id),
    status       TEXT    NOT NULL CHECK (status IN ('finalized', 'paid', 'void', 'uncollectible')),
    currency     TEXT    NOT NULL,
    total        INTEGER NOT NULL,
    applied      INTEGER NOT NULL CHECK (applied >= 0),
    paid         INTEGER NOT NULL CHECK (paid >= 0),
    credited     INTEGER NOT NULL CHECK (credited >= 0),
    credited_due INTEGER NOT NULL CHECK (credited_due BETWEEN 0 AND credited),
    due_at       INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    actor        TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    reference    TEXT    NOT NULL,
    PRIMARY KEY (invoice_id, turn)
) STRICT, WITHOUT ROWID;

-- The newest of each, kept by a trigger.
CREATE TABLE invoice_newest (
    invoice_id  TEXT PRIMARY KEY,
    turn        INTEGER NOT NULL,
    customer_id TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    due_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX invoice_newest_open ON invoice_newest (due_at, invoice_id) WHERE status = 'finalized';
CREATE INDEX invoice_newest_customer ON invoice_newest (customer_id, due_at, invoice_id) WHERE status = 'finalized';

CREATE TABLE payments (
    id          TEXT PRIMARY KEY,
    kind        TEXT    NOT NULL CHECK (kind IN ('payment', 'refund')),
    customer_id TEXT    NOT NULL REFERENCES customers (id),
    invoice_id  TEXT    REFERENCES invoices (id), -- NULL: for the balance
    currency    TEXT    NOT NULL,
    amount      INTEGER NOT NULL CHECK (amount > 0),
    applied     INTEGER NOT NULL CHECK (applied BETWEEN 0 AND amount),
    method      TEXT    NOT NULL,
    reference   TEXT    NOT NULL,
    note        TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    actor       TEXT    NOT NULL
) STRICT;
CREATE INDEX payments_customer ON payments (customer_id, id);
CREATE INDEX payments_invoice ON payments (invoice_id, id);
CREATE UNIQUE INDEX payments_reference ON payments (customer_id, reference) WHERE reference <> '';

CREATE TABLE credit_notes (
    number      INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    invoice_id  TEXT    NOT NULL REFERENCES invoices (id),
    customer_id TEXT    NOT NULL REFERENCES customers (id),
    currency    TEXT    NOT NULL,
    net         INTEGER NOT NULL,
    tax         INTEGER NOT NULL,
    off         INTEGER NOT NULL CHECK (off >= 0),
    reason      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    CHECK (net + tax > 0 AND off <= net + tax)
) STRICT;
CREATE INDEX credit_notes_customer ON credit_notes (customer_id, number);
CREATE INDEX credit_notes_invoice ON credit_notes (invoice_id, number);

CREATE TABLE credit_note_lines (
    note_id TEXT    NOT NULL REFERENCES credit_notes (id) DEFERRABLE INITIALLY DEFERRED,
    number  INTEGER NOT NULL CHECK (number > 0),
    line_id TEXT    NOT NULL,
    net     INTEGER NOT NULL,
    tax     INTEGER NOT NULL,
    PRIMARY KEY (note_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE dunning_steps (
    invoice_id TEXT    NOT NULL REFERENCES invoices (id),
    step       TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (invoice_id, step)
) STRICT, WITHOUT ROWID;
CREATE INDEX dunning_steps_step ON dunning_steps (step, invoice_id);

-- +goose StatementBegin
CREATE TRIGGER ledger_entries_balance BEFORE INSERT ON ledger_entries
WHEN (SELECT count(*) < 2 OR sum(minor) <> 0 OR count(DISTINCT currency) <> 1 FROM ledger_postings WHERE entry_id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'a ledger entry balances in one currency'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_entries_customer_currency BEFORE INSERT ON ledger_entries
WHEN EXISTS (SELECT 1 FROM ledger_postings p, customers c WHERE p.entry_id = NEW.id AND c.id = NEW.customer_id AND p.currency <> c.currency)
BEGIN SELECT RAISE(ABORT, 'a ledger entry is in its customer''s currency'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_entries_cover AFTER INSERT ON ledger_entries
WHEN EXISTS (SELECT 1 FROM ledger_postings WHERE entry_id = NEW.id AND account = 'balance' AND minor > 0)
    AND (SELECT coalesce(sum(minor), 0) FROM ledger_postings WHERE customer_id = NEW.customer_id AND account = 'balance') > 0
BEGIN SELECT RAISE(ABORT, 'the balance does not cover it'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_postings_closed BEFORE INSERT ON ledger_postings
WHEN EXISTS (SELECT 1 FROM ledger_entries WHERE id = NEW.entry_id)
BEGIN SELECT RAISE(ABORT, 'a ledger entry is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_entries_no_replace BEFORE INSERT ON ledger_entries
WHEN EXISTS (SELECT 1 FROM ledger_entries WHERE id = NEW.id OR key = NEW.key OR n = NEW.n)
BEGIN SELECT RAISE(ABORT, 'a ledger entry is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoice_standings_follow BEFORE INSERT ON invoice_standings
WHEN NEW.turn <> 1 + coalesce((SELECT turn FROM invoice_newest WHERE invoice_id = NEW.invoice_id), 0)
BEGIN SELECT RAISE(ABORT, 'an invoice standing follows the newest one; those before are immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoice_standings_newest AFTER INSERT ON invoice_standings BEGIN
    INSERT INTO invoice_newest (invoice_id, turn, customer_id, status, due_at)
    VALUES (NEW.invoice_id, NEW.turn, NEW.customer_id, NEW.status, NEW.due_at)
    ON CONFLICT (invoice_id) DO UPDATE SET turn = excluded.turn, status = excluded.status, due_at = excluded.due_at;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER payments_no_replace BEFORE INSERT ON payments
WHEN EXISTS (SELECT 1 FROM payments WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'a payment is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER credit_notes_gapless BEFORE INSERT ON credit_notes
WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM credit_notes) OR EXISTS (SELECT 1 FROM credit_notes WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'credit notes are immutable, their numbers follow each other without a gap'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER credit_note_lines_closed BEFORE INSERT ON credit_note_lines
WHEN EXISTS (SELECT 1 FROM credit_notes WHERE id = NEW.note_id)
BEGIN SELECT RAISE(ABORT, 'a credit note is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_entries_no_update BEFORE UPDATE ON ledger_entries BEGIN SELECT RAISE(ABORT, 'a ledger entry is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_entries_no_delete BEFORE DELETE ON ledger_entries BEGIN SELECT RAISE(ABORT, 'a ledger entry is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_postings_no_update BEFORE UPDATE ON ledger_postings BEGIN SELECT RAISE(ABORT, 'a ledger entry is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_postings_no_delete BEFORE DELETE ON ledger_postings BEGIN SELECT RAISE(ABORT, 'a ledger entry is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoice_standings_no_update BEFORE UPDATE ON invoice_standings BEGIN SELECT RAISE(ABORT, 'an invoice standing is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER invoice_standings_no_delete BEFORE DELETE ON invoice_standings BEGIN SELECT RAISE(ABORT, 'an invoice standing is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER payments_no_update BEFORE UPDATE ON payments BEGIN SELECT RAISE(ABORT, 'a payment is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER payments_no_delete BEFORE DELETE ON payments BEGIN SELECT RAISE(ABORT, 'a payment is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER credit_notes_no_update BEFORE UPDATE ON credit_notes BEGIN SELECT RAISE(ABORT, 'a credit note is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER credit_notes_no_delete BEFORE DELETE ON credit_notes BEGIN SELECT RAISE(ABORT, 'a credit note is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER credit_note_lines_no_update BEFORE UPDATE ON credit_note_lines BEGIN SELECT RAISE(ABORT, 'a credit note is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER credit_note_lines_no_delete BEFORE DELETE ON credit_note_lines BEGIN SELECT RAISE(ABORT, 'a credit note is immutable'); END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE dunning_steps;
DROP TABLE credit_note_lines;
DROP TABLE credit_notes;
DROP TABLE payments;
DROP TABLE invoice_newest;
DROP TABLE invoice_standings;
DROP TABLE ledger_postings;
DROP TABLE ledger_entries;
