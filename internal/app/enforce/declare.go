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
	// closedMax bounds the closed leases that are remembered.
	closedMax = 1 << 17
)

// declared is what this run told its spool of leases.
type declared struct {
	number    atomic.Uint32
	roomAside atomic.Bool // there is room in the spool for a Void

	mu     sync.Mutex
	closed map[store.CounterKey]closedLease // leases of this epoch that were closed before their window ended
	lost   bool                             // closed was full: what is opened now may have been spent from before
}

type closedLease struct{ end, spent int64 }

// leaseOpened writes a lease's name into the spool, before any request draws on it. A reservation lists the names of the leases
// that it draws on. 0: there is no room for more names; the lease can be used, and is written off after kill -9.
func (e *Enforcer) leaseOpened(k store.CounterKey, end int64) (uint32, error) {
	if e.ship.bookBytes.Load() >= leaseBytesMax {
		e.stats.nameless.Add(1)
		return 0, nil
	}
	spent, known := e.declared.reopen(k)
	if !known {
		e.stats.nameless.Add(1)
		return 0, nil
	}
	d := record.Declaration{
		LeaseID: record.LeaseID{Epoch: e.epoch, Number: e.declared.number.Add(1)}, Counter: k, WindowEnd: end, Spent: spent,
	}
	aside := 0
	if e.declared.roomAside.CompareAndSwap(false, true) {
		aside = voidRoom
	}
	if _, err := e.cfg.Spool.Append(aside, d.Append); err != nil {
		if aside > 0 {
			e.declared.roomAside.Store(false)
		}
		return 0, fmt.Errorf("spool a lease: %w", err)
	}
	return d.Number, nil
}

// leaseClosed says that the authority has taken note of a lease's end, and what it was spent on in all. Its counter may be opened
// again in this epoch, and then goes on from there.
func (e *Enforcer) leaseClosed(number uint32, k store.CounterKey, end, spent int64) {
	e.declared.close(k, closedLease{end, spent}, e.cfg.Now().UnixMicro())
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

// reopen is what a counter's closed lease of this epoch was spent on; false: that is not known.
func (d *declared) reopen(k store.CounterKey) (spent int64, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, found := d.closed[k]
	delete(d.closed, k)
	return c.spent, found || !d.lost
}

func (d *declared) close(k store.CounterKey, c closedLease, now int64) {
	if c.spent == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.closed) >= closedMax {
		for old, o := range d.closed {
			if o.end != 0 && o.end <= now {
				delete(d.closed, old)
			}
		}
	}
	if len(d.closed) >= closedMax {
		d.lost = true
		return
	}
	if d.closed == nil {
		d.closed = map[store.CounterKey]closedLease{}
	}
	d.closed[k] = c
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
	at, err := e.cfg.Spool.AppendReserved(voidRoom, func(b []byte) []byte { return append(b, byte(record.Void)) })
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
