-- What customers were given back, added up by day.

-- +goose Up
CREATE TABLE refunds (
    id          INTEGER PRIMARY KEY,
    customer_id TEXT    NOT NULL,
    day         INTEGER NOT NULL, -- local midnight
    route       TEXT    NOT NULL,
    meter       TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    refused     INTEGER NOT NULL CHECK (refused IN (0, 1)),
    count       INTEGER NOT NULL CHECK (count >= 0),
    cost        TEXT    NOT NULL, -- the meter's unit
    UNIQUE (customer_id, day, route, meter, reason, refused)
) STRICT;
CREATE INDEX refunds_customer ON refunds (customer_id, id);
CREATE INDEX refunds_day ON refunds (day);

-- +goose Down
DROP TABLE refunds;
