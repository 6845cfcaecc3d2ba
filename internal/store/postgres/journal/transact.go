package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallystick/tallystick/internal/store"
)

const (
	attempts   = 3
	commitWait = 30 * time.Second // for a transaction, all attempts together
	settleWait = 10 * time.Second // to find out what became of a commit
	settleTick = 100 * time.Millisecond
	doubtful   = 64 // groups that look their events up, after one that met an event which was there
)

// errMet is a group that took an event for new which is there, or may have refused a call for it.
var errMet = errors.New("an event may be there already")

// transact commits calls, again where a connection or a lock was lost and nothing was written. Its error is that of all calls
// which have none of their own.
func (j *Journal) transact(ctx context.Context, calls []*call) error {
	ctx, cancel := context.WithTimeout(ctx, commitWait)
	defer cancel()
	for n := 1; ; n++ {
		err := j.attempt(ctx, calls, j.doubt == 0)
		if errors.Is(err, errMet) {
			j.doubt = doubtful
			continue
		}
		locked := coded(err, "55P03")
		if locked {
			err = errors.Join(err, j.unblock(ctx))
		}
		if err == nil || errors.Is(err, store.ErrUnknown) {
			return err
		}
		lost := (*lostError)(nil)
		if ctx.Err() != nil && locked {
			return fmt.Errorf("others have the head of the journal for %v: %w: %w", commitWait, store.ErrFull, err)
		}
		if ctx.Err() != nil || !locked && n >= attempts || !locked && !errors.As(err, &lost) && !coded(err, "40001", "40P01") {
			return err
		}
	}
}

// lostError is a connection that ended before anything was written.
type lostError struct{ err error }

func (l *lostError) Error() string { return "the connection was lost: " + l.err.Error() }
func (l *lostError) Unwrap() error { return l.err }

func coded(err error, codes ...string) bool {
	pe := (*pgconn.PgError)(nil)
	return errors.As(err, &pe) && slices.Contains(codes, pe.Code)
}

// attempt stages and writes all calls in one transaction. Where it is blind, it takes the events for new, and the index of
// identities says whether they are: looking each up costs a third of writing it.
func (j *Journal) attempt(ctx context.Context, calls []*call, blind bool) (err error) {
	for _, c := range calls {
		c.err = nil
	}
	tx, err := j.write.BeginTx(ctx, j.changing())
	if err != nil {
		if ce := (*pgconn.ConnectError)(nil); errors.As(err, &ce) || ctx.Err() != nil || coded(err, "TL001") {
			return err
		}
		return &lostError{err}
	}
	defer func() {
		if err != nil {
			if tx.Conn().IsClosed() && !errors.Is(err, store.ErrUnknown) {
				err = &lostError{err}
			}
			_ = tx.Rollback(ctx) // a connection that cannot is dropped
		}
	}()
	g := newGroup(tx)
	g.blind = blind
	if err := g.stage(ctx, calls); err != nil {
		return err
	}
	if blind && (g.met || slices.ContainsFunc(calls, func(c *call) bool { return c.err != nil })) {
		return errMet // of a batch that is taken back, the index would judge nothing
	}
	if j.doubt = max(0, j.doubt-1); g.met {
		j.doubt = doubtful
	}
	if g.position == g.from { // nothing new
		return tx.Rollback(ctx)
	}
	if err := g.flush(ctx); blind && coded(err, "23505") {
		return errMet
	} else if err != nil {
		return err
	}
	if err = tx.Commit(ctx); err == nil {
		return nil
	}
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) && !tx.Conn().IsClosed() {
		return err // the server has rolled it back and lives on
	}
	ours, unsettled := j.settle(ctx, g)
	if unsettled != nil {
		return fmt.Errorf("commit: send it again, what was stored is a duplicate then: %w: %w", store.ErrUnknown, errors.Join(err, unsettled))
	}
	if ours {
		return nil
	}
	return &lostError{err}
}

// stage loads what the calls need and stages them; each has an error of its own.
func (g *group) stage(ctx context.Context, calls []*call) error {
	n := needs{}
	for _, c := range calls {
		if c.need != nil {
			c.need(&n)
		}
	}
	if err := g.load(ctx, &n); err != nil {
		return err
	}
	g.room(&n)
	for _, c := range calls {
		g.begin()
		if c.err = c.stage(ctx, g); c.err == nil {
			g.keep()
			continue
		}
		g.drop()
		if own := (*fault)(nil); errors.As(c.err, &own) { // of the database, not of the call
			err := c.err
			c.err = nil
			return err
		}
		if errors.Is(c.err, errTakenBack) {
			c.err = nil
		}
	}
	return nil
}

// settle finds out whether a group was committed whose connection was lost meanwhile. It takes the head first, so that the
// transaction, if the server still works on it, has ended. The records at its positions tell: where they are ours, all of it
// is there, whoever wrote it.
func (j *Journal) settle(ctx context.Context, g *group) (ours bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWait)
	defer cancel()
	for {
		if ours, err = j.settled(ctx, g); err == nil {
			return ours, nil
		}
		pause, done := context.WithTimeout(ctx, settleTick)
		<-pause.Done()
		done()
		if ctx.Err() != nil {
			return false, err
		}
	}
}

func (j *Journal) settled(ctx context.Context, g *group) (ours bool, err error) {
	err = pgx.BeginTxFunc(ctx, j.write, j.changing(), func(tx pgx.Tx) error {
		var head uint64
		if err := tx.QueryRow(ctx, "SELECT position FROM journal_head FOR UPDATE").Scan(&head); err != nil || head < g.position {
			return err
		}
		ours = true
		rows, err := tx.Query(ctx, "SELECT position, body FROM "+bodiesBetween, int64(g.from)+1, int64(g.position)+1)
		return rowsOf(rows, err, func(rows pgx.Rows) error {
			var position uint64
			var body []byte
			err := rows.Scan(&position, &body)
			ours = ours && err == nil && bytes.Equal(body, g.written()[position])
			return err
		})
	})
	return ours && err == nil, err
}

// written are the bodies that the group has written, by position.
func (g *group) written() map[uint64][]byte {
	if g.bodies == nil {
		g.bodies = make(map[uint64][]byte, len(g.all.events)+len(g.all.others))
		for i := range g.all.events {
			g.bodies[g.all.events[i].position] = g.all.events[i].body
		}
		for i := range g.all.others {
			g.bodies[g.all.others[i].position] = g.all.others[i].body
		}
	}
	return g.bodies
}

// unblock ends sessions that hold the head and have waited for their process for long: it was stopped, or its machine is gone.
// Work is not cut off: a session at work waits for no client.
func (j *Journal) unblock(ctx context.Context) error {
	_, err := j.pool.Exec(ctx, `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
		WHERE l.relation = 'journal_head'::regclass AND l.mode = 'RowShareLock' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND a.wait_event = 'ClientRead' AND a.state_change < clock_timestamp() - make_interval(secs => $1)`, j.cfg.HeadWait.Seconds())
	return err
}
