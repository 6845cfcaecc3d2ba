package node_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/node/remote"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// TestReports: what a gateway notices arrives once, also when answers are lost; what nobody could take is counted.
func TestReports(t *testing.T) {
	t.Parallel()
	var notices []enforce.Notice
	var refunds []enforce.Refund
	var lost int64
	var from uint16
	var broken error
	w := newWorld(t, func(c *node.Config) {
		c.Reports = node.Reports{
			Notice: func(n enforce.Notice) { notices = append(notices, n) },
			Refunds: func(_ context.Context, n uint16, list []enforce.Refund, more int64) error {
				if broken != nil {
					return broken
				}
				from, refunds, lost = n, append(refunds, list...), lost+more
				return nil
			},
		}
	})
	w.customer("there")
	c, _ := w.govern.Customer("there")
	g := w.gateway(w.token("east"))
	g.begin(holding{})
	r := remote.NewReporter(g.Client)
	notice := enforce.Notice{CustomerID: c.ID, Limit: "daily", Meter: "api_calls", Percent: 80, Consumed: 8, Quota: 10, At: time.Now().UnixMicro()}
	sum := enforce.Refund{CustomerID: c.ID, Route: "GET /hello", Meter: "api_calls", Reason: enforce.TimedOut, Day: w.now(), Count: 3, Cost: money.FromInt(6)}
	given := func(list ...enforce.Refund) func() ([]enforce.Refund, int64) {
		return func() ([]enforce.Refund, int64) { out := list; list = nil; return out, int64(len(out)) }
	}
	r.Notice(notice)
	broken = errors.New("broken")
	if _, err := r.Tick(t.Context(), given(sum)); !errors.Is(err, authority.ErrUnreachable) || len(notices) != 0 {
		t.Fatalf("%v, %d notices", err, len(notices))
	}
	broken = nil
	other := notice
	other.CustomerID = "cus_nobody"
	r.Notice(other)
	for more := true; more; {
		var err error
		if more, err = r.Tick(t.Context(), given()); err != nil {
			t.Fatal(err)
		}
	}
	if len(notices) != 1 || notices[0] != notice {
		t.Errorf("notices %+v", notices)
	}
	if len(refunds) != 1 || refunds[0].Cost.Cmp(sum.Cost) != 0 || refunds[0].Count != 3 || refunds[0].Reason != enforce.TimedOut || !refunds[0].Day.Equal(sum.Day) || from != 2 || lost != 1 {
		t.Errorf("refunds %+v of %d, lost %d", refunds, from, lost)
	}
	again := wire.Report{Epoch: g.Subkey().Epoch, Seq: 1, Notices: []enforce.Notice{notice}}
	if status, text := w.post(g, wire.PathReports, again); status != 200 || len(notices) != 1 {
		t.Errorf("%d %s, %d notices", status, text, len(notices))
	}
	for range 5000 {
		r.Notice(notice)
	}
	if r.Lost() != 5000-4096 {
		t.Errorf("%d lost", r.Lost())
	}
}

// TestBadReports: nothing of a malformed report, or of one of an older run, is taken.
func TestBadReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *node.Config) {
		c.Reports = node.Reports{
			Notice:  func(n enforce.Notice) { t.Errorf("told of %+v", n) },
			Refunds: func(context.Context, uint16, []enforce.Refund, int64) error { t.Error("refunds"); return nil },
		}
	})
	w.customer("there")
	c, _ := w.govern.Customer("there")
	g := w.gateway(w.token("east"))
	old := g.begin(holding{})
	epoch := g.begin(holding{})
	good := enforce.Notice{CustomerID: c.ID, Percent: 80, At: 1}
	notice := func(change func(*enforce.Notice)) wire.Report {
		n := good
		change(&n)
		return wire.Report{Epoch: epoch, Seq: 1, Notices: []enforce.Notice{good, n}}
	}
	refund := func(change func(*wire.Refund)) wire.Report {
		x := wire.Refund{Customer: c.ID, Reason: 1, Count: 1, Cost: "1"}
		change(&x)
		return wire.Report{Epoch: epoch, Seq: 1, Refunds: []wire.Refund{x}}
	}
	for name, in := range map[string]any{
		"old run":         wire.Report{Epoch: old, Seq: 1, Notices: []enforce.Notice{good}},
		"no run":          wire.Report{Seq: 1, Notices: []enforce.Notice{good}},
		"no number":       wire.Report{Epoch: epoch, Notices: []enforce.Notice{good}},
		"many":            wire.Report{Epoch: epoch, Seq: 1, Notices: make([]enforce.Notice, wire.NoticesMax+1)},
		"percent":         notice(func(n *enforce.Notice) { n.Percent = 1000 }),
		"negative":        notice(func(n *enforce.Notice) { n.Consumed = -1 }),
		"scale":           notice(func(n *enforce.Notice) { n.Scale = 1000 }),
		"long":            notice(func(n *enforce.Notice) { n.Scope = string(make([]byte, 1000)) }),
		"refund's count":  refund(func(r *wire.Refund) { r.Count = -1 }),
		"refund's cost":   refund(func(r *wire.Refund) { r.Cost = "-1" }),
		"no cost":         refund(func(r *wire.Refund) { r.Cost = "many" }),
		"refund's reason": refund(func(r *wire.Refund) { r.Reason = 77 }),
		"lost":            wire.Report{Epoch: epoch, Seq: 1, Lost: -1},
		"no report":       []int{1},
	} {
		if status, text := w.post(g, wire.PathReports, in); status < 400 || status >= 500 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}
