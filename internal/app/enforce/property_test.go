package enforce

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store/spool"
)

// model is enforcement as a naive list: what was admitted in each day, and what of it is still open.
type model struct {
	limit    int
	day      map[int64]int // admitted and not released, reported included
	open     []*Admission
	settled  int
	reported int
	cut      bool // a power cut happened: usage may be unbilled and quota written off, but nothing is admitted twice
}

// TestAgainstModel runs random histories with crashes, power cuts, releases, catalog changes and new days: a hard limit is
// never passed, nothing is refused that fits (but for what a power cut wrote off), and the books know every request.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorldOn(t, spool.Config{SegmentBytes: spool.MinSegmentBytes}, quotaLimit("daily", "20", period.Day))
		defer w.crash()
		m := &model{limit: 20, day: map[int64]int{}}
		version := int64(1)
		steps := rapid.IntRange(5, 40).Draw(rt, "steps")
		for range steps {
			switch rapid.SampledFrom([]string{"admit", "admit", "admit", "settle", "release", "ship", "day", "kill", "sync", "power", "stop", "limit", "report"}).Draw(rt, "op") {
			case "admit":
				for range rapid.IntRange(1, 9).Draw(rt, "n") {
					m.admit(rt, w)
				}
			case "settle":
				if a := m.take(rt); a != nil {
					if err := a.Settle(Actual{Status: 200}); err != nil {
						rt.Fatal(err)
					}
					m.settled++
				}
			case "release":
				if a := m.take(rt); a != nil {
					if err := a.Release(Failed); err != nil {
						rt.Fatal(err)
					}
					m.day[a.res.Time/86_400_000_000]--
				}
			case "ship":
				w.flush()
			case "day":
				w.advance(time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour)
			case "kill":
				m.settled += len(m.open) // recovered as settled
				m.open = nil
				w.crash()
				w.open()
			case "sync":
				w.syncSpool()
			case "power":
				m.open, m.cut = nil, true
				w.crash()
				w.losePower()
				w.open()
			case "report":
				n := rapid.IntRange(1, 5).Draw(rt, "reported")
				w.report(itoa(m.reported), n)
				m.reported += n
				m.day[w.Now().UnixMicro()/86_400_000_000] += n
			case "stop":
				for _, a := range m.open {
					if err := a.Settle(Actual{Status: 200}); err != nil {
						rt.Fatal(err)
					}
				}
				m.settled += len(m.open)
				m.open = nil
				w.stop()
				w.open()
			case "limit":
				version++
				m.limit = rapid.IntRange(0, 30).Draw(rt, "limit")
				w.apply(declare(t, version, quotaLimit("daily", itoa(m.limit), period.Day)))
			}
		}
		for _, a := range m.open {
			if err := a.Settle(Actual{Status: 200}); err != nil {
				rt.Fatal(err)
			}
		}
		m.settled += len(m.open)
		admitted, metered := w.booked()
		w.wantSound(rt.Fatalf) // crashes and releases shift the batches' boundaries, and are no gaps
		all, err := dec(admitted).Add(dec(itoa(m.reported)))
		if err != nil || all.String() != metered {
			rt.Fatalf("admitted %s, reported %d, metered %s (%v)", admitted, m.reported, metered, err)
		}
		if !m.cut && admitted != itoa(m.settled) {
			rt.Fatalf("settled %d, admitted %s", m.settled, admitted)
		}
	})
}

func (m *model) admit(rt *rapid.T, w *world) {
	today := w.Now().UnixMicro() / 86_400_000_000
	a := w.admit()
	fits := m.day[today] < m.limit
	switch {
	case a.Allowed() && !fits:
		rt.Fatalf("admitted beyond the limit of %d", m.limit)
	case a.Outcome == receipt.DeniedQuota && fits && !m.cut:
		rt.Fatalf("refused at %d of %d", m.day[today], m.limit)
	case a.Allowed():
		m.day[today]++
		m.open = append(m.open, a)
	case a.Outcome != receipt.DeniedQuota:
		rt.Fatalf("outcome %v %s", a.Outcome, a.Detail)
	}
}

func (m *model) take(rt *rapid.T) *Admission {
	if len(m.open) == 0 {
		return nil
	}
	i := rapid.IntRange(0, len(m.open)-1).Draw(rt, "which")
	a := m.open[i]
	m.open = append(m.open[:i], m.open[i+1:]...)
	return a
}

func itoa(n int) string {
	return strconv.Itoa(n)
}
