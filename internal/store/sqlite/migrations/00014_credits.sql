-- Usage credits in full: kinds, priorities, money, refills, rollover, voids; coupons of customers; rules of automatic top-ups.

-- +goose Up
ALTER TABLE grants ADD COLUMN kind         TEXT    NOT NULL DEFAULT 'promotional';
ALTER TABLE grants ADD COLUMN priority     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN meters       TEXT    NOT NULL DEFAULT '[]'; -- JSON; of money: only usage of these
ALTER TABLE grants ADD COLUMN every        TEXT    NOT NULL DEFAULT '';   -- '': it does not recur
ALTER TABLE grants ADD COLUMN anchor       INTEGER;                       -- NULL: it does not recur
ALTER TABLE grants ADD COLUMN min_rollover TEXT    NOT NULL DEFAULT '';   -- '' both: no rule
ALTER TABLE grants ADD COLUMN max_rollover TEXT    NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN paid         TEXT    NOT NULL DEFAULT '0';
-- Names what a grant was made for, so that it is made once; '': an operator made it.
ALTER TABLE grants ADD COLUMN once         TEXT    NOT NULL DEFAULT '';
CREATE UNIQUE INDEX grants_once ON grants (customer_id, once) WHERE once <> '';

CREATE TABLE grant_voids (
    grant_id TEXT PRIMARY KEY REFERENCES grants (id),
    at       INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    reason   TEXT    NOT NULL
) STRICT;

CREATE TABLE coupon_redemptions (
    id              TEXT PRIMARY KEY,
    customer_id     TEXT    NOT NULL REFERENCES customers (id),
    coupon          TEXT    NOT NULL,
    catalog_version INTEGER NOT NULL,
    redeemed_at     INTEGER NOT NULL,
    ended_at        INTEGER, -- NULL: in force
    actor           TEXT    NOT NULL,
    reason          TEXT    NOT NULL
) STRICT;
CREATE INDEX coupon_redemptions_customer ON coupon_redemptions (customer_id, id);
CREATE INDEX coupon_redemptions_coupon ON coupon_redemptions (coupon, customer_id);

CREATE TABLE top_up_rules (
    customer_id TEXT    NOT NULL REFERENCES customers (id),
    meter       TEXT    NOT NULL, -- '': money
    below       TEXT    NOT NULL,
    amount      TEXT    NOT NULL,
    paid        TEXT    NOT NULL,
    most        INTEGER NOT NULL CHECK (most > 0),
    every       TEXT    NOT NULL,
    valid_days  INTEGER NOT NULL CHECK (valid_days >= 0), -- 0: what it grants does not expire
    set_at      INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    PRIMARY KEY (customer_id, meter)
) STRICT;

CREATE TABLE credit_marks (
    customer_id TEXT    NOT NULL REFERENCES customers (id),
    meter       TEXT    NOT NULL, -- '': money
    percent     INTEGER NOT NULL, -- the lowest threshold that was told since there was more
    crossings   INTEGER NOT NULL, -- how often a threshold was crossed downwards
    PRIMARY KEY (customer_id, meter)
) STRICT;

-- +goose Down
DROP TABLE credit_marks;
DROP TABLE top_up_rules;
DROP TABLE coupon_redemptions;
DROP TABLE grant_voids;
DROP INDEX grants_once;
ALTER TABLE grants DROP COLUMN once;
ALTER TABLE grants DROP COLUMN paid;
ALTER TABLE grants DROP COLUMN max_rollover;
ALTER TABLE grants DROP COLUMN min_rollover;
ALTER TABLE grants DROP COLUMN anchor;
ALTER TABLE grants DROP COLUMN every;
ALTER TABLE grants DROP COLUMN meters;
ALTER TABLE grants DROP COLUMN priority;
ALTER TABLE grants DROP COLUMN kind;
