-- What the sealer keeps: its fence, the signed checkpoints, where closes were sealed, and the keys that payloads are salted under.

-- +goose Up
CREATE TABLE sealer (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    fence INTEGER NOT NULL CHECK (fence > 0)
) STRICT;

CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY CHECK (size > 0),
    root BLOB    NOT NULL CHECK (length(root) = 32),
    time INTEGER NOT NULL,
    note BLOB    NOT NULL
) STRICT;

CREATE TABLE sealed_closes (
    subscription_id TEXT    NOT NULL,
    period_start    INTEGER NOT NULL,
    period_end      INTEGER NOT NULL,
    invoice_id      TEXT    NOT NULL,
    position        INTEGER NOT NULL CHECK (position > 0),
    PRIMARY KEY (subscription_id, period_start, period_end)
) STRICT;
CREATE UNIQUE INDEX sealed_closes_invoice ON sealed_closes (invoice_id) WHERE invoice_id <> '';

CREATE TABLE subject_keys (
    subject TEXT PRIMARY KEY,
    key     BLOB NOT NULL CHECK (length(key) = 32)
) STRICT, WITHOUT ROWID;
