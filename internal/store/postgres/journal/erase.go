package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// erasure takes payloads out: those of a subject up to its own record, or all between two positions.
type erasure struct {
	position    int64 // of the record that orders it
	subject     string
	first, last int64
}

// covers says whether the payload of a record is to go.
func (e *erasure) covers(r *record.Record) bool {
	if e.subject == "" {
		return true // it was chosen by its position
	}
	return r.Event.Subject == e.subject
}

const (
	eraseChunk  = 500   // records that one transaction looks at
	retainChunk = 4_000 // positions that one erasure by age covers
	maxErasures = 10_000
)

// Erase orders that the payloads (subject, data, trace, receipt, key) of all records of a subject so far are taken away, and
// takes them. It returns the position of the order when that is done; after a crash in between, Compact goes on. What the events
// count for, their identities and digests, and the tree stay. Every record is looked at: it takes long where there are many.
func (j *Journal) Erase(ctx context.Context, subject, actor, reason string, at time.Time) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return 0, fmt.Errorf("erase: %w", err)
	}
	defer j.leave()
	if !record.Text(subject, 1) || !record.Text(actor, 1) || !record.Text(reason, 1) || !record.Instant(at) {
		return 0, fmt.Errorf("erase: %w", invalid("a subject, an actor and a reason of 1 to %d bytes and an instant are needed", record.MaxText))
	}
	e := erasure{subject: subject, first: 1}
	err := j.order(ctx, &e, &record.Record{
		Kind: record.KindErasure, ReceivedAt: at, Event: meter.Event{Time: time.UnixMicro(0), Subject: subject},
		Reference: &record.Reference{Actor: actor, Reason: reason},
	})
	if err == nil {
		err = j.carryOut(ctx, e)
	}
	return uint64(e.position), wrap("erase", err)
}

// order appends an erasure.
func (j *Journal) order(ctx context.Context, e *erasure, r *record.Record) error {
	if j.cfg.Commit == nil {
		return invalid("this journal was opened without a way to commit to what is erased")
	}
	encoded := r.Append(nil)
	return j.submit(ctx, &call{size: len(encoded), alone: true, stage: func(ctx context.Context, g *group) error {
		var waiting int
		if err := g.tx.QueryRow(ctx, "SELECT count(*) FROM journal_erasures").Scan(&waiting); err != nil {
			return faulty(err)
		}
		if waiting >= maxErasures {
			return fmt.Errorf("%d erasures wait to be carried out: %w", waiting, store.ErrFull)
		}
		e.position = int64(g.put(0, encoded))
		if e.subject != "" {
			e.last = e.position
		}
		g.erasure = e
		return nil
	}})
}

// carryOut takes the payloads out, a chunk a transaction, and the order's own mention of the subject last.
func (j *Journal) carryOut(ctx context.Context, e erasure) error {
	for at := e.first; at <= e.last; {
		var last *int64
		err := j.pool.QueryRow(ctx, "SELECT max(position) FROM "+bodiesBounded, at, min(at+eraseChunk, e.last+1), chunkBytes).Scan(&last)
		if err != nil || last == nil {
			return errors.Join(err, wantRecord(at, err))
		}
		if err := j.eraseChunk(ctx, &e, at, *last+1); err != nil {
			return err
		}
		at = *last + 1
	}
	if e.subject != "" && j.cfg.Forget != nil {
		came := func() (bool, error) { return j.came(ctx, e) }
		if err := j.cfg.Forget(ctx, e.subject, came); err != nil {
			return fmt.Errorf("forget a subject: %w", err)
		}
	}
	_, err := j.pool.Exec(ctx, "DELETE FROM journal_erasures WHERE position = $1", e.position)
	return err
}

func wantRecord(at int64, err error) error {
	if err != nil {
		return nil //nolint:nilerr // it is told already
	}
	return fmt.Errorf("there is no record %d: %w", at, store.ErrCorrupt)
}

func (j *Journal) eraseChunk(ctx context.Context, e *erasure, from, to int64) error {
	return pgx.BeginTxFunc(ctx, j.pool, j.changing(), func(tx pgx.Tx) error {
		// A process that was stopped must not keep the rows from another one that goes on with the erasure.
		if _, err := tx.Exec(ctx, fmt.Sprint("SET LOCAL idle_in_transaction_session_timeout = ", j.cfg.HeadWait.Milliseconds())); err != nil {
			return err
		}
		b := &pgx.Batch{}
		rows, err := tx.Query(ctx, "SELECT first, bodies FROM journal_log WHERE "+rowsBetween+" ORDER BY first FOR UPDATE", from, to)
		if err := rowsOf(rows, err, func(rows pgx.Rows) error {
			var first int64
			var bodies [][]byte
			if err := rows.Scan(&first, &bodies); err != nil {
				return err
			}
			changed, size := false, 0
			for i, body := range bodies {
				size += len(body)
				if at := first + int64(i); at < from || at >= to {
					continue
				}
				out, err := j.without(body, e)
				if err != nil {
					return err
				}
				if out != nil {
					bodies[i], changed = out, true
					size += len(out) - len(body)
				}
			}
			if changed {
				b.Queue("UPDATE journal_log SET bodies = $2, size = $3 WHERE first = $1", first, bodies, size)
			}
			return nil
		}); err != nil {
			return err
		}
		return tx.SendBatch(ctx, b).Close()
	})
}

// without is a record's body with a commitment instead of its payload; nil: there is nothing to take.
func (j *Journal) without(body []byte, e *erasure) ([]byte, error) {
	var p record.Parsed
	if err := p.Parse(body); err != nil {
		return nil, err
	}
	if len(p.Payload()) == 0 {
		return nil, nil
	}
	r, err := record.Decode(body)
	if err != nil || !e.covers(&r) {
		return nil, err
	}
	sum, err := j.cfg.Commit(r.Event.Subject, r.Position, bytes.Clone(p.Head()), bytes.Clone(p.Payload()))
	if err != nil {
		return nil, fmt.Errorf("commit to record %d: %w", r.Position, err)
	}
	r.Commitment, r.Erased = sum[:], uint64(e.position)
	r.Event.Subject, r.Event.Data, r.Event.TraceParent, r.Receipt, r.KeyID, r.Salt, r.PayloadExt = "", nil, "", nil, "", nil, nil
	return record.Body(r.Append(nil)), nil
}

// came says whether a record of the subject has come after the order.
func (j *Journal) came(ctx context.Context, e erasure) (found bool, err error) {
	for at := e.position + 1; !found; {
		bodies, err := j.bodies(ctx, uint64(at), eraseChunk)
		if err != nil {
			return false, err
		}
		for _, body := range bodies {
			var p record.Parsed
			if err := p.Parse(body); err != nil {
				return false, err
			}
			found = found || p.Subject() == e.subject
		}
		at += int64(len(bodies))
		if len(bodies) == 0 {
			break
		}
	}
	return found, nil
}

// Retain implements store.Keeper: it erases the payloads of the next positions, if all of them were received before.
func (j *Journal) Retain(ctx context.Context, before, now time.Time) (more bool, err error) {
	if err := j.enter(ctx); err != nil {
		return false, fmt.Errorf("retain: %w", err)
	}
	defer j.leave()
	var from, head int64
	var newest *int64
	// Where there are only other records, the next event tells how old they are.
	err = j.pool.QueryRow(ctx, `SELECT h.retained + 1, h.position, (SELECT max(received) FROM journal_log
		WHERE first >= coalesce((SELECT max(first) FROM journal_log WHERE first <= h.retained + 1), 0) AND first <= greatest(h.retained + $1, (SELECT first FROM journal_log WHERE first > h.retained AND received IS NOT NULL ORDER BY first LIMIT 1)))
		FROM journal_head h`, retainChunk).Scan(&from, &head, &newest)
	if err != nil || from > head || newest == nil || *newest >= before.UnixMicro() {
		return false, wrap("retain", err)
	}
	e := erasure{first: from, last: min(head, from+retainChunk-1)}
	err = j.order(ctx, &e, &record.Record{
		Kind: record.KindErasure, ReceivedAt: now, Event: meter.Event{Time: time.UnixMicro(0)}, First: uint64(e.first), Last: uint64(e.last),
		Reference: &record.Reference{Actor: "retention", Reason: "received before " + before.UTC().Format(time.RFC3339)},
	})
	if err == nil {
		err = j.carryOut(ctx, e)
	}
	return err == nil, wrap("retain", err)
}

// Compact implements store.Keeper: it goes on with an erasure that was not finished.
func (j *Journal) Compact(ctx context.Context) (more bool, err error) {
	if err := j.enter(ctx); err != nil {
		return false, fmt.Errorf("compact: %w", err)
	}
	defer j.leave()
	var e erasure
	var subject []byte
	err = j.pool.QueryRow(ctx, "SELECT position, subject, first, last FROM journal_erasures ORDER BY position LIMIT 1").Scan(&e.position, &subject, &e.first, &e.last)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err == nil {
		e.subject = string(subject)
		err = j.carryOut(ctx, e)
	}
	return err == nil, wrap("compact", err)
}

// Erasing implements store.Keeper. It is for metrics: a database that does not answer has none.
func (j *Journal) Erasing() int {
	ctx, cancel := context.WithTimeout(context.Background(), erasingWait)
	defer cancel()
	var n int
	if j.closed.Load() || j.pool.QueryRow(ctx, "SELECT count(*) FROM journal_erasures").Scan(&n) != nil {
		return 0
	}
	return n
}

const erasingWait = 2 * time.Second
