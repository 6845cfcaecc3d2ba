package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of what waits, and of one transaction; a single larger call is one alone.
const (
	groupCalls      = 256
	groupBytes      = 16 << 20
	maxWaiters      = 4096
	maxWaitingBytes = 256 << 20
)

// call is one change on its way.
type call struct {
	size int
	// stage adds what the call writes to a group whose state it has loaded with need; an error leaves the group as it was.
	need  func(n *needs)
	stage func(ctx context.Context, g *group) error
	alone bool // has a transaction of its own

	done chan struct{} // closed when err is set
	err  error
}

// submit has a call committed, together with others that wait.
func (j *Journal) submit(ctx context.Context, c *call) error {
	c.done = make(chan struct{})
	j.mu.Lock()
	if len(j.waiting) >= maxWaiters || j.bytes+c.size > maxWaitingBytes {
		j.mu.Unlock()
		return fmt.Errorf("%d calls wait for the database: %w", maxWaiters, store.ErrFull)
	}
	j.waiting = append(j.waiting, c)
	j.bytes += c.size
	j.mu.Unlock()
	select {
	case j.turn <- struct{}{}:
	case <-c.done:
		return c.err
	case <-ctx.Done():
		if j.withdraw(c) {
			return ctx.Err()
		}
		<-c.done
		return c.err
	}
	defer func() { <-j.turn }()
	for {
		select {
		case <-c.done:
			return c.err
		default:
		}
		j.commit(context.WithoutCancel(ctx), j.take())
	}
}

// withdraw takes a call back that nobody has taken yet.
func (j *Journal) withdraw(c *call) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, w := range j.waiting {
		if w == c {
			j.waiting = append(j.waiting[:i:i], j.waiting[i+1:]...)
			j.bytes -= c.size
			return true
		}
	}
	return false
}

// take is the next group.
func (j *Journal) take() []*call {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, bytes := 0, 0
	for n < len(j.waiting) && n < groupCalls {
		c := j.waiting[n]
		if n > 0 && (c.alone || j.waiting[0].alone || bytes+c.size > groupBytes) {
			break
		}
		bytes += c.size
		n++
	}
	calls := append([]*call(nil), j.waiting[:n]...)
	j.waiting = append([]*call(nil), j.waiting[n:]...)
	j.bytes -= bytes
	return calls
}

// commit works a group and tells each call what became of it.
func (j *Journal) commit(ctx context.Context, calls []*call) {
	err := j.transact(ctx, calls)
	for _, c := range calls {
		if c.err == nil {
			c.err = err
		}
		close(c.done)
	}
}

// fault is a failure of the database while a call was staged.
type fault struct{ err error }

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func faulty(err error) error {
	if err == nil {
		return nil
	}
	return &fault{err}
}

// errTakenBack ends a call that writes nothing and has said so in its results.
var errTakenBack = errors.New("nothing of the call is written")

// rowsOf reads all rows.
func rowsOf(rows pgx.Rows, err error, each func(pgx.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
