-- +goose Up
CREATE TABLE journal_head (
	one smallint PRIMARY KEY DEFAULT 1 CHECK (one = 1),
	position bigint NOT NULL, -- of the last record
	retained bigint NOT NULL  -- up to which retention has erased
);
INSERT INTO journal_head (position, retained) VALUES (0, 0);

-- Events by identity. body is the record as the log of files has it, so that trees over both are equal.
CREATE TABLE journal_events (
	identity bytea NOT NULL, -- 16 bytes over source and id
	position bigint NOT NULL,
	digest bytea NOT NULL,
	at bigint NOT NULL,       -- event time, UTC microseconds since 1970
	received bigint NOT NULL, -- the same
	marks integer NOT NULL DEFAULT 0,
	revision bigint NOT NULL DEFAULT 0, -- position of the newest one; 0: none
	unmatched boolean NOT NULL,
	unit text NOT NULL,
	body bytea NOT NULL,
	PRIMARY KEY (identity)
) PARTITION BY HASH (identity);
CREATE INDEX journal_events_position ON journal_events (position);
CREATE INDEX journal_events_unmatched ON journal_events (position) WHERE unmatched;
CREATE INDEX journal_events_unit ON journal_events (unit, position) WHERE unit <> '';
CREATE INDEX journal_events_revision ON journal_events (revision) WHERE revision > 0;
CREATE TABLE journal_events_0 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE journal_events_1 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE journal_events_2 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE journal_events_3 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE journal_events_4 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE journal_events_5 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE journal_events_6 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE journal_events_7 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 7);

-- All other records: batches, marks, cuts, revisions, documents, erasures.
CREATE TABLE journal_records (
	position bigint PRIMARY KEY,
	kind smallint NOT NULL,
	target bigint NOT NULL, -- of a revision: the event's position; else 0
	body bytea NOT NULL
);
CREATE INDEX journal_records_target ON journal_records (target, position) WHERE target > 0;

CREATE TABLE journal_series (
	id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer text NOT NULL,
	meter text NOT NULL,
	UNIQUE (customer, meter)
);
CREATE TABLE journal_cuts (
	customer text NOT NULL,
	at bigint NOT NULL,
	PRIMARY KEY (customer, at)
);
CREATE TABLE journal_buckets (
	series integer NOT NULL,
	start bigint NOT NULL,
	count bigint NOT NULL,
	sum numeric NOT NULL,
	reported numeric NOT NULL, -- the part of sum with that origin
	tally numeric NOT NULL,    -- of what was reported, kept apart from the rollup
	voided numeric NOT NULL,
	last bigint NOT NULL,      -- position of the newest record that contributed
	PRIMARY KEY (series, start)
) WITH (fillfactor = 70);
CREATE TABLE journal_contributions (
	series integer NOT NULL,
	bucket bigint NOT NULL,
	event bigint NOT NULL,
	cause bigint NOT NULL, -- position of the event, or of its revision
	at bigint NOT NULL,
	origin smallint NOT NULL,
	taken boolean NOT NULL,
	value numeric NOT NULL,
	traits bytea
);
CREATE INDEX journal_contributions_bucket ON journal_contributions (series, bucket, event);
CREATE TABLE journal_totals (
	customer text NOT NULL,
	meter text NOT NULL,
	period bigint NOT NULL,
	node integer NOT NULL,
	epoch bigint NOT NULL,
	total numeric NOT NULL,
	PRIMARY KEY (customer, meter, period, node, epoch)
);
CREATE TABLE journal_erasures (
	position bigint PRIMARY KEY,
	subject bytea NOT NULL, -- empty: by position
	first bigint NOT NULL,
	last bigint NOT NULL
);

-- +goose Down
DROP TABLE journal_erasures, journal_totals, journal_contributions, journal_buckets, journal_cuts, journal_series, journal_records, journal_events, journal_head;
