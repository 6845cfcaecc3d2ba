package file_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// history makes up what is done to a journal. Two of the same seed do the same.
type history struct {
	random *rand.Rand
	ids    int
}

func (h *history) one(of ...string) string { return of[h.random.IntN(len(of))] }

func (h *history) time() time.Time {
	return at(0).Add(time.Duration(h.random.IntN(3*96*15*60)) * time.Second).Add(time.Duration(h.random.IntN(3)) * time.Microsecond)
}

func (h *history) id() string { return fmt.Sprint("e", h.random.IntN(max(1, h.ids))) }

func (h *history) resolutions() (all []meter.Resolution) {
	for _, k := range []store.SeriesKey{{CustomerID: "cus_1", Meter: "a"}, {CustomerID: "cus_1", Meter: "b"}, {CustomerID: "cus_2", Meter: "a"}} {
		if h.random.IntN(2) == 0 {
			continue
		}
		r := meter.Resolution{CustomerID: k.CustomerID, Meter: k.Meter, CatalogVersion: int64(h.random.IntN(2)), Value: money.MustDecimal(
			h.one("1", "1", "0", "-2", "0.5", "7", "1000000000000000000000000.25", "0.00000000000000000001", "12345678901"))}
		if h.random.IntN(2) == 0 {
			r.Dimensions = []meter.Dimension{{Name: "route", Value: h.one("/a", "/b", "")}}
		}
		r.Distinct = h.one("", "x", "y", "z")
		all = append(all, r)
	}
	return all
}

func (h *history) entry() store.Entry {
	id := h.id()
	if h.random.IntN(5) > 0 {
		id = fmt.Sprint("e", h.ids)
		h.ids++
	}
	e := store.Entry{
		Event: meter.Event{
			Source: "api", ID: id, Type: "request", Subject: h.one("p", "q", "r"), Time: h.time(),
			Data: fmt.Appendf(nil, `{"n":%d}`, h.random.IntN(3)), TraceParent: h.one("", "t"),
		},
		Origin: meter.Origin(1 + h.random.IntN(2)), Flags: store.Flags(h.random.IntN(4)), Unit: h.one("", "", "u1", "u2"), KeyID: h.one("", "k"),
	}
	switch h.random.IntN(6) {
	case 0:
		e.Flags |= store.Held
	case 1:
	default:
		e.Resolutions = h.resolutions()
	}
	return e
}

// step is one thing done to a journal. What it returns is compared too.
type step func(ctx context.Context, j *file.Journal) (any, error)

func (h *history) step() step {
	switch n := h.random.IntN(20); {
	case n < 9:
		return h.append()
	case n < 15:
		return h.revise()
	case n < 17:
		customer, when := h.one("cus_1", "cus_2", "cus_3"), h.time()
		return func(ctx context.Context, j *file.Journal) (any, error) { return nil, j.Cut(ctx, customer, when) }
	case n < 18:
		doc := fmt.Appendf(nil, "sealed %d", h.ids)
		return func(ctx context.Context, j *file.Journal) (any, error) { return j.Seal(ctx, doc) }
	case n < 19 && h.random.IntN(4) == 0:
		subject := h.one("q", "r")
		return func(ctx context.Context, j *file.Journal) (any, error) {
			return j.Erase(ctx, subject, "op", "asked to", at(9))
		}
	default:
		return h.append()
	}
}

func (h *history) append() step {
	b := store.Batch{Producer: "p", Node: 1, Epoch: 1 + uint32(h.random.IntN(2)), ReceivedAt: at(h.random.IntN(50)), Atomic: h.random.IntN(4) == 0}
	for range h.random.IntN(12) {
		b.Entries = append(b.Entries, h.entry())
	}
	for range h.random.IntN(3) {
		b.Totals = append(b.Totals, store.AdmittedTotal{
			CustomerID: h.one("cus_1", "cus_4"), Meter: h.one("a", "c"), PeriodStart: int64(h.random.IntN(2)), Total: money.FromInt(int64(h.random.IntN(9))),
		})
	}
	if h.random.IntN(4) == 0 {
		b.Marks = []store.Mark{{Source: "api", ID: h.id(), Flags: store.Flags(1 + h.random.IntN(3))}}
	}
	return func(ctx context.Context, j *file.Journal) (any, error) { return j.Append(ctx, b) }
}

func (h *history) revise() step {
	r := store.Revisions{Actor: "op", Reason: "why", At: at(h.random.IntN(50))}
	for range 1 + h.random.IntN(3) {
		v := store.Revision{Source: "api", ID: h.id(), Kind: store.RevisionKind(1 + h.random.IntN(3)), If: store.AnyRevision}
		if v.Kind != store.Void {
			v.Resolutions = h.resolutions()
		}
		if v.Kind == store.Amend {
			v.Event = meter.Event{Type: "amended", Subject: h.one("p", "q"), Data: fmt.Appendf(nil, `{"m":%d}`, h.random.IntN(3))}
		}
		r.List = append(r.List, v)
	}
	return func(ctx context.Context, j *file.Journal) (any, error) { return j.Revise(ctx, r) }
}

// asked is all that a journal answers, one line a question.
type asked struct {
	t     *testing.T
	j     *file.Journal
	lines []string
}

func (a *asked) line(what string, got any, err error) {
	if errors.Is(err, store.ErrCorrupt) {
		a.t.Errorf("%s: %v", what, err)
	}
	a.lines = append(a.lines, fmt.Sprintf("%s: %+v, %v", what, got, err))
}

func ask(t *testing.T, j *file.Journal, ids int) []string {
	t.Helper()
	a := &asked{t: t, j: j}
	ctx := t.Context()
	if err := j.View(ctx, func(v store.View) error { a.view(v); return nil }); err != nil {
		t.Fatal(err)
	}
	s := j.Stats()
	a.line("stats", []any{s.Events, s.Series, s.Buckets, s.Cuts, s.Totals, s.Marks, s.Revised, s.Unmatched, s.Position}, nil)
	for i := range ids {
		id := fmt.Sprint("e", i)
		r, err := j.Event(ctx, "api", id)
		a.line("event "+id, r, err)
		all, err := j.History(ctx, "api", id)
		a.line("history "+id, all, err)
	}
	for _, newest := range []bool{false, true} {
		for _, k := range []store.SeriesKey{{}, {CustomerID: "cus_1", Meter: "a"}, {CustomerID: "cus_1", Meter: "b"}, {CustomerID: "cus_1"}, {Meter: "a"}} {
			for _, s := range []store.Scan{
				{Limit: 7},
				{Limit: 1000, After: 30},
				{Limit: 9, Unit: "u1"},
				{Limit: 5, Unmatched: true},
				{Limit: 11, Unmatched: true, After: 50},
				{Limit: 8, In: period.Interval{Start: at(0).Add(5 * time.Hour), End: at(0).Add(30 * time.Hour)}},
				{Limit: 3, Unit: "u2", After: 90},
			} {
				s.SeriesKey, s.NewestFirst = k, newest
				a.scan(ctx, s)
			}
		}
	}
	if _, err := j.Leaves(ctx, 1, 1<<30, func(l store.Leaf) error {
		a.line("leaf", []any{l.Position, l.Subject, sha256.Sum256(l.Head), sha256.Sum256(l.Payload), l.Payload == nil, l.Commitment != nil && *l.Commitment != [32]byte{}, l.Source, l.ID, string(l.Document)}, nil)
		return nil
	}); err != nil {
		t.Error(err)
	}
	return a.lines
}

func (a *asked) scan(ctx context.Context, s store.Scan) {
	for {
		page, err := a.j.Scan(ctx, s)
		a.line(fmt.Sprintf("scan %+v", s), page, err)
		if s.Cursor = page.Next; s.Cursor == "" || err != nil {
			return
		}
	}
}

func (a *asked) view(v store.View) {
	a.line("position", v.Position(), nil)
	a.line("series", v.Series(), nil)
	for _, k := range []store.SeriesKey{
		{CustomerID: "cus_1", Meter: "a"}, {CustomerID: "cus_1", Meter: "b"}, {CustomerID: "cus_2", Meter: "a"}, {CustomerID: "cus_4", Meter: "c"}, {CustomerID: "no", Meter: "a"},
	} {
		a.line(fmt.Sprintf("periods %v", k), v.AdmittedPeriods(k), nil)
		for p := range int64(2) {
			total, err := v.Admitted(k, p)
			a.line(fmt.Sprintf("admitted %v", k), total, err)
		}
		for _, in := range []period.Interval{
			{},
			{Start: at(0).Add(3 * time.Hour)},
			{End: at(0).Add(50 * time.Hour)},
			{Start: at(0).Add(10 * time.Hour), End: at(0).Add(26 * time.Hour)},
			{Start: at(0).Add(15 * time.Minute), End: at(0).Add(30 * time.Minute)},
			{Start: at(1), End: at(30)},
		} {
			a.interval(v, k, in)
		}
	}
}

func (a *asked) interval(v store.View, k store.SeriesKey, in period.Interval) {
	where := fmt.Sprint(k, in)
	r, err := v.Usage(k, in)
	a.line("usage "+where, r, err)
	w, err := v.Windows(k, in)
	a.line("windows "+where, w, err)
	d, err := v.Reported(k, in)
	a.line("reported "+where, d, err)
	d, err = v.Voided(k, in)
	a.line("voided "+where, d, err)
	for _, after := range []uint64{0, 13, 100, v.Position(), 1 << 40} {
		d, err = v.Late(k, in, after)
		a.line(fmt.Sprint("late ", after, where), d, err)
		for g := meter.Count; g <= meter.TimeWeighted; g++ {
			for _, m := range []store.Measure{{}, {GroupBy: []string{"route"}}, {Where: []meter.Dimension{{Name: "route", Value: "/a"}}}} {
				m.Aggregation, m.UpTo = g, after
				got, err := v.Measure(k, in, m)
				a.line(fmt.Sprintf("measure %+v %s", m, where), got, err)
			}
		}
	}
}

// variant is a journal to which things happen that must not change an answer.
type variant struct {
	t   *testing.T
	cfg file.Config
	j   *file.Journal
}

func (v *variant) reopen(dropIndex bool) {
	v.t.Helper()
	if v.j != nil {
		closeJournal(v.t, v.j)
	}
	if dropIndex {
		if err := os.RemoveAll(filepath.Join(v.cfg.Dir, "index")); err != nil {
			v.t.Fatal(err)
		}
	}
	v.j = open(v.t, v.cfg)
}

func (v *variant) tick() {
	v.t.Helper()
	if err := v.j.Tick(v.t.Context()); err != nil {
		v.t.Fatal(err)
	}
}

// shake does one such thing now and then.
func (v *variant) shake(random *rand.Rand) {
	v.t.Helper()
	switch random.IntN(24) {
	case 0:
		v.cfg.Checkpoint = 1 // Close writes one
		v.reopen(false)
	case 1:
		v.cfg.Checkpoint = 1 << 20 // and now not
		v.reopen(false)
	case 2:
		v.reopen(true)
	case 3:
		compactAll(v.t, v.j)
	case 4, 5, 6, 7:
		v.tick()
	}
}

// TestSameAnswers has one history answered from memory alone, behind checkpoints, after opening with and without an index, and
// from sealed segments: all answers are the same.
func TestSameAnswers(t *testing.T) {
	t.Parallel()
	for seed := range uint64(differentialSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			sameAnswers(t, seed)
		})
	}
}

const differentialSeeds = 3

func sameAnswers(t *testing.T, seed uint64) {
	commit := func(subject string, position uint64, head, payload []byte) ([32]byte, error) {
		return sha256.Sum256(fmt.Appendf(nil, "%s %d %x %x", subject, position, head, payload)), nil
	}
	h := &history{random: rand.New(rand.NewPCG(seed, 1))}
	memory := &variant{t: t, cfg: file.Config{Dir: t.TempDir(), Commit: commit, Checkpoint: 1 << 20}}
	shaken := &variant{t: t, cfg: file.Config{Dir: t.TempDir(), Commit: commit, Checkpoint: 1, SegmentBytes: 4 << 10}}
	memory.reopen(false)
	shaken.reopen(false)
	random := rand.New(rand.NewPCG(seed, 2))
	same := func(what string, want []string) {
		t.Helper()
		if diff := gocmp.Diff(want, ask(t, shaken.j, h.ids)); diff != "" {
			t.Fatalf("seed %d, %s (-memory +other):\n%.4000s", seed, what, diff)
		}
	}
	for n := range 150 {
		do := h.step()
		want, err := do(t.Context(), memory.j)
		got, err2 := do(t.Context(), shaken.j)
		if diff := gocmp.Diff(want, got); diff != "" || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("seed %d, step %d: %v, %v:\n%s", seed, n, err, err2, diff)
		}
		shaken.shake(random)
		if n == 75 {
			same("half way", ask(t, memory.j, h.ids))
		}
	}
	want := ask(t, memory.j, h.ids)
	same("as it is", want)
	shaken.tick()
	same("behind a checkpoint", want)
	shaken.reopen(false)
	same("from the index", want)
	shaken.reopen(true)
	same("from the log", want)
	compactAll(t, shaken.j)
	same("from sealed segments", want)
	shaken.reopen(true)
	same("from sealed segments alone", want)
	closeJournal(t, shaken.j)
	closeJournal(t, memory.j)
}
