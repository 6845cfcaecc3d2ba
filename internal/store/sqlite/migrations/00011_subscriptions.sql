-- Subscriptions over time, and what invoices need to know of customers.

-- +goose Up
CREATE TABLE subscription_changes (
    id              TEXT PRIMARY KEY,
    subscription_id TEXT    NOT NULL REFERENCES subscriptions (id),
    at              INTEGER NOT NULL,
    kind            TEXT    NOT NULL,
    plan            TEXT    NOT NULL,
    version         INTEGER NOT NULL,
    key             TEXT    NOT NULL,
    quantity        TEXT    NOT NULL,
    price           TEXT, -- JSON; NULL: none
    until           INTEGER,
    now             INTEGER NOT NULL CHECK (now IN (0, 1)),
    reason          TEXT    NOT NULL,
    actor           TEXT    NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX subscription_changes_subscription ON subscription_changes (subscription_id, id);

-- +goose StatementBegin
CREATE TRIGGER subscription_changes_no_update BEFORE UPDATE ON subscription_changes BEGIN SELECT RAISE(ABORT, 'a change of a subscription is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER subscription_changes_no_delete BEFORE DELETE ON subscription_changes BEGIN SELECT RAISE(ABORT, 'a change of a subscription is immutable'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER subscription_changes_no_replace BEFORE INSERT ON subscription_changes
WHEN EXISTS (SELECT 1 FROM subscription_changes WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'a change of a subscription is immutable'); END;
-- +goose StatementEnd

-- end_at stays as it was when the subscription was created; until_at is the end that follows from its changes.
ALTER TABLE subscriptions ADD COLUMN until_at INTEGER;
UPDATE subscriptions SET until_at = end_at;

ALTER TABLE customers ADD COLUMN billing TEXT NOT NULL DEFAULT '{}'; -- JSON

-- +goose Down
ALTER TABLE customers DROP COLUMN billing;
ALTER TABLE subscriptions DROP COLUMN until_at;
DROP TABLE subscription_changes;
