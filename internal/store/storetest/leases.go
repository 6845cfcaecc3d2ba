package storetest

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

func counter(n int) store.CounterKey {
	return store.CounterKey{CustomerID: id("cus", n), Meter: "api_calls", Window: period.Day, Start: noon(1).UnixMicro()}
}

func draw(n int, want, ceiling int64) store.Draw {
	return store.Draw{CounterKey: counter(n), WindowEnd: noon(2).UnixMicro(), Want: want, Ceiling: ceiling}
}

func beginEpoch(t *testing.T, r store.Records, node uint16) uint32 {
	t.Helper()
	epoch, err := r.BeginEpoch(t.Context(), node, "boot", noon(1))
	ok(t, err)
	return epoch
}

func leasesOf(t *testing.T, r store.Records, k store.CounterKey) []store.Lease {
	t.Helper()
	ls, err := r.LeasesOf(t.Context(), k)
	ok(t, err)
	return ls
}

func recordsEpochs(t *testing.T, r store.Records) {
	first := uint32(noon(1).Unix())
	for want := first; want < first+3; want++ {
		same(t, "node 1", beginEpoch(t, r, 1), want)
	}
	same(t, "node 2", beginEpoch(t, r, 2), first)
	same(t, "node 65535", beginEpoch(t, r, 65535), first)
	for _, epoch := range []uint32{0, first + 1, first + 3} {
		_, err := r.DrawLeases(t.Context(), 1, epoch, "boot", []store.Draw{draw(1, 1, 10)})
		wantErr(t, "draw by an epoch that is not the newest", err, store.ErrConflict)
	}
	_, err := r.DrawLeases(t.Context(), 9, 1, "boot", []store.Draw{draw(1, 1, 10)})
	wantErr(t, "draw by a node without an epoch", err, store.ErrConflict)
	_, err = r.DrawLeases(t.Context(), 1, first+2, "boot", []store.Draw{draw(1, 1, 10)})
	ok(t, err)
	later := uint32(noon(2).Unix())
	for i, at := range []time.Time{time.Unix(-5, 0), time.Unix(1, 0), noon(1), noon(2), noon(1), time.Unix(1<<32-1, 0)} {
		epoch, err := r.BeginEpoch(t.Context(), 3, "boot", at)
		ok(t, err)
		same(t, "node 3 at "+at.String(), epoch, []uint32{1, 2, first, later, later + 1, 1<<32 - 1}[i])
	}
	_, err = r.BeginEpoch(t.Context(), 3, "boot", time.Unix(1<<32, 0))
	wantErr(t, "beyond what an epoch can hold", err, store.ErrInvalid)
	_, err = r.BeginEpoch(t.Context(), 3, "boot", noon(1))
	wantErr(t, "epochs used up", err, store.ErrConflict)
}

func recordsLeases(t *testing.T, r store.Records) {
	ctx := t.Context()
	one, two := beginEpoch(t, r, 1), beginEpoch(t, r, 2)
	for i, step := range []struct {
		node  uint16
		draws []store.Draw
		want  []store.Grant
	}{
		{1, nil, []store.Grant{}},
		{1, []store.Draw{draw(1, 30, 100)}, []store.Grant{{Granted: 30}}},
		{2, []store.Draw{draw(1, 30, 100), draw(2, 5, 5)}, []store.Grant{{Granted: 30, Others: 30}, {Granted: 5}}},
		{1, []store.Draw{draw(1, 30, 100), draw(1, 30, 100)}, []store.Grant{{Granted: 30, Others: 30}, {Granted: 10, Others: 30}}},
		{2, []store.Draw{draw(1, 1, 100)}, []store.Grant{{Others: 70}}},
		{2, []store.Draw{draw(1, 5, 40)}, []store.Grant{{Others: 70}}}, // lowered below what is leased
		{2, []store.Draw{draw(1, 5, 103)}, []store.Grant{{Granted: 3, Others: 70}}},
		{2, []store.Draw{draw(1, 0, 200), draw(1, -5, 200), draw(3, 5, 0), draw(3, 5, -9)}, []store.Grant{{Others: 70}, {Others: 70}, {}, {}}},
		{1, []store.Draw{draw(4, 1<<62, 1<<62), draw(4, 1<<62, 1<<63-1)}, []store.Grant{{Granted: 1 << 62}, {Granted: 1<<62 - 1}}},
	} {
		epoch := map[uint16]uint32{1: one, 2: two}[step.node]
		got, err := r.DrawLeases(ctx, step.node, epoch, "boot", step.draws)
		ok(t, err)
		same(t, "step "+string(rune('0'+i)), got, step.want)
	}
	lease := store.Lease{CounterKey: counter(1), Node: 1, Epoch: one, Boot: "boot", WindowEnd: noon(2).UnixMicro(), Charged: 70}
	other := lease
	other.Node, other.Epoch, other.Charged = 2, two, 33
	same(t, "leases", leasesOf(t, r, counter(1)), []store.Lease{lease, other})
	same(t, "no lease without a grant", leasesOf(t, r, counter(3)), []store.Lease{})
	for name, change := range map[string]func(*store.CounterKey){
		"customer": func(k *store.CounterKey) { k.CustomerID = "" },
		"meter":    func(k *store.CounterKey) { k.Meter = "tokens" },
		"window":   func(k *store.CounterKey) { k.Window = period.Month },
		"start":    func(k *store.CounterKey) { k.Start++ },
		"scope":    func(k *store.CounterKey) { k.Scope = "key=a" },
		"length":   func(k *store.CounterKey) { k.Length = 1 },
	} {
		k := counter(1)
		change(&k)
		same(t, "another "+name, leasesOf(t, r, k), []store.Lease{})
	}
}

func recordsLeasesAcrossEpochs(t *testing.T, r store.Records) {
	ctx := t.Context()
	first := beginEpoch(t, r, 1)
	_, err := r.DrawLeases(ctx, 1, first, "boot-1", []store.Draw{draw(1, 60, 100), draw(2, 10, 10)})
	ok(t, err)
	second := beginEpoch(t, r, 1)
	grants, err := r.DrawLeases(ctx, 1, second, "boot-2", []store.Draw{draw(1, 60, 100)})
	ok(t, err)
	same(t, "an open lease stays charged", grants, []store.Grant{{Granted: 40, Others: 60}})

	old := store.Lease{CounterKey: counter(1), Node: 1, Epoch: first, Boot: "boot-1", WindowEnd: noon(2).UnixMicro(), Charged: 60}
	lost := old
	lost.CounterKey, lost.Charged = counter(2), 10
	open, err := r.OpenLeases(ctx, 1, second)
	ok(t, err)
	same(t, "open leases of earlier epochs", open, []store.Lease{old, lost})
	none, err := r.OpenLeases(ctx, 2, second)
	ok(t, err)
	same(t, "open leases of another node", none, []store.Lease{})

	old.Charged, old.Closed = 25, true
	lost.Charged, lost.WrittenOff, lost.Closed = 99, 4, true
	unknown := old
	unknown.Epoch = 77
	for range 2 {
		ok(t, r.CloseLeases(ctx, []store.Lease{old, lost, unknown}))
	}
	lost.Charged = 10
	same(t, "never above what was charged", leasesOf(t, r, counter(2)), []store.Lease{lost})
	grants, err = r.DrawLeases(ctx, 1, second, "boot-2", []store.Draw{draw(1, 60, 100), draw(2, 1, 10)})
	ok(t, err)
	same(t, "closing gives room back", grants, []store.Grant{{Granted: 35, Others: 25}, {Others: 10}})
	open, err = r.OpenLeases(ctx, 1, second)
	ok(t, err)
	same(t, "all closed", open, []store.Lease{})

	ok(t, r.PruneLeases(ctx, noon(2).UnixMicro()))
	same(t, "not ended before", len(leasesOf(t, r, counter(1))), 2)
	ok(t, r.PruneLeases(ctx, noon(2).UnixMicro()+1))
	kept := leasesOf(t, r, counter(1))
	if len(kept) != 1 || kept[0].Epoch != second || kept[0].Charged != 75 {
		t.Fatalf("after pruning: %+v", kept)
	}
}

func recordsLeasesWritten(t *testing.T, r store.Records) {
	ctx := t.Context()
	one, two := beginEpoch(t, r, 1), beginEpoch(t, r, 2)
	slot := func(n int64, charged int64) store.Lease {
		k := counter(1)
		k.Window, k.Scope, k.Length, k.Start = 0, "key=a;user=b", 900_000_000, n*900_000_000
		return store.Lease{CounterKey: k, Node: 1, Epoch: one, Boot: "boot", WindowEnd: k.Start + k.Length, Charged: charged}
	}
	a, b, c := slot(1, 5), slot(2, 9), slot(3, 7)
	b.Settled, b.WrittenOff, b.Closed = 9, 4, true
	c.Node, c.Epoch, c.Settled = 2, two, 3
	twice := a
	twice.Charged = 100
	ok(t, r.WriteLeases(ctx, nil))
	ok(t, r.WriteLeases(ctx, []store.Lease{twice, b, a, c}))
	same(t, "the last of two counts", leasesOf(t, r, a.CounterKey), []store.Lease{a})
	for _, tt := range []struct {
		from, to int64
		want     []store.Lease
	}{{1, 4, []store.Lease{a, b, c}}, {2, 3, []store.Lease{b}}, {4, 9, []store.Lease{}}, {3, 3, []store.Lease{}}} {
		got, err := r.LeasesFrom(ctx, slot(0, 0).CounterKey, tt.from*900_000_000, tt.to*900_000_000)
		ok(t, err)
		same(t, "leases from", got, tt.want)
	}
	other := a.CounterKey
	other.Scope = ""
	none, err := r.LeasesFrom(ctx, other, 0, 1<<62)
	ok(t, err)
	same(t, "another scope", none, []store.Lease{})
	epochs, err := r.NewestEpochs(ctx)
	ok(t, err)
	same(t, "newest epochs", epochs, []store.Epoch{
		{Node: 1, Epoch: one, Boot: "boot", BegunAt: noon(1), Leases: true}, {Node: 2, Epoch: two, Boot: "boot", BegunAt: noon(1), Leases: true},
	})
	a.Closed, a.Charged = true, 2
	ok(t, r.WriteLeases(ctx, []store.Lease{a}))
	three := beginEpoch(t, r, 1)
	epochs, err = r.NewestEpochs(ctx)
	ok(t, err)
	same(t, "all of node 1 closed", epochs[0], store.Epoch{Node: 1, Epoch: three, Boot: "boot", BegunAt: noon(1)})
	open, err := r.OpenLeases(ctx, 2, two+1)
	ok(t, err)
	same(t, "open with what was settled", open, []store.Lease{c})
	bad := a
	bad.Settled = 3 // more than charged
	good := slot(9, 1)
	if err := r.WriteLeases(ctx, []store.Lease{good, bad}); err == nil {
		t.Error("a lease that is settled above its charge was taken")
	}
	same(t, "all or none", leasesOf(t, r, good.CounterKey), []store.Lease{})
}

// recordsLeasesDrawnAtOnce has many nodes draw in small steps until nothing is left.
func recordsLeasesDrawnAtOnce(t *testing.T, r store.Records) {
	const nodes, ceiling = 6, 500
	var granted atomic.Int64
	var wg sync.WaitGroup
	for node := range uint16(nodes) {
		epoch := beginEpoch(t, r, node)
		wg.Go(func() {
			for {
				g, err := r.DrawLeases(t.Context(), node, epoch, "boot", []store.Draw{draw(1, 7, ceiling)})
				if err != nil {
					t.Errorf("draw: %v", err)
					return
				}
				if g[0].Granted == 0 {
					return
				}
				granted.Add(g[0].Granted)
			}
		})
	}
	wg.Wait()
	same(t, "granted", granted.Load(), int64(ceiling))
}

// modelLeases is the naive truth: a list of leases.
type modelLeases struct {
	leases []*store.Lease
	newest map[uint16]uint32
}

func (m *modelLeases) find(k store.CounterKey, node uint16, epoch uint32) *store.Lease {
	for _, l := range m.leases {
		if l.CounterKey == k && l.Node == node && l.Epoch == epoch {
			return l
		}
	}
	return nil
}

func (m *modelLeases) sum(k store.CounterKey) (sum int64) {
	for _, l := range m.leases {
		if l.CounterKey == k {
			sum += l.Charged
		}
	}
	return sum
}

func (m *modelLeases) draw(node uint16, d store.Draw) store.Grant {
	l := m.find(d.CounterKey, node, m.newest[node])
	g := store.Grant{Granted: max(0, min(d.Want, d.Ceiling-m.sum(d.CounterKey))), Others: m.sum(d.CounterKey)}
	if l != nil {
		g.Others -= l.Charged
	}
	if g.Granted == 0 {
		return g
	}
	if l == nil {
		l = &store.Lease{CounterKey: d.CounterKey, Node: node, Epoch: m.newest[node], Boot: "boot", WindowEnd: d.WindowEnd}
		m.leases = append(m.leases, l)
	}
	l.Charged, l.Closed = l.Charged+g.Granted, false
	return g
}

func (m *modelLeases) of(k store.CounterKey) []store.Lease {
	ls := []store.Lease{}
	for _, l := range m.leases {
		if l.CounterKey == k {
			ls = append(ls, *l)
		}
	}
	slices.SortFunc(ls, func(a, b store.Lease) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Epoch, b.Epoch)) })
	return ls
}

// leasesMatchModel draws, closes, begins epochs and lowers ceilings at random. What is charged never passes the ceiling of the
// draw that charged it.
func leasesMatchModel(t *testing.T, open func(*testing.T) store.Records) {
	r := open(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round += 10 // counters of their own, in one store
		m := &modelLeases{newest: map[uint16]uint32{}}
		m.begin(rt, r, 1)
		m.begin(rt, r, 2)
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			node := rapid.Uint16Range(1, 2).Draw(rt, "node")
			switch dice := rapid.IntRange(0, 9).Draw(rt, "dice"); {
			case dice < 6:
				m.drawSome(rt, r, node, round)
			case dice < 9 && len(m.leases) > 0:
				m.closeOne(rt, r)
			default:
				m.begin(rt, r, node)
			}
		}
		for n := round; n <= round+1; n++ {
			got, err := r.LeasesOf(rt.Context(), counter(n))
			if want := m.of(counter(n)); err != nil || !slices.Equal(got, want) {
				rt.Fatalf("leases %+v, want %+v, %v", got, want, err)
			}
		}
	})
}

func (m *modelLeases) begin(rt *rapid.T, r store.Records, node uint16) {
	epoch, err := r.BeginEpoch(rt.Context(), node, "boot", noon(1))
	if err != nil || epoch <= m.newest[node] {
		rt.Fatalf("epoch %d follows %d: %v", epoch, m.newest[node], err)
	}
	m.newest[node] = epoch
}

func (m *modelLeases) drawSome(rt *rapid.T, r store.Records, node uint16, round int) {
	draws := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) store.Draw {
		return draw(rapid.IntRange(round, round+1).Draw(rt, "counter"), rapid.Int64Range(-1, 60).Draw(rt, "want"), rapid.Int64Range(-1, 120).Draw(rt, "ceiling"))
	}), 1, 4).Draw(rt, "draws")
	got, err := r.DrawLeases(rt.Context(), node, m.newest[node], "boot", draws)
	if err != nil {
		rt.Fatal(err)
	}
	for i, d := range draws {
		if want := m.draw(node, d); got[i] != want {
			rt.Fatalf("draw %d: %+v, want %+v", i, got[i], want)
		}
		if got[i].Granted > 0 && m.sum(d.CounterKey) > d.Ceiling {
			rt.Fatalf("charged %d of %d", m.sum(d.CounterKey), d.Ceiling)
		}
	}
}

func (m *modelLeases) closeOne(rt *rapid.T, r store.Records) {
	l := rapid.SampledFrom(m.leases).Draw(rt, "lease")
	closed := *l
	closed.Charged = rapid.Int64Range(0, l.Charged+10).Draw(rt, "spent")
	closed.WrittenOff = rapid.Int64Range(0, closed.Charged).Draw(rt, "written off")
	if err := r.CloseLeases(rt.Context(), []store.Lease{closed}); err != nil {
		rt.Fatal(err)
	}
	l.Charged = min(l.Charged, closed.Charged)
	l.WrittenOff, l.Closed = min(closed.WrittenOff, l.Charged), true
}
