package enforce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	shipBytes  = 512 << 10 // how much of the spool one batch takes
	coverBytes = 32 << 10  // of the spool without anything to tell are told of, so that they can be truncated
	carriedMax = 256       // how many reservations are carried forward at a time
)

// openRequest is a reservation in the spool that has not been settled or released.
type openRequest struct {
	reservation
	offset int64
}

// shipper moves settled requests from the spool to the journal. mu owns all fields.
type shipper struct {
	mu         sync.Mutex
	next       int64 // spool offset behind what was decoded
	open       map[requestKey]*openRequest
	names      names
	shipped    int64         // what was taken of the spool, as the receiver knows it
	pending    []store.Batch // decoded, not yet taken
	totals     map[totalKey]int64
	recovering bool  // reading what an earlier run left
	again      int64 // the spool is read once more up to here, after a fault
	// ended are the requests whose end was read while recovering or reading again: a copy behind it opens none of them. They are
	// at most as many as the spool holds.
	ended map[requestKey]bool
	// lastSeen is the latest decision instant read.
	lastSeen int64
}

type totalKey struct {
	epoch             uint32
	customerID, meter string
	periodStart       int64
	scale             int
}

// Tick ships one bounded batch. more is true when the spool holds more.
func (e *Enforcer) Tick(ctx context.Context) (more bool, err error) {
	if err := e.closeRolled(ctx); err != nil {
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
	if err := e.carry(ctx); err != nil {
		return false, err
	}
	keep := s.shipped
	for _, o := range s.open {
		keep = min(keep, o.offset)
	}
	if err := e.cfg.Spool.Truncate(keep); err != nil {
		return false, fmt.Errorf("truncate spool: %w", err)
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
		offset, err := e.cfg.Spool.Append(0, o.carry)
		if errors.Is(err, store.ErrFull) {
			break // there will be room when others have settled
		}
		if err != nil {
			return fmt.Errorf("carry an open request forward: %w", err)
		}
		o.offset = offset
	}
	if left < carriedMax {
		return e.cfg.Spool.Sync(ctx)
	}
	return nil
}

// afresh says whether what lies at an offset may have been read by nobody, or was forgotten.
func (s *shipper) afresh(offset int64) bool { return s.recovering || offset < s.again }

// end closes a request.
func (s *shipper) end(k requestKey, offset int64) {
	if delete(s.open, k); s.afresh(offset) {
		s.ended[k] = true
	}
}

// carried takes a copy of a reservation in. One whose request had ended when the copy was written is put to rest behind it, for
// who reads the copy and not the end.
func (e *Enforcer) carried(r reservation, offset int64) error {
	s := &e.ship
	if _, open := s.open[r.requestKey]; open || s.afresh(offset) && !s.ended[r.requestKey] {
		s.open[r.requestKey] = &openRequest{reservation: r, offset: offset}
		return nil
	}
	_, err := e.cfg.Spool.Append(0, func(b []byte) []byte { return appendRelease(b, r.requestKey) })
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
	s.totals = map[totalKey]int64{}
	s.shipped = min(s.shipped, s.next) // less when all is read again
	next, err := e.cfg.Spool.Read(s.next, shipBytes, func(offset int64, payload []byte) error {
		return e.decodeRecord(&b, offset, payload)
	})
	if err != nil {
		at := s.next
		s.again = e.cfg.Spool.End()
		s.open, s.next = map[requestKey]*openRequest{}, e.cfg.Spool.Start() // read all again next time: appending twice is harmless
		return fmt.Errorf("read spool from %d: %w", at, err)
	}
	s.next = next
	if s.again > 0 && next >= s.again && !s.recovering {
		s.again, s.ended = 0, map[requestKey]bool{}
	}
	if len(b.Entries) == 0 && len(b.Marks) == 0 && next-s.shipped < coverBytes {
		return nil // nothing to tell yet
	}
	byEpoch := map[uint32][]store.AdmittedTotal{}
	for k, v := range s.totals {
		byEpoch[k.epoch] = append(byEpoch[k.epoch], store.AdmittedTotal{
			CustomerID: k.customerID, Meter: k.meter, PeriodStart: k.periodStart, Total: money.FromScaled(v, k.scale),
		})
	}
	b.Totals = byEpoch[e.epoch]
	delete(byEpoch, e.epoch)
	// Totals of earlier epochs (left by a crash) go ahead in batches of their own, since a batch belongs to one epoch.
	for _, epoch := range slices.Sorted(maps.Keys(byEpoch)) {
		s.pending = append(s.pending, store.Batch{Producer: b.Producer, Node: b.Node, Epoch: epoch, Totals: byEpoch[epoch], ReceivedAt: b.ReceivedAt})
	}
	s.pending = append(s.pending, b)
	return nil
}

func (e *Enforcer) decodeRecord(b *store.Batch, offset int64, payload []byte) error {
	s := &e.ship
	if len(payload) == 0 {
		return errRecord
	}
	switch payload[0] {
	case kindReserve:
		r, err := decodeReservation(payload, s.names)
		if err != nil {
			return err
		}
		s.open[r.requestKey] = &openRequest{reservation: r, offset: offset}
		s.lastSeen = max(s.lastSeen, r.time)
	case kindCarry:
		r, err := decodeReservation(payload, s.names)
		if err != nil {
			return err
		}
		return e.carried(r, offset)
	case kindSettle:
		st, err := decodeSettlement(payload)
		if err != nil {
			return err
		}
		o, ok := s.open[st.requestKey]
		if !ok {
			s.end(st.requestKey, offset)
			return nil // shipped before a restart, its reservation's segment is gone
		}
		s.end(st.requestKey, offset)
		b.Entries = append(b.Entries, e.entry(&o.reservation, st))
		k := totalKey{st.totalEpoch, o.customerID, o.meter, o.periodStart, o.scale}
		s.totals[k] = max(s.totals[k], st.total)
		if b.First == 0 || st.seq < b.First {
			b.First = st.seq
		}
		b.Last = max(b.Last, st.seq)
	case kindRelease:
		k, err := decodeRelease(payload)
		if err != nil {
			return err
		}
		s.end(k, offset)
	case kindMark:
		k, flags, err := decodeMark(payload)
		if err != nil {
			return err
		}
		b.Marks = append(b.Marks, store.Mark{Source: e.source, ID: e.shortID(k).String(), Flags: store.Flags(flags)})
	default:
		return fmt.Errorf("%w: kind %d", errRecord, payload[0])
	}
	return nil
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

func (e *Enforcer) shortID(k requestKey) receipt.ShortID {
	return receipt.ShortID{Node: e.cfg.Node, Epoch: k.epoch, Seq: k.seq}
}

// entry is the usage event of a settled request. Its time is the decision instant.
func (e *Enforcer) entry(r *reservation, st settlement) store.Entry {
	value := money.FromScaled(r.cost, r.scale)
	var dims []meter.Dimension
	if m, ok := e.cfg.Directory.Current().Meter(r.meter); ok {
		dims = dimensions(m, r, st.status)
	}
	return store.Entry{
		Event: meter.Event{
			Source: e.source, ID: e.shortID(r.requestKey).String(), Type: r.event, Subject: r.customerID,
			Time: time.UnixMicro(r.time).UTC(), Data: eventData(r, value, st.status),
		},
		Origin: meter.Admitted,
		Resolutions: []meter.Resolution{{
			CustomerID: r.customerID, Meter: r.meter, CatalogVersion: r.catalogVersion, Value: value, Dimensions: dims,
		}},
		Receipt: r.receipt,
		Flags:   store.Flags(st.flags),
		KeyID:   r.keyID,
	}
}

// dimensions reads the meter's declared dimensions of a request; others are left out.
func dimensions(m catalog.Meter, r *reservation, status int) []meter.Dimension {
	var out []meter.Dimension
	for _, name := range m.Dimensions {
		switch m.Member(name) {
		case "method":
			out = append(out, meter.Dimension{Name: name, Value: r.method})
		case "route":
			out = append(out, meter.Dimension{Name: name, Value: r.route})
		case "status":
			out = append(out, meter.Dimension{Name: name, Value: strconv.Itoa(status)})
		}
	}
	slices.SortFunc(out, func(a, b meter.Dimension) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// eventData is canonical JSON (keys sorted) of what a gateway knows of a request.
func eventData(r *reservation, cost money.Decimal, status int) []byte {
	b := make([]byte, 0, 96)
	b = append(b, `{"cost":`...)
	b = append(b, cost.String()...)
	b = append(b, `,"method":`...)
	b = meter.AppendString(b, r.method)
	b = append(b, `,"route":`...)
	b = meter.AppendString(b, r.route)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	return append(b, '}')
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
	if err := e.inflight.wait(ctx, before.UnixMicro(), e.cfg.Now().UnixMicro()); err != nil {
		return fmt.Errorf("wait for %d open requests: %w", e.inflight.total(), err)
	}
	return e.Flush(ctx)
}

// SyncTick makes the spool durable against a power cut.
func (e *Enforcer) SyncTick(ctx context.Context) error { return e.cfg.Spool.Sync(ctx) }
