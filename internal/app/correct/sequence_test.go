package correct_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/inbox"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/recount"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// closedPeriod is one that was billed, and what its lines said.
type closedPeriod struct {
	customer string
	in       period.Interval
	lines    map[string]int // by meter
}

// machine drives every way to change usage over the real stores, beside a model of its own.
type machine struct {
	*rapid.T
	rules
	dir    string
	now    time.Time
	events []*known
	closed []closedPeriod
	unit   string // the open backfill
	units  []string
	totals map[int64]int
	serial uint64

	records *sqlite.Records
	journal *file.Journal
	govern  *govern.Service
	ingest  *ingest.Service
	correct *correct.Service
	inbox   *inbox.Service
	recount *recount.Service
	bill    *bill.Service
	random  *rand.ChaCha8
}

func (m *machine) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// open begins the process.
func (m *machine) open() {
	m.Helper()
	var err error
	m.records, err = sqlite.Scratch(m.Context(), filepath.Join(m.dir, "records.db"))
	m.check(err)
	m.journal, err = file.Open(file.Config{Dir: filepath.Join(m.dir, "journal")})
	m.check(err)
	clock := func() time.Time { return m.now }
	m.govern, err = govern.New(m.Context(), govern.Config{
		Records: m.records, Journal: m.journal, Now: clock, Random: m.random, Pepper: make([]byte, 32), Mode: account.Test,
	})
	m.check(err)
	m.ingest, err = ingest.New(ingest.Config{Directory: m.govern, Journal: m.journal, Now: clock})
	m.check(err)
	m.bill, err = bill.New(bill.Config{Directory: m.govern, Journal: m.journal, Invoices: m.records, Now: clock})
	m.check(err)
	m.correct, err = correct.New(correct.Config{
		Directory: m.govern, Resolver: m.ingest, Journal: m.journal, Backfills: m.records, Closes: m.records, Audit: m.govern.Audit, Now: clock, Random: m.random,
	})
	m.check(err)
	m.inbox, err = inbox.New(inbox.Config{Directory: m.govern, Resolver: m.ingest, Journal: m.journal, Now: clock, Audit: m.govern.Audit})
	m.check(err)
	m.recount, err = recount.New(recount.Config{
		Directory: m.govern, Journal: m.journal, Records: m.records, Reread: m.ingest.Reread, Resolve: m.ingest.Resolve, Now: clock, Random: m.random,
	})
	m.check(err)
}

func (m *machine) close() { m.check(errors.Join(m.journal.Close(), m.records.Close())) }

func (m *machine) apply() {
	m.Helper()
	_, _, err := m.govern.ApplyCatalog(m.Context(), "op", "plans.yaml", []byte(m.catalog()))
	m.check(err)
}

// ticks runs a job to its end.
func (m *machine) ticks(tick func(context.Context) (bool, error)) {
	m.Helper()
	for more := true; more; {
		var err error
		more, err = tick(m.Context())
		m.check(err)
	}
}

func (m *machine) drawContent() content {
	return content{
		kind:    rapid.SampledFrom([]string{"request", "completion", "completion", "compl", "other"}).Draw(m.T, "type"),
		subject: rapid.SampledFrom([]string{"acme", "acme", "bolt", "ACME Inc", "nobody"}).Draw(m.T, "subject"),
		tokens:  rapid.IntRange(0, 9).Draw(m.T, "tokens"), size: rapid.IntRange(0, 9).Draw(m.T, "size"),
		user: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(m.T, "user"), ok: rapid.Bool().Draw(m.T, "ok"),
	}
}

// drawTime is near the bounds of periods rather often.
func (m *machine) drawTime() time.Time {
	if len(m.closed) > 0 && rapid.IntRange(0, 3).Draw(m.T, "at a bound") == 0 {
		c := rapid.SampledFrom(m.closed).Draw(m.T, "close")
		return c.in.End.Add(time.Duration(rapid.IntRange(-1, 0).Draw(m.T, "microseconds")) * time.Microsecond)
	}
	return m.now.Add(-time.Duration(rapid.IntRange(0, 50*24*3600).Draw(m.T, "seconds ago")) * time.Second)
}

func (m *machine) some() *known {
	if len(m.events) == 0 {
		return nil
	}
	return rapid.SampledFrom(m.events).Draw(m.T, "event")
}

func (m *machine) report(unit string) {
	e := &known{
		source: rapid.SampledFrom([]string{"/jobs", "/cron"}).Draw(m.T, "source"), id: strconv.Itoa(rapid.IntRange(0, 60).Draw(m.T, "id")),
		first: m.drawContent(), at: m.drawTime(), unit: unit,
	}
	e.now = e.first
	want := "accepted"
	if i := slices.IndexFunc(m.events, func(o *known) bool { return o.source == e.source && o.id == e.id }); i >= 0 {
		want = "conflict"
		if m.events[i].first == e.first {
			want = "duplicate"
		}
	} else {
		var matched bool
		e.held = unit != ""
		if !e.held {
			if e.readings, matched = m.resolve(e, e.now); !matched {
				want = "unmatched"
			}
			e.filtered = matched && len(e.readings) == 0
		}
		m.events = append(m.events, e)
	}
	got, err := m.ingest.Take(m.Context(), ingest.Call{
		Producer: "api/test", Unit: unit,
		Events: []meter.Event{{Source: e.source, ID: e.id, Type: e.first.kind, Subject: e.first.subject, Time: e.at, Data: []byte(e.first.data())}},
	})
	m.check(err)
	m.Logf("report %s%s at %v, %+v, unit %q: %s", e.source, e.id, e.at, e.first, unit, want)
	if got[0].Status != want {
		m.Fatalf("event %s: %+v, want %s", e.id, got[0], want)
	}
}

// admit appends a request of acme's as a gateway does.
func (m *machine) admit() {
	c, _ := m.govern.Customer("acme")
	sub := m.govern.SubscriptionsOf(c.ID)[0]
	at := m.drawTime()
	in, ok := sub.Anchor(c.Zone).Period(at)
	if !ok || !sub.Active(at) {
		return
	}
	m.serial++
	m.totals[in.Start.UnixMicro()]++
	e := &known{
		source: "gateway/1", id: "g" + strconv.FormatUint(m.serial, 10), at: at, gateway: true,
		first: content{kind: "request", subject: "acme", user: "a", ok: true}, readings: []reading{{"acme", "api_calls", 1}},
	}
	e.now = e.first
	m.events = append(m.events, e)
	_, err := m.journal.Append(m.Context(), store.Batch{
		Producer: "gateway/1", Node: 1, Epoch: 1, First: m.serial, Last: m.serial, ReceivedAt: m.now,
		Totals: []store.AdmittedTotal{{CustomerID: c.ID, Meter: "api_calls", PeriodStart: in.Start.UnixMicro(), Total: money.FromInt(int64(m.totals[in.Start.UnixMicro()]))}},
		Entries: []store.Entry{{
			Event:  meter.Event{Source: e.source, ID: e.id, Type: "request", Subject: "acme", Time: at, Data: []byte(e.first.data())},
			Origin: meter.Admitted, Resolutions: []meter.Resolution{{CustomerID: c.ID, Meter: "api_calls", Value: money.FromInt(1)}},
		}},
	})
	m.check(err)
}

func (m *machine) void() {
	e := m.some()
	if e == nil {
		return
	}
	_, err := m.correct.Void(m.Context(), correct.Change{Source: e.source, ID: e.id, Actor: "op", Reason: "typo"})
	m.check(err)
	m.Logf("void %s%s", e.source, e.id)
	e.voided, e.held, e.filtered, e.readings = true, false, false, nil
}

func (m *machine) amend() {
	e := m.some()
	if e == nil {
		return
	}
	to := m.drawContent()
	readings, _ := m.resolve(e, to)
	refused := e.held || e.unit != "" && e.voided || len(readings) == 0
	_, err := m.correct.Amend(m.Context(), correct.Change{Source: e.source, ID: e.id, Actor: "op", Reason: "typo"},
		correct.Content{Type: &to.kind, Subject: &to.subject, Data: []byte(to.data())})
	m.Logf("amend %s%s to %+v: %v", e.source, e.id, to, err)
	if refused != (err != nil) {
		m.Fatalf("amend %+v to %+v: %v", e, to, err)
	}
	if !refused {
		e.now, e.readings, e.voided, e.filtered = to, readings, false, false
	}
}

func (m *machine) backfill() {
	if m.unit == "" {
		name := fmt.Sprintf("unit-%d", len(m.units))
		b, err := m.correct.OpenBackfill(m.Context(), "op", name, "an outage")
		m.check(err)
		m.unit, m.units = b.ID, append(m.units, b.ID)
		return
	}
	unit := m.unit
	m.unit = ""
	m.Logf("close %s", unit)
	_, err := m.correct.CloseBackfill(m.Context(), "op", unit)
	m.check(err)
	m.ticks(m.correct.Tick)
	for _, e := range m.events {
		if e.unit == unit && !e.voided {
			e.readings, _ = m.resolve(e, e.now)
			e.held = false
		}
	}
}

func (m *machine) revert() {
	if len(m.units) == 0 {
		return
	}
	unit := rapid.SampledFrom(m.units).Draw(m.T, "unit")
	if unit == m.unit {
		m.unit = ""
	}
	m.Logf("revert %s", unit)
	_, err := m.correct.RevertBackfill(m.Context(), "op", unit, "it was wrong")
	m.check(err)
	m.ticks(m.correct.Tick)
	for _, e := range m.events {
		if e.unit == unit {
			e.voided, e.held, e.readings = true, false, nil
		}
	}
}

// alias makes or ends one.
func (m *machine) alias() {
	on, kind, from, to := &m.aliasType, "type", "compl", "completion"
	if rapid.Bool().Draw(m.T, "of a customer") {
		on, kind, from, to = &m.aliasOwner, "customer", "ACME Inc", "acme"
	}
	var err error
	if *on {
		_, err = m.govern.DeleteAlias(m.Context(), "op", kind, from)
	} else {
		_, err = m.govern.CreateAlias(m.Context(), "op", govern.NewAlias{Kind: kind, From: from, To: to})
	}
	m.check(err)
	*on = !*on
	m.Logf("alias %s: %t", from, *on)
}

func (m *machine) replay() {
	m.Logf("replay")
	for q := (inbox.Replay{Actor: "op"}); ; {
		out, err := m.inbox.Replay(m.Context(), q)
		m.check(err)
		if q.Cursor = out.Next; q.Cursor == "" {
			break
		}
	}
	for _, e := range m.events {
		if e.unmatched() {
			e.readings, _ = m.resolve(e, e.now)
		}
	}
}

func (m *machine) recounts() {
	key := rapid.SampledFrom([]string{"api_calls", "tokens", "peak", "users", "extra"}).Draw(m.T, "meter")
	if key == "extra" && !m.extra {
		return
	}
	o := recount.Order{Meter: key, IncludeClosed: rapid.Bool().Draw(m.T, "closed too")}
	job, err := m.recount.Begin(m.Context(), "op", o)
	m.check(err)
	m.ticks(m.recount.Tick)
	if job, err = m.recount.Job(m.Context(), job.ID); err != nil || job.State != store.RecountDone {
		m.Fatalf("recount: %+v, %v", job, err)
	}
	m.Logf("recount %s, closed too: %t", key, o.IncludeClosed)
	m.recounted(key, o.IncludeClosed)
}

func (m *machine) change() {
	m.extra = !m.extra
	m.apply()
}

// pass lets time pass, and holds each new invoice's quantities against the model.
func (m *machine) pass() {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 20*24*60).Draw(m.T, "minutes")) * time.Minute)
	m.ticks(m.bill.Tick)
	for _, customer := range []string{"acme", "bolt"} {
		c, _ := m.govern.Customer(customer)
		closes, err := m.records.Closes(m.Context(), m.govern.SubscriptionsOf(c.ID)[0].ID)
		m.check(err)
		for _, cl := range closes {
			if !cl.Period.Empty() && !slices.ContainsFunc(m.closed, func(p closedPeriod) bool { return p.customer == customer && p.in == cl.Period }) {
				m.billed(customer, cl)
			}
		}
	}
}

// billed holds a close's invoice against the model. Without one there was no usage.
func (m *machine) billed(customer string, c store.Close) {
	var inv invoice.Invoice
	if c.InvoiceID != "" {
		var err error
		inv, err = m.bill.Invoice(m.Context(), c.InvoiceID)
		m.check(err)
	}
	p := closedPeriod{customer, c.Period, map[string]int{}}
	for _, key := range []string{"api_calls", "tokens", "peak", "users"} {
		p.lines[key] = m.measure(customer, key, c.Period)
		quantity := money.Decimal{}
		for _, l := range inv.Lines {
			if l.Meter == key {
				quantity = l.Quantity
			}
		}
		if quantity.String() != strconv.Itoa(p.lines[key]) {
			m.Fatalf("%s of %s in %v: billed %s, want %d", key, customer, c.Period, quantity, p.lines[key])
		}
	}
	m.Logf("closed %+v", p)
	m.closed = append(m.closed, p)
}

// balanced holds the books and the late arrivals against the model.
func (m *machine) balanced() {
	b, err := m.bill.Books(m.Context(), "")
	m.check(err)
	if !b.Difference.IsZero() {
		m.Fatalf("the books differ by %s: %+v", b.Difference, b)
	}
	late := map[string]string{}
	for _, c := range m.closed {
		for key, billed := range c.lines {
			change := m.measure(c.customer, key, c.in) - billed
			if name := c.customer + key + c.in.Start.String(); change != 0 {
				late[name] = strconv.Itoa(change)
			}
		}
	}
	found := map[string]string{}
	for _, r := range b.Rows {
		if want := m.measure(r.Customer, r.Meter, r.Period); !r.Period.Start.IsZero() && r.Metered.String() != strconv.Itoa(want) {
			m.Fatalf("row %+v, want %d metered", r, want)
		}
		if !r.Late.IsZero() && r.Meter != "extra" {
			found[r.Customer+r.Meter+r.Period.Start.String()] = r.Late.String()
		}
	}
	for _, r := range b.Apart {
		if !r.Late.IsZero() {
			found[r.Customer+r.Meter+r.Period.Start.String()] = r.Late.String()
		}
	}
	if fmt.Sprint(found) != fmt.Sprint(late) {
		m.Fatalf("late %v, want %v", found, late)
	}
}

// waiting holds the inbox against the model.
func (m *machine) waiting() {
	var want, got []string
	for _, e := range m.events {
		if e.unmatched() {
			want = append(want, e.source+e.id)
		}
	}
	p, err := m.ingest.Events(m.Context(), ingest.Scan{Unmatched: true, Limit: 1000})
	m.check(err)
	for _, r := range p.Records {
		got = append(got, r.Event.Source+r.Event.ID)
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(want, got) {
		m.Fatalf("unmatched %v, want %v", got, want)
	}
}

// TestEverySequence: whatever is reported, admitted, voided, amended, loaded, taken back, replayed, recounted and billed, in
// whatever order and with restarts in between, the books balance and invoices say what an independent model counts.
func TestEverySequence(t *testing.T) {
	t.Parallel()
	top, runs := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		dir := filepath.Join(top, strconv.Itoa(runs))
		if err := os.Mkdir(dir, 0o700); err != nil {
			rt.Fatal(err)
		}
		m := &machine{T: rt, dir: dir, now: start, random: rand.NewChaCha8([32]byte{7}), totals: map[int64]int{}}
		m.open()
		defer func() { m.close() }()
		for _, rule := range []*bool{&m.okOnly, &m.sizes, &m.extra} {
			*rule = rapid.Bool().Draw(m.T, "rule")
		}
		m.apply()
		for _, n := range []govern.NewCustomer{{Key: "acme"}, {Key: "bolt", Zone: "Europe/Paris"}} {
			_, err := m.govern.CreateCustomer(m.Context(), "op", n)
			m.check(err)
		}
		for _, n := range []govern.NewSubscription{
			{Customer: "acme", Plan: "pro", BillingDay: 10}, {Customer: "bolt", Plan: "pro", BillingDay: 29, Start: start.Add(7 * time.Minute)},
		} {
			_, err := m.govern.CreateSubscription(m.Context(), "op", n)
			m.check(err)
		}
		load := func() {
			if m.unit != "" {
				m.report(m.unit)
			}
		}
		report := func() { m.report("") }
		steps := []func(){
			report, report, report, report, load, load, load, m.admit, m.void, m.amend, m.amend, m.backfill, m.backfill, m.revert, m.alias, m.replay,
			m.recounts, m.recounts, m.change, m.pass, m.pass, func() { m.close(); m.open() },
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			rapid.SampledFrom(steps).Draw(rt, "step")()
			m.balanced()
			m.waiting()
		}
	})
}
