package enforce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	shipBytes  = 512 << 10 // how much of the spool one batch takes
	coverBytes = 32 << 10  // of the spool without anything to tell are told of, so that they can be truncated
	carriedMax = 256       // how many reservations are carried forward at a time
)

// openRequest is a reservation in the spool that has not been settled or released.
type openRequest struct {
	record.Reservation
	offset int64
}

// endedRequest is the end of a request.
type endedRequest struct {
	*record.Settlement // nil: it was released
	offset             int64
	told               bool // its reservation was read before it
}

// shipper moves settled requests from the spool to the journal. mu owns all fields.
type shipper struct {
	mu         sync.Mutex
	next       int64 // spool offset behind what was decoded
	open       map[record.Key]*openRequest
	names      record.Names
	book       *record.Book
	bookEpoch  uint32        // whose leases it knows; 0: all
	surveyed   bool          // the book knows the spool's last snapshots
	cutAt      int64         // what lay before was offered for truncation, and the book's snapshot was taken for it
	copiesAt   int64         // the copies that were carried last begin here; 0: they have been read
	copiesFrom int64         // until then, ends that lie behind this one stay: one of them may be of a copy
	shipped    int64         // what was taken of the spool, as the receiver knows it
	pending    []store.Batch // decoded, not yet taken
	totals     map[totalKey]int64
	earlier    map[uint32]*store.Batch // while decoding: of earlier epochs, left by a crash
	recovering bool                    // reading what an earlier run left
	again      int64                   // the spool is read once more up to here, after a fault
	// ended are the requests whose end was read while recovering or reading again: a copy behind it opens none of them. They are
	// at most as many as the spool holds.
	ended map[record.Key]*endedRequest
	// lastSeen is the latest decision instant read.
	lastSeen int64
	// bookBytes is about what the declared leases take in the spool; anybody may read it.
	bookBytes atomic.Int64
	// behind is the spool offset up to which all was handed over; anybody may read it, also while a batch is on its way.
	behind atomic.Int64
}

func (s *shipper) begin(at int64) {
	s.next, s.shipped, s.cutAt = at, at, at
	s.behind.Store(at)
	s.names = record.Names{}
	s.forget()
}

// forget lets go of all that was read of the spool.
func (s *shipper) forget() {
	s.open, s.ended = map[record.Key]*openRequest{}, map[record.Key]*endedRequest{}
	s.book, s.surveyed, s.copiesAt = record.NewBook(s.bookEpoch), false, 0
}

type totalKey struct {
	epoch             uint32
	customerID, meter string
	periodStart       int64
	scale             int
}

// Tick ships one bounded batch. more is true when the spool holds more.
func (e *Enforcer) Tick(ctx context.Context) (more bool, err error) {
	if err := e.lessee.Tick(ctx); err != nil && !errors.Is(err, authority.ErrUnreachable) { // then with a later one
		return false, err
	}
	if err := e.expire(); err != nil {
		return false, err
	}
	return e.shipOnce(ctx)
}

func (e *Enforcer) shipOnce(ctx context.Context) (more bool, err error) {
	s := &e.ship
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		if err := e.decodeBatch(); err != nil {
			return false, err
		}
	}
	for len(s.pending) > 0 {
		if err := e.deliver(ctx, &s.pending[0]); err != nil {
			return false, err
		}
		s.pending = s.pending[1:]
	}
	s.behind.Store(s.next)
	if !s.recovering { // what an earlier run left must be brought to its end first, in the room that was set aside for it
		if err := e.carry(ctx); err != nil {
			return false, err
		}
		if err := e.truncate(ctx); err != nil {
			return false, err
		}
	}
	return s.next < e.cfg.Spool.End(), nil
}

// carry copies reservations that have long been open to the end of the spool, so that a slow request does not keep all that
// came after it from being truncated. The copies are durable when it returns, since the originals may go.
func (e *Enforcer) carry(ctx context.Context) error {
	s := &e.ship
	left := carriedMax
	for _, o := range s.open {
		if s.next-o.offset < e.cfg.CarryBehind || left == 0 {
			continue
		}
		left--
		offset, err := e.cfg.Spool.Append(0, o.Carry)
		if errors.Is(err, store.ErrFull) {
			break // there will be room when others have settled
		}
		if err != nil {
			return fmt.Errorf("carry an open request forward: %w", err)
		}
		if o.offset = offset; s.copiesAt == 0 {
			s.copiesFrom = s.next
		}
		s.copiesAt = max(s.copiesAt, offset)
	}
	if left < carriedMax {
		return e.cfg.Spool.Sync(ctx)
	}
	return nil
}

// afresh says whether what lies at an offset may have been read by nobody, or was forgotten.
func (s *shipper) afresh(offset int64) bool { return s.recovering || offset < s.again }

// end closes a request. A settlement of which the reservation is not known was shipped before a restart, or a copy follows.
func (s *shipper) end(k record.Key, st *record.Settlement, offset int64) (o *openRequest) {
	o = s.open[k]
	if delete(s.open, k); s.afresh(offset) {
		s.ended[k] = &endedRequest{Settlement: st, offset: offset, told: o != nil}
	}
	return o
}

// carried takes a copy of a reservation in. One whose request had ended when the copy was written is put to rest behind it, for
// who reads the copy and not the end; where only the copy is left of the reservation, the end counts now.
func (e *Enforcer) carried(b *store.Batch, r *record.Reservation, offset int64) error {
	s := &e.ship
	end := s.ended[r.Key]
	if _, open := s.open[r.Key]; open || s.afresh(offset) && end == nil {
		s.open[r.Key] = &openRequest{Reservation: *r, offset: offset}
		return nil
	}
	if end != nil && !end.told {
		if end.told = true; end.Settlement != nil {
			e.settled(b, r, end.Settlement, end.offset)
		}
	}
	_, err := e.cfg.Spool.Append(0, func(dst []byte) []byte { return record.AppendRelease(dst, r.Key, 0) })
	if err != nil && !errors.Is(err, store.ErrFull) {
		return fmt.Errorf("put a carried request to rest: %w", err)
	}
	return nil
}

// decodeBatch reads on in the spool and prepares s.pending. A malformed record stops the shipping: the spool's own checksums
// passed, so it is a fault of the program and must not be skipped in silence.
func (e *Enforcer) decodeBatch() error {
	s := &e.ship
	b := store.Batch{Producer: e.source, Node: e.cfg.Node, Epoch: e.epoch, ReceivedAt: e.cfg.Now()}
	s.totals, s.earlier = map[totalKey]int64{}, map[uint32]*store.Batch{}
	s.shipped = min(s.shipped, s.next) // less when all is read again
	if err := e.survey(); err != nil {
		return err
	}
	next, err := e.cfg.Spool.Read(s.next, shipBytes, func(offset int64, payload []byte) error {
		return e.decodeRecord(&b, offset, payload)
	})
	if err != nil {
		at := s.next
		s.again = e.cfg.Spool.End()
		s.forget()
		s.next = e.cfg.Spool.Start() // read all again next time: appending twice is harmless
		s.behind.Store(s.next)
		return fmt.Errorf("read spool from %d: %w", at, err)
	}
	s.next = next
	s.bookBytes.Store(s.book.Bytes())
	if s.copiesAt > 0 && next > s.copiesAt {
		s.copiesAt = 0
	}
	if s.again > 0 && next >= s.again && !s.recovering {
		s.again, s.ended = 0, map[record.Key]*endedRequest{}
	}
	if len(b.Entries) == 0 && len(b.Marks) == 0 && len(s.earlier) == 0 && next-s.shipped < coverBytes {
		return nil // nothing to tell yet
	}
	for _, epoch := range slices.Sorted(maps.Keys(s.earlier)) {
		s.total(s.earlier[epoch])
		s.pending = append(s.pending, *s.earlier[epoch])
	}
	s.total(&b)
	s.pending = append(s.pending, b)
	return nil
}

// total puts the totals of a batch's epoch into it.
func (s *shipper) total(b *store.Batch) {
	for k, v := range s.totals {
		if k.epoch == b.Epoch {
			b.Totals = append(b.Totals, store.AdmittedTotal{
				CustomerID: k.customerID, Meter: k.meter, PeriodStart: k.periodStart, Total: money.FromScaled(v, k.scale),
			})
		}
	}
	slices.SortFunc(b.Totals, func(x, y store.AdmittedTotal) int {
		return cmp.Or(cmp.Compare(x.CustomerID, y.CustomerID), cmp.Compare(x.Meter, y.Meter), cmp.Compare(x.PeriodStart, y.PeriodStart))
	})
}

// of is where what counts to an epoch's totals goes. Requests and the total that counts them are in one batch, so that the books
// balance also while the rest is on its way; a batch belongs to one epoch, and what a crash left of earlier ones goes ahead.
func (s *shipper) of(b *store.Batch, epoch uint32) *store.Batch {
	if epoch == b.Epoch {
		return b
	}
	if s.earlier[epoch] == nil {
		s.earlier[epoch] = &store.Batch{Producer: b.Producer, Node: b.Node, Epoch: epoch, ReceivedAt: b.ReceivedAt}
	}
	return s.earlier[epoch]
}

func (e *Enforcer) decodeRecord(b *store.Batch, offset int64, payload []byte) error {
	s := &e.ship
	switch kind := record.KindOf(payload); kind {
	case record.Reserve, record.Carry:
		r, err := record.ReadReservation(payload, s.names)
		if err != nil {
			return err
		}
		s.lastSeen = max(s.lastSeen, r.Time)
		if kind == record.Carry {
			return e.carried(b, &r, offset)
		}
		s.open[r.Key] = &openRequest{Reservation: r, offset: offset}
	case record.Settle:
		st, err := record.ReadSettlement(payload)
		if err != nil {
			return err
		}
		if o := s.end(st.Key, &st, offset); o != nil {
			e.settled(b, &o.Reservation, &st, offset)
		}
	case record.Release:
		k, _, err := record.ReadRelease(payload)
		if err != nil {
			return err
		}
		s.end(k, nil, offset)
	case record.Extend:
		k, expires, err := record.ReadExtend(payload)
		if err != nil {
			return err
		}
		if o := s.open[k]; o != nil {
			o.Expires = expires
		}
	case record.Mark:
		k, flags, err := record.ReadMark(payload)
		if err != nil {
			return err
		}
		b.Marks = append(b.Marks, store.Mark{Source: e.source, ID: e.shortID(k).String(), Flags: store.Flags(flags)})
	case record.Lease, record.Closed, record.Void:
		return s.book.Declare(payload, offset)
	case record.Spent: // of use to Survey alone
	default:
		return fmt.Errorf("%w: kind %d", record.ErrMalformed, kind)
	}
	return nil
}

// settled takes a settlement, which lies at an offset, into a batch and into the book of leases.
func (e *Enforcer) settled(b *store.Batch, r *record.Reservation, st *record.Settlement, offset int64) {
	s := &e.ship
	b = s.of(b, st.TotalEpoch)
	b.Entries = append(b.Entries, e.entry(r, st))
	k := totalKey{st.TotalEpoch, r.CustomerID, r.Meter, r.PeriodStart, r.Scale}
	s.totals[k] = max(s.totals[k], st.Total)
	if b.First == 0 || st.Seq < b.First {
		b.First = st.Seq
	}
	b.Last = max(b.Last, st.Seq)
	s.book.Ended(r.Epoch, r.Leases, st.Charge(r.Cost), offset)
}

// deliver hands the first pending batch to the journal. The last one of what was decoded covers the spool up to there.
func (e *Enforcer) deliver(ctx context.Context, b *store.Batch) error {
	s := &e.ship
	to := s.shipped
	if len(s.pending) == 1 {
		to = s.next
	}
	results, err := e.cfg.Deliver(ctx, e.epoch, s.shipped, to, b)
	if err != nil {
		return fmt.Errorf("ship %d requests: %w", len(b.Entries), err)
	}
	s.shipped = to
	for i, r := range results {
		if r.Outcome == store.Conflict {
			e.stats.conflicts.Add(1)
			e.cfg.Log.ErrorContext(ctx, "a gateway event conflicts with a stored one", slog.String("event", b.Entries[i].Event.ID))
		}
	}
	return nil
}

// Flush ships all that is settled now.
func (e *Enforcer) Flush(ctx context.Context) error {
	end := e.cfg.Spool.End()
	for {
		if _, err := e.shipOnce(ctx); err != nil {
			return err
		}
		e.ship.mu.Lock()
		done := e.ship.next >= end && len(e.ship.pending) == 0
		e.ship.mu.Unlock()
		if done {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Settled returns when every decision made before the call is settled or released and in the journal, or with ctx's error.
// before must not be in the future.
func (e *Enforcer) Settled(ctx context.Context, before time.Time) error {
	if e.cfg.Now().Before(before) {
		return fmt.Errorf("wait for requests before %s: that is still to come", before.Format(time.RFC3339))
	}
	if err := e.inflight.Wait(ctx, before.UnixMicro(), e.cfg.Now().UnixMicro()); err != nil {
		return fmt.Errorf("wait for %d open requests: %w", e.inflight.Total(), err)
	}
	return e.Flush(ctx)
}

// SyncTick makes the spool durable against a power cut.
func (e *Enforcer) SyncTick(ctx context.Context) error { return e.cfg.Spool.Sync(ctx) }
