package usage_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ usage.Directory = (*govern.Service)(nil)

	now = time.Date(2026, 3, 30, 12, 0, 0, 0, time.UTC)
)

// directory is a small picture of accounts.
type directory struct {
	catalog       *catalog.Compiled
	old           *catalog.Compiled // what Version answers
	customers     []account.Customer
	subscriptions []account.Subscription
}

func (d *directory) Current() *catalog.Compiled { return d.catalog }

func (d *directory) Version(context.Context, int64) (*catalog.Compiled, error) { return d.old, nil }

func (d *directory) Customer(ref string) (account.Customer, bool) {
	for _, c := range d.customers {
		if c.ID == ref || c.Key == ref {
			return c, true
		}
	}
	return account.Customer{}, false
}

func (d *directory) SubscriptionsOf(id string) (out []account.Subscription) {
	for _, s := range d.subscriptions {
		if s.CustomerID == id {
			out = append(out, s)
		}
	}
	return out
}

func (d *directory) ActiveSubscription(id string, at time.Time) (account.Subscription, bool) {
	for _, s := range d.subscriptions {
		if s.CustomerID == id && s.Active(at) {
			return s, true
		}
	}
	return account.Subscription{}, false
}

// world is usage over a real journal.
type world struct {
	*usage.Service
	people  *directory
	journal *file.Journal
	now     time.Time
	flush   error
	events  int
}

var dimensions = []string{"route", "status"}

func newWorld(t testing.TB) *world {
	t.Helper()
	meters := []catalog.Meter{}
	for a, key := range []string{meter.Count: "api_calls", meter.Sum: "tokens", meter.Min: "least", meter.Max: "most", meter.Latest: "seats", meter.Unique: "users", meter.TimeWeighted: "storage"} {
		if key != "" {
			meters = append(meters, catalog.Meter{Key: key, Event: key, Aggregation: meter.Aggregation(a), Value: "data.n", Scale: 2, Dimensions: dimensions})
		}
	}
	c, err := catalog.Compile(3, &catalog.Catalog{Meters: meters})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{now: now, people: &directory{
		catalog: c, old: c,
		customers: []account.Customer{
			{ID: "cus_acme", Key: "acme", Zone: period.MustZone("Europe/Paris")}, {ID: "cus_bolt", Key: "bolt"},
		},
		subscriptions: []account.Subscription{
			{ID: "sub_1", CustomerID: "cus_acme", Plan: "pro", Start: at("2026-02-14 10:37:12"), BillingDay: 14},
		},
	}}
	if w.journal, err = file.Open(file.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Service, err = usage.New(usage.Config{
		Directory: w.people, Journal: w.journal, Now: func() time.Time { return w.now }, Flush: func(context.Context) error { return w.flush },
		Lag: func() int64 { return 17 },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// use is one event that counts for one series.
type use struct {
	customer, meter string
	at              time.Time
	value           money.Decimal
	text            string // of a unique meter
	route, status   string
}

func (w *world) put(t interface{ Fatal(...any) }, uses ...use) {
	batch := store.Batch{Producer: "test", ReceivedAt: w.now}
	for _, u := range uses {
		w.events++
		res := meter.Resolution{CustomerID: u.customer, Meter: u.meter, CatalogVersion: 3, Value: u.value, Distinct: u.text}
		if u.route != "" {
			res.Dimensions = append(res.Dimensions, meter.Dimension{Name: "route", Value: u.route})
		}
		if u.status != "" {
			res.Dimensions = append(res.Dimensions, meter.Dimension{Name: "status", Value: u.status})
		}
		batch.Entries = append(batch.Entries, store.Entry{
			Event:  meter.Event{Source: "app", ID: fmt.Sprint(w.events), Type: u.meter, Subject: u.customer, Time: u.at},
			Origin: meter.Reported, Resolutions: []meter.Resolution{res},
		})
	}
	if len(uses) == 0 {
		return
	}
	if _, err := w.journal.Append(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
}

func call(customer, when string) use {
	return use{customer: customer, meter: "api_calls", at: at(when), value: money.FromInt(1)}
}

func at(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		panic(err)
	}
	return t
}

// lines is an answer as text, in UTC.
func lines(a usage.Answer) string {
	var b strings.Builder
	for _, it := range a.Items {
		b.WriteString(it.Customer.Key)
		for _, d := range it.Dimensions {
			fmt.Fprintf(&b, " %s=%s", d.Name, d.Value)
		}
		fmt.Fprintf(&b, " %s of %d\n", it.Value, it.Events)
		for _, w := range it.Windows {
			fmt.Fprintf(&b, "%s %s %s\n", period.Format(w.Start), period.Format(w.End), w.Value)
		}
	}
	return b.String()
}
