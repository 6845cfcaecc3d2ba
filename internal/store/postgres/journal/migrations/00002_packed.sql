-- Records and contributions stand in rows of many: one row and one index entry for each cost more than all else of an append.
-- Every event is written anew, in one transaction: the journal is not to be used meanwhile.

-- +goose Up
LOCK TABLE journal_head IN ACCESS EXCLUSIVE MODE; -- whoever writes takes it first
LOCK TABLE journal_events, journal_records, journal_contributions IN ACCESS EXCLUSIVE MODE;
-- All records, without a gap between first and the row's end.
CREATE TABLE journal_log (
	first bigint PRIMARY KEY, -- position of the row's first record
	received bigint,          -- the latest that an event of the row was received, UTC microseconds since 1970; NULL: it has none
	bodies bytea[] NOT NULL   -- as the log of files has them, so that trees over both are equal; at most 64
);
ALTER TABLE journal_log ALTER bodies SET STATISTICS 0; -- nothing searches in it, and to count its elements takes long
INSERT INTO journal_log (first, received, bodies)
	SELECT min(position), max(received), array_agg(body ORDER BY position)
	FROM (SELECT position, received, body, sum(octet_length(body)) OVER (ORDER BY position) / 1600 AS room
		FROM (SELECT position, received, body FROM journal_events UNION ALL SELECT position, NULL, body FROM journal_records) r) s
	GROUP BY position / 64, room;

CREATE TABLE journal_revisions (
	target bigint NOT NULL, -- position of the event
	position bigint NOT NULL,
	PRIMARY KEY (target, position)
);
INSERT INTO journal_revisions (target, position) SELECT target, position FROM journal_records WHERE target > 0;
DROP TABLE journal_records;

CREATE TABLE journal_kept AS SELECT encode(identity, 'hex')::uuid AS identity, position, encode(digest, 'hex')::uuid AS digest, at, marks, revision,
	unmatched, unit FROM journal_events;
DROP TABLE journal_events;
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
INSERT INTO journal_events (identity, position, digest, at, marks, revision, unmatched, unit)
	SELECT identity, position, digest, at, marks, revision, unmatched, unit FROM journal_kept ORDER BY identity;
DROP TABLE journal_kept;
CREATE INDEX journal_events_unmatched ON journal_events (position) WHERE unmatched;
CREATE INDEX journal_events_unit ON journal_events (unit, position) WHERE unit <> '';
CREATE INDEX journal_events_revised ON journal_events (position) WHERE revision > 0;

ALTER TABLE journal_contributions RENAME TO journal_single;
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
INSERT INTO journal_contributions (series, bucket, first, cause, taken, origin, last, events, ats, amounts, traits)
	SELECT series, bucket, min(event), 0, false, origin, max(event), array_agg(event ORDER BY event), array_agg(at ORDER BY event),
		array_agg(value ORDER BY event), array_agg(traits ORDER BY event)
	FROM (SELECT *, (row_number() OVER (PARTITION BY series, bucket, origin ORDER BY event) - 1) / 24 AS room FROM journal_single WHERE cause = event) s
	GROUP BY series, bucket, origin, event / 4096, room;
INSERT INTO journal_contributions (series, bucket, first, cause, taken, origin, last, events, ats, amounts, traits)
	SELECT series, bucket, event, cause, taken, origin, event, ARRAY[event], ARRAY[at], ARRAY[value], ARRAY[traits] FROM journal_single WHERE cause <> event;
DROP TABLE journal_single;

-- +goose Down
LOCK TABLE journal_head IN ACCESS EXCLUSIVE MODE;
LOCK TABLE journal_events, journal_log, journal_contributions IN ACCESS EXCLUSIVE MODE;
CREATE TABLE journal_single (
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
INSERT INTO journal_single (series, bucket, event, cause, at, origin, taken, value, traits)
	SELECT c.series, c.bucket, u.event, greatest(c.cause, u.event), u.at, c.origin, c.taken, u.amount, u.traits
	FROM journal_contributions c CROSS JOIN unnest(c.events, c.ats, c.amounts, c.traits) AS u (event, at, amount, traits);
DROP TABLE journal_contributions;
ALTER TABLE journal_single RENAME TO journal_contributions;
CREATE INDEX journal_contributions_bucket ON journal_contributions (series, bucket, event);

CREATE TABLE journal_kept AS SELECT * FROM journal_events;
DROP TABLE journal_events;
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
CREATE TABLE journal_events_0 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE journal_events_1 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE journal_events_2 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE journal_events_3 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE journal_events_4 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE journal_events_5 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE journal_events_6 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE journal_events_7 PARTITION OF journal_events FOR VALUES WITH (MODULUS 8, REMAINDER 7);
-- What was received is told by row: the latest of it. Retention waits a little longer for what came before.
INSERT INTO journal_events (identity, position, digest, at, received, marks, revision, unmatched, unit, body)
	SELECT uuid_send(k.identity), k.position, uuid_send(k.digest), k.at, l.received, k.marks, k.revision, k.unmatched, k.unit, l.body
	FROM journal_kept k JOIN (SELECT first + n - 1 AS position, received, body FROM journal_log CROSS JOIN unnest(bodies) WITH ORDINALITY AS u (body, n)) l
		USING (position);
DROP TABLE journal_kept;
CREATE INDEX journal_events_position ON journal_events (position);
CREATE INDEX journal_events_unmatched ON journal_events (position) WHERE unmatched;
CREATE INDEX journal_events_unit ON journal_events (unit, position) WHERE unit <> '';
CREATE INDEX journal_events_revision ON journal_events (revision) WHERE revision > 0;

CREATE TABLE journal_records (
	position bigint PRIMARY KEY,
	kind smallint NOT NULL,
	target bigint NOT NULL, -- of a revision: the event's position; else 0
	body bytea NOT NULL
);
INSERT INTO journal_records (position, kind, target, body)
	SELECT l.position, get_byte(l.body, 0), coalesce(r.target, 0), l.body
	FROM (SELECT first + n - 1 AS position, body FROM journal_log CROSS JOIN unnest(bodies) WITH ORDINALITY AS u (body, n)) l
		LEFT JOIN journal_revisions r ON r.position = l.position
	WHERE get_byte(l.body, 0) <> 1; -- an event
CREATE INDEX journal_records_target ON journal_records (target, position) WHERE target > 0;
DROP TABLE journal_log, journal_revisions;
