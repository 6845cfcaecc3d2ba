package enforce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	// leaseBytesMax bounds what declared leases may take in the spool. A lease beyond it is used all the same; after kill -9 nobody
	// knows what it was spent on, so it stays charged in full.
	leaseBytesMax = 32 << 20
	// cutShare is how many bytes of the spool must be ready to go for each byte that a snapshot of the leases takes.
	cutShare = 4
	// voidRoom is set aside for a Void.
	voidRoom = 8
)

// declared is what this run told its spool of leases.
type declared struct {
	number    atomic.Uint32
	roomAside atomic.Bool // there is room in the spool for a Void

	mu       sync.Mutex
	nameless bool // a lease is used without a name, and the spool says so
}

// leaseOpened writes a lease's name into the spool, before any request draws on it. A reservation lists the names of the leases
// that it draws on. 0: there is no room for more names; the lease can be used, and is written off after kill -9.
func (e *Enforcer) leaseOpened(k store.CounterKey, end int64) (uint32, error) {
	if e.ship.bookBytes.Load() >= leaseBytesMax {
		return 0, e.useNameless()
	}
	d := record.Declaration{LeaseID: record.LeaseID{Epoch: e.epoch, Number: e.declared.number.Add(1)}, Counter: k, WindowEnd: end}
	if err := e.declare(&d); err != nil {
		return 0, fmt.Errorf("spool a lease: %w", err)
	}
	return d.Number, nil
}

// declare writes a lease into the spool, and sees to it that there is room for a Void.
func (e *Enforcer) declare(d *record.Declaration) error {
	aside := 0
	if e.declared.roomAside.CompareAndSwap(false, true) {
		aside = voidRoom
	}
	_, err := e.cfg.Spool.Append(aside, d.Append)
	if err != nil && aside > 0 {
		e.declared.roomAside.Store(false)
	}
	return err
}

// declareEpoch says in the spool that this run gives each lease a name before it is used. One that was granted to a process which
// was killed before it heard of it is known to be unspent by that. Without room for it such a lease is written off.
func (e *Enforcer) declareEpoch() error {
	err := e.declare(&record.Declaration{LeaseID: record.LeaseID{Epoch: e.epoch}})
	if err != nil && !errors.Is(err, store.ErrFull) {
		return fmt.Errorf("spool the epoch: %w", err)
	}
	return nil
}

// useNameless says in the spool, once, that not every lease has a name.
func (e *Enforcer) useNameless() error {
	e.stats.nameless.Add(1)
	e.declared.mu.Lock()
	defer e.declared.mu.Unlock()
	if e.declared.nameless {
		return nil
	}
	_, err := e.cfg.Spool.Append(0, func(b []byte) []byte { return record.AppendClosed(b, record.LeaseID{Epoch: e.epoch}) })
	if err != nil {
		return fmt.Errorf("spool that a lease has no name: %w", err)
	}
	e.declared.nameless = true
	return nil
}

// leaseClosed says that the authority has taken note of a lease's end, so that the spool need not account for it any more. When its
// counter is opened again in this epoch, that is another lease here.
func (e *Enforcer) leaseClosed(number uint32) {
	if number == 0 {
		return
	}
	// Without this record the lease is only kept in mind for longer than needed.
	_, err := e.cfg.Spool.Append(0, func(b []byte) []byte {
		return record.AppendClosed(b, record.LeaseID{Epoch: e.epoch, Number: number})
	})
	if err != nil {
		e.stats.marksLost.Add(1)
	}
}

// survey reads the spool for the last snapshots of its leases, before it is read from its start on.
func (e *Enforcer) survey() error {
	s := &e.ship
	if s.surveyed {
		return nil
	}
	for at, end := s.next, e.cfg.Spool.End(); at < end; {
		next, err := e.cfg.Spool.Read(at, shipBytes, func(offset int64, payload []byte) error { return s.book.Survey(payload, offset) })
		if err != nil {
			return fmt.Errorf("read the leases in the spool from %d: %w", next, err)
		}
		if next == at {
			break
		}
		at = next
	}
	s.surveyed = true
	return nil
}

// truncate lets the spool drop what is not needed any more, once the leases' book is written behind it. Writing it takes room, so
// it is done when that is a small part of what may go.
func (e *Enforcer) truncate(ctx context.Context) error {
	s := &e.ship
	if s.again > 0 {
		return nil // what is being read again goes when it has been read
	}
	keep := s.shipped
	for _, o := range s.open {
		keep = min(keep, o.offset)
	}
	if s.copiesAt > 0 {
		keep = min(keep, s.copiesFrom)
	}
	if s.book.Len() > 0 {
		if keep-s.cutAt < cutShare*s.book.SnapshotBytes() {
			return nil
		}
		err := s.book.Snapshot(keep, s.next, func(fill func([]byte) []byte) (int64, error) { return e.cfg.Spool.Append(0, fill) })
		if errors.Is(err, store.ErrFull) {
			err = e.void(ctx)
		}
		if err != nil {
			return fmt.Errorf("spool what leases were spent on: %w", err)
		}
	}
	s.cutAt = keep
	if err := e.cfg.Spool.Truncate(keep); err != nil {
		return fmt.Errorf("truncate spool: %w", err)
	}
	return nil
}

// void gives the account of all open leases up, so that a full spool can be truncated: they are written off if this process is
// killed. There is room for that.
func (e *Enforcer) void(ctx context.Context) error {
	if !e.declared.roomAside.CompareAndSwap(true, false) {
		return store.ErrFull
	}
	at, err := e.cfg.Spool.AppendReserved(voidRoom, func(b []byte) []byte { return append(b, record.Void) })
	if err != nil {
		e.declared.roomAside.Store(true)
		return err
	}
	e.stats.voided.Add(int64(e.ship.book.Len()))
	e.ship.book.Void(at)
	e.cfg.Log.WarnContext(ctx, "the spool is full: what open leases were spent on is forgotten, and they stay charged after a crash",
		slog.Int64("leases", e.stats.voided.Load()))
	return nil
}
