-- +goose Up
CREATE TABLE journal_head (
	one smallint PRIMARY KEY DEFAULT 1 CHECK (one = 1),
	position bigint NOT NULL, -- of the last record
	retained bigint NOT NULL  -- up to which retention has erased
);
INSERT INTO journal_head (position, retained) VALUES (0, 0);

-- All records, without a gap between first and the row's end.
CREATE TABLE journal_log (
	first bigint PRIMARY KEY, -- position of the row's first record
	received bigint,          -- the latest that an event of the row was received, UTC microseconds since 1970; NULL: it has none
	size integer NOT NULL,    -- bytes of the bodies together, so that nobody reads more than fits
	bodies bytea[] NOT NULL   -- as the log of files has them, so that trees over both are equal; at most 64
);
ALTER TABLE journal_log ALTER bodies SET STATISTICS 0; -- nothing searches in it, and to count its elements takes long

CREATE TABLE journal_revisions (
	target bigint NOT NULL, -- position of the event
	position bigint NOT NULL,
	PRIMARY KEY (target, position)
);

-- An identity is a hash, so that its ranges are of one size; who looks one up knows its partition.
CREATE TABLE journal_events (
	identity uuid NOT NULL, -- 16 bytes over source and id
	position bigint NOT NULL,
	digest uuid NOT NULL, -- 16 bytes
	at bigint NOT NULL,   -- event time, UTC microseconds since 1970
	marks integer NOT NULL DEFAULT 0,
	revision bigint NOT NULL DEFAULT 0, -- position of the newest one; 0: none
	unmatched boolean NOT NULL,
	unit text NOT NULL,
	PRIMARY KEY (identity)
) PARTITION BY RANGE (identity);
CREATE TABLE journal_events_0 PARTITION OF journal_events FOR VALUES FROM (MINVALUE) TO ('20000000-0000-0000-0000-000000000000');
CREATE TABLE journal_events_1 PARTITION OF journal_events FOR VALUES FROM ('20000000-0000-0000-0000-000000000000') TO ('40000000-0000-0000-0000-000000000000');
CREATE TABLE journal_events_2 PARTITION OF journal_events FOR VALUES FROM ('40000000-0000-0000-0000-000000000000') TO ('60000000-0000-0000-0000-000000000000');
CREATE TABLE journal_events_3 PARTITION OF journal_events FOR VALUES FROM ('60000000-0000-0000-0000-000000000000') TO ('80000000-0000-0000-0000-000000000000');
CREATE TABLE journal_events_4 PARTITION OF journal_events FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO ('a0000000-0000-0000-0000-000000000000');
CREATE TABLE journal_events_5 PARTITION OF journal_events FOR VALUES FROM ('a0000000-0000-0000-0000-000000000000') TO ('c0000000-0000-0000-0000-000000000000');
CREATE TABLE journal_events_6 PARTITION OF journal_events FOR VALUES FROM ('c0000000-0000-0000-0000-000000000000') TO ('e0000000-0000-0000-0000-000000000000');
CREATE TABLE journal_events_7 PARTITION OF journal_events FOR VALUES FROM ('e0000000-0000-0000-0000-000000000000') TO (MAXVALUE);
CREATE INDEX journal_events_unmatched ON journal_events (position) WHERE unmatched;
CREATE INDEX journal_events_unit ON journal_events (unit, position) WHERE unit <> '';
CREATE INDEX journal_events_revised ON journal_events (position) WHERE revision > 0;

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
	first bigint NOT NULL,     -- position of the first event
	cause bigint NOT NULL,     -- position of the revision; 0: the events themselves
	taken boolean NOT NULL,
	origin smallint NOT NULL,
	last bigint NOT NULL,      -- position of the last event, below first + 4096
	events bigint[] NOT NULL,  -- positions, in order
	ats bigint[] NOT NULL,
	amounts numeric[] NOT NULL,
	traits bytea[] NOT NULL,
	PRIMARY KEY (series, bucket, first, cause, taken)
);
ALTER TABLE journal_contributions ALTER events SET STATISTICS 0, ALTER ats SET STATISTICS 0, ALTER amounts SET STATISTICS 0, ALTER traits SET STATISTICS 0;
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
DROP TABLE journal_erasures, journal_totals, journal_contributions, journal_buckets, journal_cuts, journal_series, journal_revisions, journal_events,
	journal_log, journal_head;
