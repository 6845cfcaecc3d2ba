// Package authoritytest is the conformance suite of authority.Authority: the service itself passes it, and so does a client that
// reaches it over the network.
package authoritytest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// CustomerID is the customer of all tests.
const CustomerID = "cus_00000000000000000000000001"

// Start is when the subscription begins.
func Start() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

// World is the directory and the clocks of one test. It implements authority.Directory.
type World struct {
	T    testing.TB
	dial Dial

	mu   sync.Mutex // guards the fields below
	now  time.Time
	mono time.Duration
	cat  *catalog.Compiled
}

// Dial connects a gateway under a node's number and registers it as that node's holder.
type Dial func(number uint16, h authority.Holder) authority.Authority

// newWorld has a plan "free" of these limits, over two priced meters.
func newWorld(t testing.TB, limits ...catalog.Limit) *World {
	t.Helper()
	usd := money.MustCurrency("USD")
	priced := func(key string) price.Price {
		return price.Price{
			Key: key, Meter: key, Model: price.Graduated, Charge: price.InArrears,
			Tiers: []price.Tier{{UnitAmount: money.MustDecimal("0.5")}},
		}
	}
	c, err := catalog.Compile(1, &catalog.Catalog{
		Meters: []catalog.Meter{
			{Key: "calls", Event: "request", Aggregation: meter.Count},
			{Key: "tokens", Event: "completion", Aggregation: meter.Sum, Value: "data.tokens"},
		},
		Plans: []catalog.Plan{{Key: "free", Currency: usd, Limits: limits, Prices: []price.Price{priced("calls"), priced("tokens")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &World{T: t, now: Start().Add(36 * time.Hour), mono: time.Hour, cat: c}
}

// Now is the business clock.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// Mono is the monotonic clock.
func (w *World) Mono() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mono
}

func (w *World) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.mono = w.now.Add(d), w.mono+d
}

// Current implements authority.Directory.
func (w *World) Current() *catalog.Compiled { return w.cat }

// Version implements authority.Directory: there is one.
func (w *World) Version(_ context.Context, v int64) (*catalog.Compiled, error) {
	if v != 1 {
		return nil, fmt.Errorf("catalog version %d: %w", v, store.ErrNotFound)
	}
	return w.cat, nil
}

// Customer implements authority.Directory.
func (w *World) Customer(id string) (account.Customer, bool) {
	return account.Customer{ID: id, Key: "acme", Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD")}, true
}

// ActiveSubscription implements authority.Directory.
func (w *World) ActiveSubscription(id string, at time.Time) (account.Subscription, bool) {
	sub := account.Subscription{ID: "sub", CustomerID: id, Plan: "free", CatalogVersion: 1, Start: Start(), BillingDay: 1}
	return sub, sub.Active(at)
}

// Overrides implements authority.Directory: there are none.
func (w *World) Overrides(string) []account.Override { return nil }

// limit is a limit of the plan as it counts for a meter.
func (w *World) limit(meterKey, key string) quota.Limit {
	w.T.Helper()
	for _, l := range w.cat.Limits("free", meterKey) {
		if l.Key == key {
			l.Meter = meterKey
			return l
		}
	}
	w.T.Fatalf("no limit %s on %s", key, meterKey)
	return quota.Limit{}
}

// ask names the limit's counter at an instant.
func (w *World) ask(l quota.Limit, now int64) authority.Ask {
	a := authority.Ask{Counter: store.CounterKey{CustomerID: CustomerID, Meter: l.Meter}, Kind: l.Kind, Limits: []string{l.Key}}
	switch l.Kind {
	case quota.Fixed, quota.Rolling:
		a.Counter.Start, a.WindowEnd, _ = l.WindowAt(now)
		a.Counter.Length = a.WindowEnd - a.Counter.Start
	case quota.Quota, quota.SpendCap:
		in, _ := l.Window.Containing(time.UnixMicro(now), period.MustZone("UTC"), period.Anchor{Start: Start(), Day: 1, Zone: period.MustZone("UTC")})
		a.Counter.Window, a.Counter.Start, a.WindowEnd = l.Window, in.Start.UnixMicro(), in.End.UnixMicro()
	case quota.TokenBucket, quota.Concurrency, quota.Credits:
	}
	return a
}
