package enforce

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	pending    *store.Batch // decoded, not yet accepted by the journal
	totals     map[totalKey]int64
	recovering bool // reading what an earlier run left
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
	if s.pending == nil {
		if err := e.decodeBatch(); err != nil {
			return false, err
		}
	}
	if b := s.pending; len(b.Entries) > 0 || len(b.Marks) > 0 {
		if err := e.appendBatch(ctx, b); err != nil {
			return false, err
		}
	}
	s.pending = nil
	if err := e.carry(); err != nil {
		return false, err
	}
	keep := s.next
	for _, o := range s.open {
		keep = min(keep, o.offset)
	}
	if err := e.cfg.Spool.Truncate(keep); err != nil {
		return false, fmt.Errorf("truncate spool: %w", err)
	}
	return s.next < e.cfg.Spool.End(), nil
}

// carry copies reservations that have long been open to the end of the spool, so that a slow request does not keep all that
// came after it from being truncated.
func (e *Enforcer) carry() error {
	s := &e.ship
	left := carriedMax
	for _, o := range s.open {
		if s.next-o.offset < e.cfg.CarryBehind || left == 0 {
			continue
		}
		left--
		offset, err := e.cfg.Spool.Append(0, o.carry)
		if errors.Is(err, store.ErrFull) {
			return nil // there will be room when others have settled
		}
		if err != nil {
			return fmt.Errorf("carry an open request forward: %w", err)
		}
		o.offset = offset
	}
	return nil
}

// decodeBatch reads on in the spool and prepares s.pending. A malformed record stops the shipping: the spool's own checksums
// passed, so it is a fault of the program and must not be skipped in silence.
func (e *Enforcer) decodeBatch() error {
	s := &e.ship
	b := &store.Batch{Producer: e.source, Node: e.cfg.Node, Epoch: e.epoch, ReceivedAt: e.cfg.Now()}
	s.totals = map[totalKey]int64{}
	next, err := e.cfg.Spool.Read(s.next, shipBytes, func(offset int64, payload []byte) error {
		return e.decodeRecord(b, offset, payload)
	})
	if err != nil {
		at := s.next
		s.open, s.next = map[requestKey]*openRequest{}, e.cfg.Spool.Start() // read all again next time: appending twice is harmless
		return fmt.Errorf("read spool from %d: %w", at, err)
	}
	b.Totals = s.totalsOf()[e.epoch] // those of earlier epochs travel in batches of their own, see appendBatch
	s.pending, s.next = b, next
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
		if _, open := s.open[r.requestKey]; open || s.recovering { // else it was settled before the copy was written
			s.open[r.requestKey] = &openRequest{reservation: r, offset: offset}
		}
	case kindSettle:
		st, err := decodeSettlement(payload)
		if err != nil {
			return err
		}
		o, ok := s.open[st.requestKey]
		if !ok {
			return nil // shipped before a restart, its reservation's segment is gone
		}
		delete(s.open, st.requestKey)
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
		delete(s.open, k)
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

// totalsOf are the batch's running totals by epoch.
func (s *shipper) totalsOf() map[uint32][]store.AdmittedTotal {
	out := map[uint32][]store.AdmittedTotal{}
	for k, v := range s.totals {
		out[k.epoch] = append(out[k.epoch], store.AdmittedTotal{
			CustomerID: k.customerID, Meter: k.meter, PeriodStart: k.periodStart, Total: money.FromScaled(v, k.scale),
		})
	}
	return out
}

// appendBatch hands the batch to the journal. Totals of earlier epochs (left by a crash) go ahead in batches of their own,
// since a batch belongs to one epoch; the entries follow with the present epoch's totals.
func (e *Enforcer) appendBatch(ctx context.Context, b *store.Batch) error {
	for epoch, totals := range e.ship.totalsOf() {
		if epoch == e.epoch {
			continue
		}
		ahead := store.Batch{Producer: b.Producer, Node: b.Node, Epoch: epoch, Totals: totals, ReceivedAt: b.ReceivedAt}
		if _, err := e.cfg.Journal.Append(ctx, ahead); err != nil {
			return fmt.Errorf("ship totals of epoch %d: %w", epoch, err)
		}
	}
	results, err := e.cfg.Journal.Append(ctx, *b)
	if err != nil {
		return fmt.Errorf("ship %d requests: %w", len(b.Entries), err)
	}
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
	b = appendJSON(b, r.method)
	b = append(b, `,"route":`...)
	b = appendJSON(b, r.route)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	return append(b, '}')
}

// appendJSON appends s as a JSON string.
func appendJSON(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			plain = false
			break
		}
	}
	if plain {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

// Flush ships all that is settled now.
func (e *Enforcer) Flush(ctx context.Context) error {
	end := e.cfg.Spool.End()
	for {
		if _, err := e.shipOnce(ctx); err != nil {
			return err
		}
		e.ship.mu.Lock()
		done := e.ship.next >= end && e.ship.pending == nil
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
