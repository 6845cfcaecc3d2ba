package enforce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// The bounds of explicit reservations.
const (
	HeldMax    = 100_000 // open ones of one gateway
	TTLMin     = time.Second
	TTLMax     = 24 * time.Hour
	endedKept  = time.Hour // how long an end is remembered, so that it can be repeated
	endedMax   = 100_000
	partsMax   = 16   // extensions by more cost, the first reservation included
	expiredMax = 1000 // ended by one Tick
	heldPrefix = "res_"
)

// What the calls about explicit reservations say, wrapped.
var (
	// ErrReservationUnknown: there is none of that id, or it ended long ago, or in an earlier run of the gateway.
	ErrReservationUnknown = errors.New("no such reservation")
	// ErrReservationEnded: it has ended, and in another way.
	ErrReservationEnded = errors.New("the reservation has ended")
	// ErrReservationParts: it was extended by more cost too often.
	ErrReservationParts = errors.New("the reservation was extended too often")

	// ErrReservationAway: the process that has it is not there, or its answer was lost.
	ErrReservationAway = errors.New("the server that has the reservation is not there")

	errHeldFull = errors.New("too many explicit reservations are open")
)

// OnExpiry is what becomes of an explicit reservation that nobody ends.
type OnExpiry uint8

// The choices.
const (
	ChargeExpired  OnExpiry = iota // charged in full, since the work may have been done
	ReleaseExpired                 // given back
)

// HeldState is where an explicit reservation is in its life.
type HeldState uint8

// The states.
const (
	HeldOpen HeldState = iota
	HeldSettled
	HeldReleased
	HeldExpired // settled or released by its OnExpiry
)

// Held is an explicit reservation, for work that is not a proxied request. Costs are in the meter's unit.
type Held struct {
	ID         string // "res_…"
	CustomerID string
	Route      string
	Meter      string
	State      HeldState
	OnExpiry   OnExpiry
	Expires    time.Time
	Reserved   money.Decimal
	Charged    money.Decimal // once it has ended
}

// HeldDo is what a call does with an explicit reservation.
type HeldDo string

// What can be done.
const (
	HeldShow    HeldDo = "show"
	HeldExtend  HeldDo = "extend"
	HeldSettle  HeldDo = "settle"
	HeldRelease HeldDo = "release"
)

// HeldCall is one call about an explicit reservation. It can be made at another process, where the reservation is.
type HeldCall struct {
	ID     string         `json:"id"`
	Do     HeldDo         `json:"do"`
	TTL    time.Duration  `json:"ttl,omitempty"`    // of an extension
	Cost   *money.Decimal `json:"cost,omitempty"`   // more, of an extension; of a settlement see Actual
	Status int            `json:"status,omitempty"` // of a settlement: see Actual
}

// Again says that the call may be made once more where nobody knows whether it was done.
func (c *HeldCall) Again() bool { return c.Do != HeldExtend || c.Cost == nil || c.Cost.Sign() <= 0 }

// HeldNode is the node that made a reservation, and has it. ok is false for what is no reservation's id.
func HeldNode(id string) (node uint16, ok bool) {
	s, ok := parseHeld(id)
	return s.Node, ok
}

func parseHeld(id string) (s receipt.ShortID, ok bool) {
	short, found := strings.CutPrefix(id, heldPrefix)
	if !found {
		return s, false
	}
	s, err := receipt.ParseShortID(short)
	return s, err == nil
}

// Call does what a call says. Errors are those of Reservation, Extend, SettleHeld and ReleaseHeld; the Admission is Extend's.
func (e *Enforcer) Call(ctx context.Context, c HeldCall) (h *Held, denied *Admission, err error) {
	switch c.Do {
	case HeldShow:
		h, err = e.Reservation(c.ID)
	case HeldExtend:
		return e.Extend(ctx, c.ID, c.TTL, c.Cost)
	case HeldSettle:
		h, err = e.SettleHeld(c.ID, Actual{Status: c.Status, Cost: c.Cost})
	case HeldRelease:
		h, err = e.ReleaseHeld(c.ID)
	default:
		err = fmt.Errorf("%q is nothing that can be done with a reservation", c.Do)
	}
	return h, nil, err
}

// heldAsk makes a decision one of an explicit reservation.
type heldAsk struct {
	key      record.Key // of the first decision, by which it is known; zero: this is it
	ttl      time.Duration
	until    int64 // in place of ttl, when not 0
	onExpiry OnExpiry
}

func (h *heldAsk) expires(now int64) int64 {
	if h.until != 0 {
		return h.until
	}
	return now + h.ttl.Microseconds()
}

// heldEntry is one of them. mu owns all fields below it.
type heldEntry struct {
	key        record.Key
	customerID string
	route      string
	meter      string
	scale      int
	onExpiry   OnExpiry

	mu       sync.Mutex
	parts    []*Admission // not ended yet
	extended int
	reserved int64
	charged  int64
	expires  int64
	state    HeldState
	how      ending
}

// ending is how it was ended.
type ending struct {
	state  HeldState
	status int
	cost   string // "": what was reserved
}

// Reserve decides like Admit, and holds what it admits until it is settled, released, or ttl has passed (TTLMin to TTLMax; others
// are moved there). Held is nil when the request is denied, and for a route without a meter, of which nothing can be held.
// It survives restarts and kill -9. It does not hold the close of a billing period up: its usage belongs to the instant of the
// decision, and is late when that period has been closed by the time at which it settles. BeforeForward holds for it, too.
func (e *Enforcer) Reserve(ctx context.Context, r Request, ttl time.Duration) (*Held, *Admission) {
	if !e.held.enter() {
		return nil, e.crowded(ctx)
	}
	r.held = &heldAsk{ttl: clampTTL(ttl), onExpiry: r.OnExpiry}
	a := e.Admit(ctx, r)
	if !a.Allowed() || a.res.Held == (record.Key{}) {
		e.held.leave()
		if a.unmetered {
			a.end()
			a.state.Store(stateReleased)
		}
		return nil, a
	}
	e.detach(a)
	h := e.entryOf(a)
	e.held.add(h)
	return h.view(e), a
}

func clampTTL(ttl time.Duration) time.Duration { return min(max(ttl, TTLMin), TTLMax) }

func (e *Enforcer) crowded(ctx context.Context) *Admission {
	x := e.take()
	defer e.scratches.Put(x)
	a := &Admission{e: e, entry: e.inflight.Enter(x.stripe)}
	x.receipt.Time = e.cfg.Now().UnixMicro()
	e.unavailable(ctx, a, x, errHeldFull)
	return a
}

// detach takes a reservation out of those that a close waits for.
func (e *Enforcer) detach(a *Admission) {
	a.gone = true
	e.inflight.Leave(a.entry)
}

func (e *Enforcer) entryOf(a *Admission) *heldEntry {
	r := &a.res
	return &heldEntry{
		key: r.Held, customerID: r.CustomerID, route: r.Route, meter: r.Meter, scale: r.Scale,
		onExpiry: OnExpiry(r.OnExpiry), parts: []*Admission{a}, extended: 1, reserved: r.Cost, expires: r.Expires,
	}
}

// view is the entry as callers see it. h.mu is held, or nobody else has the entry.
func (h *heldEntry) view(e *Enforcer) *Held {
	return &Held{
		ID: heldPrefix + e.shortID(h.key).String(), CustomerID: h.customerID, Route: h.route, Meter: h.meter, State: h.state, OnExpiry: h.onExpiry,
		Expires: time.UnixMicro(h.expires).UTC(), Reserved: money.FromScaled(h.reserved, h.scale), Charged: money.FromScaled(h.charged, h.scale),
	}
}

// find returns a locked entry.
func (e *Enforcer) find(id string) (*heldEntry, error) {
	key, ok := e.heldKey(id)
	if !ok {
		return nil, fmt.Errorf("%q: %w", clip(id), ErrReservationUnknown)
	}
	e.held.mu.Lock()
	h := e.held.byKey[key]
	e.held.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("%q: %w", clip(id), ErrReservationUnknown)
	}
	h.mu.Lock()
	return h, nil
}

func (e *Enforcer) heldKey(id string) (record.Key, bool) {
	s, ok := parseHeld(id)
	return record.Key{Epoch: s.Epoch, Seq: s.Seq}, ok && s.Node == e.cfg.Node
}

func clip(s string) string { return s[:min(len(s), 64)] }

// Reservation finds one, open or ended within the last hour. ErrReservationUnknown.
func (e *Enforcer) Reservation(id string) (*Held, error) {
	h, err := e.find(id)
	if err != nil {
		return nil, err
	}
	defer h.mu.Unlock()
	return h.view(e), nil
}

// Extend lets a reservation live for ttl from now on, if that is longer, and reserves more cost with it. When the limits deny the
// cost, nothing is changed, and the Admission says why; else that is nil. ErrReservationUnknown, ErrReservationEnded,
// ErrReservationParts.
func (e *Enforcer) Extend(ctx context.Context, id string, ttl time.Duration, more *money.Decimal) (*Held, *Admission, error) {
	h, err := e.find(id)
	if err != nil {
		return nil, nil, err
	}
	defer h.mu.Unlock()
	if h.state != HeldOpen {
		return h.view(e), nil, fmt.Errorf("%s: %w", id, ErrReservationEnded)
	}
	until := max(h.expires, e.cfg.Now().Add(clampTTL(ttl)).UnixMicro())
	if more != nil && more.Sign() > 0 {
		a, err := e.more(ctx, h, until, more)
		if err != nil || !a.Allowed() {
			return h.view(e), a, err
		}
	}
	for _, a := range h.parts {
		_, err := e.cfg.Spool.Append(0, func(b []byte) []byte { return record.AppendExtend(b, a.res.Key, until) })
		if err != nil {
			return h.view(e), nil, fmt.Errorf("spool the extension: %w", err)
		}
	}
	h.expires = until
	return h.view(e), nil, nil
}

// more decides on more cost, which becomes a reservation of its own that ends with the first one.
func (e *Enforcer) more(ctx context.Context, h *heldEntry, until int64, cost *money.Decimal) (*Admission, error) {
	if h.extended >= partsMax {
		return nil, fmt.Errorf("%d times: %w", h.extended, ErrReservationParts)
	}
	first := &h.parts[0].res
	var route *catalog.Route
	routes := e.cfg.Directory.Current().Routes
	for i := range routes {
		if routes[i].Match == h.route && routes[i].Meter == h.meter {
			route = &routes[i]
		}
	}
	if route == nil { // it was of a meter alone, or the route has left the catalog
		route = &catalog.Route{Match: h.route, Meter: h.meter}
	}
	who := first.KeyID
	if who == "" {
		who = first.CustomerID
	}
	a := e.Admit(ctx, Request{
		Trusted: who, Route: route, Method: first.Method, User: first.User, Cost: cost,
		held: &heldAsk{key: h.key, until: until, onExpiry: h.onExpiry},
	})
	if !a.Allowed() {
		return a, nil
	}
	e.detach(a)
	h.parts = append(h.parts, a)
	h.extended++
	h.reserved = addSat(h.reserved, a.res.Cost)
	return a, nil
}

// SettleHeld charges a reservation with its actual cost. Settling again in the same way gives the same answer; after another end
// it is ErrReservationEnded, with the reservation as it is. After an error of the spool the same call may be made again.
func (e *Enforcer) SettleHeld(id string, end Actual) (*Held, error) {
	return e.endHeld(id, HeldSettled, end)
}

// ReleaseHeld gives a reservation back. Errors are as for SettleHeld.
func (e *Enforcer) ReleaseHeld(id string) (*Held, error) {
	return e.endHeld(id, HeldReleased, Actual{})
}

func (e *Enforcer) endHeld(id string, state HeldState, end Actual) (*Held, error) {
	h, err := e.find(id)
	if err != nil {
		return nil, err
	}
	defer h.mu.Unlock()
	how := ending{state: state, status: end.Status}
	if end.Cost != nil {
		how.cost = end.Cost.String()
	}
	if h.state != HeldOpen {
		if h.how != how {
			err = fmt.Errorf("%s: %w", id, ErrReservationEnded)
		}
		return h.view(e), err
	}
	if err := e.finish(h, how, end); err != nil {
		return h.view(e), err
	}
	h.state = state
	return h.view(e), nil
}

// finish ends all parts; those that have ended are taken off, so that it can go on after an error. h.mu is held.
func (e *Enforcer) finish(h *heldEntry, how ending, end Actual) error {
	left := int64(-1) // what is still to be charged; below 0: what was reserved
	if end.Cost != nil && len(h.parts) > 0 {
		left = max(0, chargeOf(&h.parts[0].res, end)-h.charged)
	}
	for len(h.parts) > 0 {
		a := h.parts[0]
		charged, err := e.endPart(a, how.state, end.Status, left, len(h.parts) == 1)
		if err != nil {
			return err
		}
		if h.charged = addSat(h.charged, charged); left >= 0 {
			left -= charged
		}
		h.parts = h.parts[1:]
	}
	h.how = how
	e.held.end(h, e.cfg.Now().UnixMicro())
	return nil
}

// endPart ends one part: the last one takes all that is left to be charged.
func (e *Enforcer) endPart(a *Admission, state HeldState, status int, left int64, last bool) (charged int64, err error) {
	if state == HeldReleased {
		return 0, a.Release(Withdrawn)
	}
	end := Actual{Status: status}
	if left >= 0 {
		if !last {
			left = min(left, a.res.Cost)
		}
		end.Cost = new(money.FromScaled(left, a.res.Scale))
		if left == 0 && a.res.Held != a.res.Key {
			return 0, a.Release(Withdrawn) // an extension that was not needed
		}
	}
	return a.settle(end, 0)
}

// expire ends what is over, in a bounded number. An error leaves the rest for the next time.
func (e *Enforcer) expire() error {
	now := e.cfg.Now().UnixMicro()
	for range expiredMax {
		h := e.held.due(now)
		if h == nil {
			return nil
		}
		if err := e.expireOne(h, now); err != nil {
			e.held.again(h, now)
			return fmt.Errorf("end an expired reservation: %w", err)
		}
	}
	return nil
}

func (e *Enforcer) expireOne(h *heldEntry, now int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != HeldOpen {
		return nil
	}
	if h.expires > now {
		e.held.again(h, h.expires)
		return nil
	}
	how := ending{state: HeldSettled}
	if h.onExpiry == ReleaseExpired {
		how.state = HeldReleased
	}
	if err := e.finish(h, how, Actual{}); err != nil {
		return err
	}
	h.state = HeldExpired
	h.how.state = HeldExpired // no caller's end is the same
	e.stats.expired.Add(1)
	return nil
}

// reopen takes up an explicit reservation of an earlier epoch. The lease that it drew on was closed, with its cost: what it does
// not need of that in the end stays charged in its window, for the counters of this epoch know nothing of it.
func (e *Enforcer) reopen(r *record.Reservation) {
	a := &Admission{e: e, gone: true, res: *r, daily: -1}
	a.total = e.lessee.Total(r.CustomerID, r.Meter, r.PeriodStart)
	if cust, ok := e.cfg.Directory.Customer(r.CustomerID); ok {
		a.Principal.Customer = cust
	}
	a.state.Store(stateOpen)
	// A copy sets the room for its end aside. Without room for that, the end has to find its own.
	if _, err := e.cfg.Spool.Append(record.EndRoom, r.Carry); err != nil {
		a.roomless = true
	} else {
		a.res.Receipt = nil
	}
	h := e.held.byKey[r.Held]
	if h == nil {
		e.held.enter()
		e.held.add(e.entryOf(a))
		return
	}
	h.parts = append(h.parts, a)
	h.extended++
	h.reserved = addSat(h.reserved, r.Cost)
	h.expires = max(h.expires, r.Expires)
}
