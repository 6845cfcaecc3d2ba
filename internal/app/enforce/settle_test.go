package enforce

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/spool"
)

// with applies the world's catalog with its route changed.
func (w *world) with(change func(*catalog.Route)) {
	c := w.Current()
	routes := append([]catalog.Route(nil), c.Routes...)
	change(&routes[0])
	next, err := catalog.Compile(c.Version+1, &catalog.Catalog{Meters: c.Meters, Plans: c.Plans, Routes: routes})
	if err != nil {
		w.t.Fatal(err)
	}
	w.apply(next)
}

func (w *world) reserve(cost string) *Admission {
	w.t.Helper()
	a := w.e.Admit(w.t.Context(), Request{Secret: "good", Route: w.route(), Method: "GET", Cost: new(dec(cost))})
	if !a.Allowed() {
		w.t.Fatalf("%s %s", a.Code, a.Detail)
	}
	return a
}

func (w *world) left() string {
	w.t.Helper()
	ls, err := w.e.Limits(w.t.Context(), "acme")
	if err != nil {
		w.t.Fatal(err)
	}
	return ls[0].Remaining.String()
}

func (w *world) events() []store.Record {
	w.t.Helper()
	w.flush()
	page, err := w.journal.Scan(w.t.Context(), store.Scan{SeriesKey: store.SeriesKey{CustomerID: custID, Meter: apiCall}, Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Records
}

func TestActualCost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		actual   string // "": none
		capped   bool
		charged  string
		flags    store.Flags
		overshot string // beyond what was reserved
	}{
		"as reserved":      {"", false, "10", 0, ""},
		"the same":         {"10", false, "10", 0, ""},
		"less":             {"4", false, "4", 0, ""},
		"nothing":          {"0", false, "0", 0, ""},
		"below nothing":    {"-3", false, "0", 0, ""},
		"a part":           {"3.2", false, "4", 0, ""},
		"more":             {"25", false, "25", store.Overshoot, "15"},
		"more, capped":     {"25", true, "15", store.Overshoot, "5"},
		"up to the cap":    {"15", true, "15", store.Overshoot, "5"},
		"more than counts": {"9e40", false, "1000000000000000", store.Overshoot, "999999999999990"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quotaLimit("daily", "100", period.Day))
			w.with(func(r *catalog.Route) { r.Max, r.Capped = dec("15"), c.capped })
			a := w.reserve("10")
			w.with(func(r *catalog.Route) { r.Max, r.Capped = dec("1"), true }) // later than the reservation: of no effect
			end := Actual{Status: 200}
			if c.actual != "" {
				d, err := money.ParseDecimal(strings.ReplaceAll(c.actual, "9e40", "9"+strings.Repeat("0", 30)))
				if err != nil {
					t.Fatal(err)
				}
				end.Cost = &d
			}
			if err := a.Settle(end); err != nil {
				t.Fatal(err)
			}
			left, err := dec("100").Sub(dec(c.charged))
			if err != nil {
				t.Fatal(err)
			}
			if left.Sign() < 0 {
				left = dec("0")
			}
			if got := w.left(); got != left.String() {
				t.Errorf("%s left, want %s", got, left)
			}
			rec := w.events()[0]
			if want := `{"cost":` + c.charged + `,"method":"GET","route":"GET /hello","status":200}`; string(rec.Event.Data) != want || rec.Flags != c.flags {
				t.Errorf("event %s with flags %d; want %s with %d", rec.Event.Data, rec.Flags, want, c.flags)
			}
			w.wantBooked(c.charged)
			over := w.e.Overshoots()
			if c.overshot == "" && len(over) > 0 || c.overshot != "" && (len(over) != 1 || over[0].Cost.String() != c.overshot || over[0].Count != 1) {
				t.Errorf("overshoot %+v, want %s", over, c.overshot)
			}
			w.crash()
			w.open()
			w.wantBooked(c.charged)
			if got := w.left(); got != left.String() && c.overshot == "" {
				t.Errorf("%s left after a crash, want %s", got, left)
			}
		})
	}
}

func TestRefundsOfADayAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("monthly", "1000", period.Month))
	w.with(func(r *catalog.Route) { r.Refund.Daily = dec("5") })
	release := func(why Reason) (refused bool) {
		a := w.reserve("2")
		if err := a.Release(why); err != nil {
			t.Fatal(err)
		}
		if err := a.Release(why); err != nil {
			t.Fatal(err)
		}
		return a.Refused()
	}
	for i, want := range []bool{false, false, true, true} {
		if got := release(TimedOut); got != want {
			t.Errorf("refund %d of 2 with 5 a day: refused %v", i, got)
		}
	}
	if release(Withdrawn) {
		t.Error("what is withdrawn is no refund")
	}
	w.wantBooked("4")
	for _, rec := range w.events() {
		if rec.Flags != store.RefundDenied {
			t.Errorf("flags %d", rec.Flags)
		}
	}
	w.advance(24 * time.Hour)
	if release(Failed) {
		t.Error("refused on the next day")
	}
	got, lost := w.e.Refunds()
	if lost != 0 || len(got) != 4 {
		t.Fatalf("%+v, %d", got, lost)
	}
	for i, want := range []Refund{
		{Reason: TimedOut, Count: 2, Cost: dec("4")},
		{Reason: TimedOut, Refused: true, Count: 2, Cost: dec("4")},
		{Reason: Withdrawn, Count: 1, Cost: dec("2")},
		{Reason: Failed, Count: 1, Cost: dec("2")},
	} {
		if g := got[i]; g.Reason != want.Reason || g.Refused != want.Refused || g.Count != want.Count || g.Cost.Cmp(want.Cost) != 0 || g.CustomerID != custID ||
			g.Route != "GET /hello" || !g.Day.Equal(start.AddDate(0, 0, 1+i/3)) {
			t.Errorf("%+v, want %+v", g, want)
		}
	}
	if again, _ := w.e.Refunds(); len(again) != 0 {
		t.Errorf("handed out twice: %+v", again)
	}
}

// TestSpoolOfTheVersionBefore: what an older program left in the spool is settled and shipped.
func TestSpoolOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crash()
	sp, err := spool.Open(spool.Config{Dir: w.dir + "/spool", SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	at := w.Now().UnixMicro()
	reserve := func(kind byte, seq uint64) {
		b := binary.AppendUvarint([]byte{kind, 7}, seq)
		for _, v := range []int64{at, start.UnixMicro(), 1} {
			b = binary.AppendVarint(b, v)
		}
		b = append(b, 0)
		b = binary.AppendVarint(b, 3)
		for _, s := range []string{custID, keyID, apiCall, "request", "GET /hello", "GET", "receipt"} {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
		if _, err := sp.Append(64, func(dst []byte) []byte { return append(dst, b...) }); err != nil {
			t.Fatal(err)
		}
	}
	end := func(b ...byte) {
		if _, err := sp.AppendReserved(64, func(dst []byte) []byte { return append(dst, b...) }); err != nil {
			t.Fatal(err)
		}
	}
	reserve(1, 1)
	reserve(1, 2)
	reserve(1, 3)
	reserve(5, 3) // carried, and left open
	end(2, 7, 1, 7, 6, 200, 1, 0)
	end(3, 7, 2)
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if n := w.e.Stats().Recovered; n != 1 {
		t.Errorf("%d recovered, want 1", n)
	}
	w.wantBooked("6")
	for i, rec := range w.events() {
		if want := []string{`"status":200}`, `"status":0}`}[i]; !strings.HasSuffix(string(rec.Event.Data), want) {
			t.Errorf("event %s, want %s", rec.Event.Data, want)
		}
	}
}
