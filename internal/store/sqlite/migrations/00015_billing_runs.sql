-- Runs of billing: what was asked for, and how far it is. What is closed stands with the closes; a run only tells of it.

-- +goose Up
CREATE TABLE billing_runs (
    id          TEXT PRIMARY KEY,
    until_at    INTEGER, -- NULL: all that is due
    customer_id TEXT    NOT NULL, -- '': of all customers
    actor       TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'canceled')),
    due         INTEGER NOT NULL CHECK (due >= 0),
    done        INTEGER NOT NULL CHECK (done >= 0),
    failed      INTEGER NOT NULL CHECK (failed >= 0),
    invoices    INTEGER NOT NULL CHECK (invoices >= 0),
    last_error  TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    started_at  INTEGER, -- NULL: not yet
    updated_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX billing_runs_open ON billing_runs (id) WHERE state IN ('queued', 'running');
-- +goose StatementBegin
CREATE TRIGGER billing_runs_ended BEFORE UPDATE ON billing_runs WHEN OLD.state NOT IN ('queued', 'running')
BEGIN SELECT RAISE(ABORT, 'a run of billing that has ended is immutable'); END;
-- +goose StatementEnd
CREATE TABLE billing_run_failures (
    run_id          TEXT    NOT NULL REFERENCES billing_runs (id),
    subscription_id TEXT    NOT NULL,
    customer        TEXT    NOT NULL,
    period_start    INTEGER NOT NULL,
    period_end      INTEGER NOT NULL,
    reason          TEXT    NOT NULL,
    PRIMARY KEY (run_id, subscription_id)
) STRICT;

-- +goose Down
DROP TABLE billing_run_failures;
DROP TABLE billing_runs;
