-- +goose Up
-- A counter is also named by its scope, and by its length where it is no calendar window; a lease knows what was spent before it
-- was taken up again.
CREATE TABLE leases_next (
    customer_id  TEXT    NOT NULL,
    meter        TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    window       INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    boot         TEXT    NOT NULL,
    window_end   INTEGER NOT NULL,
    charged      INTEGER NOT NULL CHECK (charged >= 0),
    settled      INTEGER NOT NULL DEFAULT 0 CHECK (settled BETWEEN 0 AND charged),
    written_off  INTEGER NOT NULL DEFAULT 0 CHECK (written_off BETWEEN 0 AND charged),
    closed       INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
    PRIMARY KEY (customer_id, meter, scope, window, length, window_start, node, epoch)
) STRICT, WITHOUT ROWID;
INSERT INTO leases_next (customer_id, meter, scope, window, length, window_start, node, epoch, boot, window_end, charged, written_off, closed)
    SELECT customer_id, meter, '', window, 0, window_start, node, epoch, boot, window_end, charged, written_off, closed FROM leases;
DROP TABLE leases;
ALTER TABLE leases_next RENAME TO leases;
CREATE INDEX leases_open ON leases (node, epoch) WHERE closed = 0;
CREATE INDEX leases_closed ON leases (window_end) WHERE closed = 1;
