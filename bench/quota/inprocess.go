package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/bench/load"
	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// engine is an enforcer over real stores. Its directory makes up a customer for every secret that is a number.
type engine struct {
	cat     *catalog.Compiled
	now     atomic.Int64        // microseconds
	warm    []account.Principal // those that are timed, made before
	e       *enforce.Enforcer
	records *sqlite.Records
	journal *file.Journal
	spool   *spool.Spool
}

func (g *engine) clock() time.Time { return time.UnixMicro(g.now.Load()).UTC() }

// Principal finds the customer of a secret.
func (g *engine) Principal(secret string, now time.Time) (account.Principal, account.KeyFault) {
	p, ok := g.PrincipalOf(secret, now)
	if !ok {
		return p, account.FaultUnknown
	}
	return p, ""
}

// PrincipalOf is the customer of a number.
func (g *engine) PrincipalOf(ref string, now time.Time) (account.Principal, bool) {
	n, err := strconv.Atoi(ref)
	if err != nil {
		return account.Principal{}, false
	}
	if n < len(g.warm) {
		return g.warm[n], true
	}
	id := fmt.Sprintf("cus_%026d", n)
	c, _ := g.Customer(id)
	sub, _ := g.ActiveSubscription(id, now)
	return account.Principal{Key: account.APIKey{ID: fmt.Sprintf("key_%026d", n), CustomerID: id}, Customer: c, Subscription: sub, HasSubscription: true}, true
}

// Customer is made up.
func (g *engine) Customer(id string) (account.Customer, bool) {
	return account.Customer{ID: id, Key: id, Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD")}, true
}

// ActiveSubscription began yesterday.
func (g *engine) ActiveSubscription(id string, now time.Time) (account.Subscription, bool) {
	return account.Subscription{ID: "sub" + id[3:], CustomerID: id, Plan: "bench", CatalogVersion: 1, Start: now.Add(-24 * time.Hour).Truncate(24 * time.Hour), BillingDay: 1}, true
}

// Overrides has none.
func (g *engine) Overrides(string) []account.Override { return nil }

// Current is the one catalog.
func (g *engine) Current() *catalog.Compiled { return g.cat }

// Version is the one catalog.
func (g *engine) Version(context.Context, int64) (*catalog.Compiled, error) { return g.cat, nil }

func openEngine(ctx context.Context, dir string) (g *engine, err error) {
	c, faults := declare.Decode("bench.yaml", []byte(catalogYAML))
	if len(faults) > 0 {
		return nil, fmt.Errorf("catalog: %v", faults)
	}
	g = &engine{}
	g.now.Store(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC).UnixMicro())
	if g.cat, err = catalog.Compile(1, c); err != nil {
		return nil, err
	}
	if g.records, err = sqlite.Open(ctx, filepath.Join(dir, "records.db")); err != nil {
		return nil, err
	}
	if g.journal, err = file.Open(file.Config{Dir: filepath.Join(dir, "journal")}); err != nil {
		return nil, err
	}
	if g.spool, err = spool.Open(spool.Config{Dir: filepath.Join(dir, "spool")}); err != nil {
		return nil, err
	}
	ring, err := receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32)))
	if err != nil {
		return nil, err
	}
	born := time.Now()
	quotas, err := authority.New(authority.Config{
		Directory: g, Leases: g.records, Journal: g.journal, Now: g.clock, Mono: func() time.Duration { return time.Since(born) }, Local: 1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	g.e, err = enforce.Open(ctx, enforce.Config{
		Directory: g, Spool: g.spool, Authority: quotas, Past: enforce.JournalPast{Journal: g.journal}, Deliver: enforce.Straight(g.journal), Keyring: ring, Node: 1, Boot: "bench",
		Now: g.clock, Real: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	return g, err
}

func (g *engine) close() error {
	return errors.Join(g.spool.Close(), g.journal.Close(), g.records.Close())
}

// call admits and settles one request of a customer.
func (g *engine) call(ctx context.Context, trusted string) error {
	a := g.e.Admit(ctx, enforce.Request{Trusted: trusted, Route: &g.cat.Routes[0], Method: "GET"})
	if !a.Allowed() {
		return fmt.Errorf("%s: %s", a.Code, a.Detail)
	}
	return a.Settle(enforce.Actual{Status: 200})
}

// ship takes what is settled into the journal, outside of what is timed.
func (g *engine) ship(ctx context.Context) error {
	g.now.Add(100_000)
	for {
		more, err := g.e.Tick(ctx)
		if err != nil || !more {
			return err
		}
	}
}

const (
	callsRound  = 5000 // timed calls of one goroutine before what they left is shipped
	roundsTimed = 20
)

// timed is the time of a call and what it allocates, on some goroutines of a customer each.
func (g *engine) timed(ctx context.Context, goroutines int) (each, cpu time.Duration, allocs, bytes float64, err error) {
	var took time.Duration
	var before, after runtime.MemStats
	var mallocs, total uint64
	errs := make([]error, goroutines)
	for round := range roundsTimed + 2 { // the first two warm up
		var wg sync.WaitGroup
		runtime.ReadMemStats(&before)
		start, used := time.Now(), selfCPU()
		for i := range goroutines {
			wg.Go(func() {
				name := strconv.Itoa(i)
				for range callsRound {
					if err := g.call(ctx, name); err != nil {
						errs[i] = err
						return
					}
				}
			})
		}
		wg.Wait()
		d, spent := time.Since(start), selfCPU()-used
		runtime.ReadMemStats(&after)
		if round >= 2 {
			took += d
			cpu += spent
			mallocs += after.Mallocs - before.Mallocs
			total += after.TotalAlloc - before.TotalAlloc
		}
		if err := errors.Join(append(errs, g.ship(ctx))...); err != nil {
			return 0, 0, 0, 0, err
		}
	}
	n := uint64(goroutines * callsRound * roundsTimed)
	return took / time.Duration(callsRound*roundsTimed), cpu / time.Duration(n), float64(mallocs) / float64(n), float64(total) / float64(n), nil
}

// inProcess prints what a decision costs without any door.
func inProcess(o options) (err error) {
	dir, err := os.MkdirTemp("", "tally-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	ctx := context.Background()
	g, err := openEngine(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	for i := range 2 {
		p, _ := g.PrincipalOf(strconv.Itoa(i), g.clock())
		g.warm = append(g.warm, p)
	}
	fmt.Printf("\nin process: decide on five limits, reserve, settle; warm (aim <= 400 ns, 0 allocations)\n  %-12s %9s %12s %12s %12s %10s\n", "goroutines", "ns/call", "CPU ns/call", "calls/s", "allocs/call", "bytes/call")
	for _, n := range []int{1, 2} {
		each, cpu, allocs, bytes, err := g.timed(ctx, n)
		if err != nil {
			return err
		}
		fmt.Printf("  %-12d %9d %12d %12.0f %12.2f %10.0f\n", n, each.Nanoseconds(), cpu.Nanoseconds(), float64(n)*float64(time.Second)/float64(each), allocs, bytes)
	}
	fmt.Printf("  load %s\n", load.Machine())
	return g.weigh(ctx, o.live)
}

// weigh prints the memory that a live key takes: each is the key of a customer of its own, the dearest case.
func (g *engine) weigh(ctx context.Context, keys int) error {
	const first = 1000 // beyond the customers that were timed
	before := heap()
	start := time.Now()
	for i := range keys {
		if err := g.call(ctx, strconv.Itoa(first+i)); err != nil {
			return err
		}
		if i%callsRound == callsRound-1 {
			if err := g.ship(ctx); err != nil {
				return err
			}
		}
	}
	if err := g.e.Flush(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	after := heap()
	fmt.Printf("\nlive keys: %d of as many customers: %d bytes of heap a key, the journal's index included; first calls took %.1f s; resident %s\n",
		keys, (int64(after)-int64(before))/int64(keys), took.Seconds(), resident())
	return nil
}

// selfCPU is what this process has used so far; on a busy machine it says more than the time that went by.
func selfCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// resident is the process's memory as the system counts it.
func resident() string {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return "unknown"
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%d MiB", pages*int64(os.Getpagesize())>>20)
}

var _ enforce.Directory = (*engine)(nil)
