package base

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

func drawDecimal(t *rapid.T, what string) money.Decimal {
	return money.MustDecimal(rapid.SampledFrom([]string{
		"0", "1", "-1", "2.5", "-0.00000000000000000000000000000000000001", "12345678901234567890.5", "9223372036854775807", "1000",
	}).Draw(t, what))
}

func TestPartsComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		day := dayOf(rapid.Int64Range(-1e17, 1e17).Draw(t, "day"))
		var want, got []Part
		var row []byte
		for range rapid.IntRange(1, 5).Draw(t, "parts") {
			p := Part{
				Start:    day + rapid.SampledFrom([]int64{0, meter.BucketMicros, 95 * meter.BucketMicros, 1, meter.BucketMicros + 7}).Draw(t, "start"),
				Rollup:   meter.Rollup{Count: rapid.Int64Range(-3, 1e9).Draw(t, "count"), Sum: drawDecimal(t, "sum"), Reported: drawDecimal(t, "in it")},
				Reported: drawDecimal(t, "reported"), Voided: drawDecimal(t, "voided"), Last: rapid.Uint64().Draw(t, "last"),
				Revised: rapid.Bool().Draw(t, "revised"),
			}
			want, row = append(want, p), appendPart(row, day, &p)
		}
		d := decoder{b: row}
		for len(d.b) > 0 && !d.bad {
			got = append(got, Part{})
			d.part(&got[len(got)-1], day)
		}
		if diff := cmp.Diff(want, got); d.bad || diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestContributionsComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		grid := meter.GridStart(rapid.Int64Range(-1e17, 1e17).Draw(t, "grid"))
		c := Contribution{
			Cause: 7, Event: 7, Time: grid + rapid.Int64Range(0, meter.BucketMicros-1).Draw(t, "time"), Value: drawDecimal(t, "value"),
			Origin: rapid.SampledFrom([]meter.Origin{meter.Admitted, meter.Reported}).Draw(t, "origin"),
		}
		if rapid.Bool().Draw(t, "traits") {
			c.Traits = &Traits{Distinct: rapid.SampledFrom([]string{"", "x"}).Draw(t, "distinct")}
			for range rapid.IntRange(0, 2).Draw(t, "dimensions") {
				c.Traits.Dimensions = append(c.Traits.Dimensions, meter.Dimension{Name: "route", Value: rapid.String().Draw(t, "route")})
			}
		}
		value := appendContribution(nil, grid, &c)
		shared := map[string]*Traits{}
		for range 2 { // the second time its traits are shared
			got := Contribution{Cause: 7, Event: 7}
			if err := (&Reader{}).contribution(&got, grid, value, shared); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c, got); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		}
	})
}

// FuzzValues feeds the decoders anything: they must end, and say so.
func FuzzValues(f *testing.F) {
	f.Add(appendPart(nil, 0, &Part{Start: 7, Rollup: meter.Rollup{Count: 1}}))
	f.Add(appendContribution(nil, 0, &Contribution{Time: 3, Traits: &Traits{Distinct: "x"}}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var p Part
		for d := (decoder{b: b}); len(d.b) > 0 && !d.bad; {
			d.part(&p, 0)
		}
		var c Contribution
		_ = (&Reader{}).contribution(&c, 0, bytes.Clone(b), map[string]*Traits{})
	})
}

// TestRowsInOrder reads rows of buckets in both directions, between any bounds.
func TestRowsInOrder(t *testing.T) {
	t.Parallel()
	s, err := Open(vfs.NewMem(), "d")
	if err != nil {
		t.Fatal(err)
	}
	var all []Part
	w := s.Batch(0)
	for day := int64(-2); day < 3; day++ {
		var row []Part
		for _, at := range []int64{0, 5, 95} {
			row = append(row, Part{Start: day*dayMicros + at*meter.BucketMicros, Rollup: meter.Rollup{Count: 1}, Last: 1})
		}
		w.Day(3, row)
		all = append(all, row...)
	}
	w.Day(2, all[:1])
	w.Day(4, all[:1])
	if err := w.Commit(State{Position: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	r := s.Reader()
	bounds := []int64{-1 << 63, 1<<63 - 1}
	for _, p := range all {
		bounds = append(bounds, p.Start, p.Start+1)
	}
	for _, from := range bounds {
		for _, to := range bounds {
			var want, got, back []int64
			for _, p := range all {
				if p.Start >= from && p.Start < to {
					want = append(want, p.Start)
				}
			}
			err := r.Parts(3, from, to, func(p *Part) (bool, error) { got = append(got, p.Start); return true, nil })
			err2 := r.PartsBack(3, from, to, func(p *Part) (bool, error) { back = append([]int64{p.Start}, back...); return true, nil })
			if err != nil || err2 != nil || !cmp.Equal(want, got) || !cmp.Equal(want, back) {
				t.Fatalf("[%d, %d): %v and %v, want %v (%v, %v)", from, to, got, back, want, err, err2)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
