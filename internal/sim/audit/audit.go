// Package audit checks a world from outside: it keeps its own log of what was asked and answered, in plain maps, and compares it
// with what the engine stores. It imports the standard library alone, so that it shares no mistake with what it checks.
package audit

import (
	"fmt"
	"slices"
	"sort"
	"time"
)

// Fault is a broken promise.
type Fault struct {
	Promise string // P1 … P4, or convergence
	Text    string
}

func (f *Fault) Error() string { return f.Promise + ": " + f.Text }

func fault(promise, format string, args ...any) error {
	return &Fault{promise, fmt.Sprintf(format, args...)}
}

// fate is what is known of an event.
type fate uint8

const (
	running fate = iota // admitted, and not ended yet
	must                // it has to be stored, once, for its value
	may                 // a crash took its end, or its answer was lost: stored for one of its values, or not at all
	never               // released or refused: it must not be stored
)

// event is what was asked and answered of one.
type event struct {
	customer string
	at       int64 // microseconds, on its gateway's clock
	real     int64 // the same on the world's
	reserved int64
	value    int64
	tried    int64   // what its end was to be, which a crash may have left in the spool
	others   []int64 // in place of value: reported from outside under the same name, and not answered either
	fate     fate
	gateway  int   // 0: reported from outside
	durable  bool  // its end would survive a power cut
	used     int64 // of the limits: by the requests' own log, whatever a power cut makes of it
	stored   bool  // seen in the journal
}

func (e *event) fits(value int64) bool {
	return value == e.value || slices.Contains(e.others, value) || e.gateway != 0 && e.fate == may && (value == e.reserved || value == e.tried)
}

// Window is how a limit counts.
type Window uint8

// The windows.
const (
	Day Window = iota
	Month
)

// limit is one hard limit of a customer over time.
type limit struct {
	window Window
	values []dated
}

type dated struct {
	from int64
	max  int64
}

type customer struct {
	offset time.Duration // of the zone from UTC, without daylight saving
	limits map[string]*limit
	events []*event // admitted by gateways
	bucket bucket
	sliding
	steady int // events before this one were admitted before a clock was set off
}

// bucket limits what is admitted in any stretch of time: size + rate × its length. Size 0: there is none.
type bucket struct {
	rate, size int64 // a second; units
}

// sliding limits what is admitted in any stretch of a length by the gateways' clocks. Length 0: there is none.
type sliding struct {
	length time.Duration
	most   int64
}

// Log is all that the auditor knows.
type Log struct {
	events    map[string]*event // by source and id
	customers map[string]*customer
	invoices  map[string]string // what each looked like first
	died      []*died
	// Checked counts comparisons.
	Checked int64
}

// New is an empty log.
func New() *Log {
	return &Log{events: map[string]*event{}, customers: map[string]*customer{}, invoices: map[string]string{}}
}

func key(source, id string) string { return source + "\x00" + id }

// Customer makes one known, with the offset of its zone.
func (l *Log) Customer(id string, offset time.Duration) {
	l.customers[id] = &customer{offset: offset, limits: map[string]*limit{}}
}

// Limit says what a hard limit of a customer is from an instant on.
func (l *Log) Limit(customerID, name string, w Window, limited int64, from time.Time) {
	c := l.customers[customerID]
	if c.limits[name] == nil {
		c.limits[name] = &limit{window: w}
	}
	c.limits[name].values = append(c.limits[name].values, dated{from.UnixMicro(), limited})
}

// Bucket says that a customer has a token bucket, from the beginning on.
func (l *Log) Bucket(customerID string, rate, size int64) {
	l.customers[customerID].bucket = bucket{rate, size}
}

// Sliding says that a customer has a rolling limit, from the beginning on.
func (l *Log) Sliding(customerID string, length time.Duration, most int64) {
	l.customers[customerID].sliding = sliding{length, most}
}

// Skewed says that a gateway's clock was set off: its part of a bucket refills by that, so no stretch is looked at across it.
func (l *Log) Skewed() {
	for _, c := range l.customers {
		c.steady = len(c.events)
	}
}

// begin is where a window that holds an instant begins.
func (c *customer) begin(w Window, at int64) int64 {
	t := time.UnixMicro(at).UTC().Add(c.offset)
	day := t.Day()
	if w == Month {
		day = 1
	}
	return time.Date(t.Year(), t.Month(), day, 0, 0, 0, 0, time.UTC).Add(-c.offset).UnixMicro()
}

// slack is by how far a clock may be off where limits change, in microseconds.
const slack = int64(15 * time.Minute / time.Microsecond)

// max is the most that the limit was in a window up to now.
func (m *limit) most(begin int64) (most int64) {
	for i, v := range m.values {
		if i+1 < len(m.values) && m.values[i+1].from <= begin-slack {
			continue // over before the window began
		}
		if v.max > most {
			most = v.max
		}
	}
	return most
}

// Admitted is a request that a gateway let through. P2 is checked here: what is charged or reserved in the limit's window, by the
// requests' own log, never passes it.
func (l *Log) Admitted(gateway int, source, id, customerID string, at, now time.Time, cost int64) error {
	k := key(source, id)
	if l.events[k] != nil {
		return fault("P3", "%s %s was given to two requests", source, id)
	}
	e := &event{customer: customerID, at: at.UnixMicro(), real: now.UnixMicro(), reserved: cost, value: cost, tried: cost, used: cost, gateway: gateway}
	l.events[k] = e
	c := l.customers[customerID]
	c.events = append(c.events, e)
	return l.within(c, e, customerID, id)
}

// within checks the limits of the windows that an event lies in.
func (l *Log) within(c *customer, e *event, customerID, id string) error {
	names := make([]string, 0, len(c.limits))
	for name := range c.limits {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		m := c.limits[name]
		begin, sum := c.begin(m.window, e.at), int64(0)
		for _, o := range c.events {
			if c.begin(m.window, o.at) == begin {
				sum += o.used
			}
		}
		l.Checked++
		if most := m.most(begin); sum > most {
			return fault("P2", "customer %s: %d admitted of %d of limit %s in the window from %s, with %s", customerID, sum, most, name, time.UnixMicro(begin).UTC().Format(time.RFC3339), id)
		}
	}
	if err := l.paced(c, e, customerID, id); err != nil {
		return err
	}
	return l.slides(c, e, customerID, id)
}

// paced checks the bucket: every stretch that holds the event.
func (l *Log) paced(c *customer, e *event, customerID, id string) error {
	if c.bucket.size == 0 {
		return nil
	}
	second := time.Second.Microseconds()
	for last := slices.Index(c.events, e); last < len(c.events); last++ {
		sum := int64(0)
		for i := last; i >= c.steady; i-- {
			sum += c.events[i].used
			passed := c.events[last].real - c.events[i].real
			if l.Checked++; (sum-c.bucket.size)*second > c.bucket.rate*passed {
				return fault("P2", "customer %s: %d admitted in %d µs of a bucket of %d and %d a second, with %s", customerID, sum, passed, c.bucket.size, c.bucket.rate, id)
			}
		}
	}
	return nil
}

// slides checks the rolling limit: every stretch of its length that holds the event and ends with one.
func (l *Log) slides(c *customer, e *event, customerID, id string) error {
	length := c.length.Microseconds()
	for _, end := range c.events {
		if end.at < e.at || end.at >= e.at+length {
			continue
		}
		sum := int64(0)
		for _, o := range c.events {
			if o.at > end.at-length && o.at <= end.at {
				sum += o.used
			}
		}
		l.Checked++
		if sum > c.most {
			return fault("P2", "customer %s: %d admitted of %d in the %s until %d, with %s", customerID, sum, c.most, c.length, end.at, id)
		}
	}
	return nil
}

// died is a request in whose admission its gateway died. Nobody knows its id; it may be stored as it was reserved.
type died struct {
	source, customer string
	at, cost         int64
	real             int64
}

// Died says that a gateway died while it admitted a request.
func (l *Log) Died(source, customerID string, at, now time.Time, cost int64) {
	l.died = append(l.died, &died{source, customerID, at.UnixMicro(), cost, now.UnixMicro()})
}

// claim finds an event that was never answered among those, and makes it known. It has drawn on the limits as any other.
func (l *Log) claim(s *Stored) (*event, error) {
	for i, d := range l.died {
		if (died{s.Source, s.Customer, s.At, s.Value, d.real}) == *d {
			l.died = append(l.died[:i], l.died[i+1:]...)
			e := &event{customer: d.customer, at: d.at, real: d.real, reserved: d.cost, value: d.cost, tried: d.cost, used: d.cost, fate: may}
			l.events[key(s.Source, s.ID)] = e
			c := l.customers[d.customer]
			c.insert(e)
			return e, l.within(c, e, d.customer, s.ID)
		}
	}
	return nil, nil
}

// insert puts an event where it was admitted.
func (c *customer) insert(e *event) {
	i := len(c.events)
	for i > 0 && c.events[i-1].real > e.real {
		i--
	}
	c.events = slices.Insert(c.events, i, e)
	if i < c.steady {
		c.steady++
	}
}

// Ending says that a request is about to end, for a cost; 0 also when it is given back. When its gateway dies in it, nobody knows
// whether that counts or what was reserved.
func (l *Log) Ending(source, id string, cost int64) { l.events[key(source, id)].tried = cost }

// Settled is a request that ended and is charged.
func (l *Log) Settled(source, id string, cost int64) {
	e := l.events[key(source, id)]
	e.value, e.used, e.fate = cost, cost, must
}

// Released is one that is charged nothing.
func (l *Log) Released(source, id string) {
	e := l.events[key(source, id)]
	e.used, e.fate = 0, never
}

// Synced says that all that a gateway answered would survive a power cut.
func (l *Log) Synced(gateway int) {
	for _, e := range l.events {
		if e.gateway == gateway && e.fate != running {
			e.durable = true
		}
	}
}

// Crashed says that a gateway died: what ran may be charged as it was reserved. After a power cut so may what was not durable,
// or it is lost, and what was released may be charged.
func (l *Log) Crashed(gateway int, power bool) {
	for _, e := range l.events {
		if e.gateway != gateway {
			continue
		}
		if e.fate == running {
			e.used = min(e.used, e.tried)
		}
		switch {
		case e.fate == running, power && !e.durable && !e.stored && (e.fate == must || e.fate == never):
			e.fate = may
		}
	}
}

// Reported is an event from outside. answered says whether its receipt came; conflict that it was refused for another of its name.
func (l *Log) Reported(source, id, customerID string, at time.Time, value int64, answer string) error {
	k := key(source, id)
	e := l.events[k]
	l.Checked++
	switch answer {
	case "accepted": // where an earlier one was not taken, the name was free for another content
		if e != nil && e.fate == must {
			return fault("P3", "%s %s was accepted a second time", source, id)
		}
	case "duplicate":
		if e == nil {
			return fault("P3", "%s %s is a duplicate of nothing", source, id)
		}
		if !e.fits(value) {
			return fault("P3", "%s %s is a duplicate with value %d of one with %d", source, id, value, e.value)
		}
	case "conflict":
		if e != nil {
			e.others = slices.DeleteFunc(append(e.others, e.value), func(v int64) bool { return v == value })
		}
		if e == nil || len(e.others) == 0 {
			return fault("P3", "%s %s with value %d is a conflict with itself", source, id, value)
		}
		e.value, e.others, e.fate = e.others[0], e.others[1:], must
		return nil
	default: // nobody knows
		if e == nil {
			l.events[k] = &event{customer: customerID, at: at.UnixMicro(), value: value, fate: may}
		} else if e.fate == may && !e.fits(value) {
			e.others = append(e.others, value)
		}
		return nil
	}
	if e == nil {
		e = &event{customer: customerID, at: at.UnixMicro()}
		l.events[k] = e
	}
	e.value, e.others, e.fate = value, nil, must
	return nil
}

// Stored is what the journal holds of one event.
type Stored struct {
	Source, ID, Customer string
	At                   int64 // microseconds
	Value                int64
}

// Journal compares all that is stored with the log. With final, all that has to be there must be; else only what was
// acknowledged from outside, since gateways may not have shipped yet. It is P3.
func (l *Log) Journal(all []Stored, final bool) error {
	seen := make(map[string]bool, len(all))
	for _, s := range all {
		k := key(s.Source, s.ID)
		e := l.events[k]
		if e == nil {
			var err error
			if e, err = l.claim(&s); err != nil {
				return err
			}
		}
		l.Checked++
		switch {
		case seen[k]:
			return fault("P3", "%s %s is stored twice", s.Source, s.ID)
		case e == nil:
			return fault("P3", "%s %s is stored and was never admitted or reported", s.Source, s.ID)
		case e.fate == never:
			return fault("P3", "%s %s is stored although it was released", s.Source, s.ID)
		case e.fate == running:
			return fault("P3", "%s %s is stored before it ended", s.Source, s.ID)
		case !e.fits(s.Value):
			return fault("P3", "%s %s is stored for %d, it was %d", s.Source, s.ID, s.Value, e.value)
		case e.customer != s.Customer:
			return fault("P3", "%s %s is stored for customer %s, it was of %s", s.Source, s.ID, s.Customer, e.customer)
		case e.at != s.At:
			return fault("P3", "%s %s is stored at %d, it was at %d", s.Source, s.ID, s.At, e.at)
		}
		seen[k], e.stored, e.fate, e.value, e.others = true, true, must, s.Value, nil
	}
	for k, e := range l.events {
		if seen[k] {
			continue
		}
		switch {
		case e.stored:
			return fault("P3", "%q was stored and is gone", k)
		case e.fate == must && (final || e.gateway == 0):
			return fault("P3", "%q was acknowledged and is not stored", k)
		case final && e.fate == running:
			return fault("convergence", "%q still runs", k)
		}
	}
	return nil
}

// Row is one customer's usage of a billing period as the engine's books have it, in units.
type Row struct {
	Customer            string
	From, To            int64 // microseconds; 0: all time
	Metered, Difference string
}

// Balance compares the books with the journal: P1.
func (l *Log) Balance(rows []Row, all []Stored) error {
	for _, r := range rows {
		l.Checked++
		if r.Difference != "0" {
			return fault("P1", "the books of customer %s from %d differ by %s", r.Customer, r.From, r.Difference)
		}
		if r.To == 0 {
			continue
		}
		sum := int64(0)
		for _, s := range all {
			if s.Customer == r.Customer && s.At >= r.From && s.At < r.To {
				sum += s.Value
			}
		}
		if fmt.Sprint(sum) != r.Metered {
			return fault("P1", "customer %s from %d: metered %s, the journal holds %d", r.Customer, r.From, r.Metered, sum)
		}
	}
	return nil
}
