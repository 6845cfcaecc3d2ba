package wire_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// fill sets every field of a value to something of its own, so that one that is lost on the way shows.
func fill(t *testing.T, v reflect.Value, n *int64) {
	t.Helper()
	*n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.UnixMicro(*n * 1e9).UTC()
		return
	case *period.Zone:
		z, err := period.LoadZone("Asia/Kolkata")
		if err != nil {
			t.Fatal(err)
		}
		*x = z
		return
	case *money.Currency:
		c, err := money.ParseCurrency("JPY")
		if err != nil {
			t.Fatal(err)
		}
		*x = c
		return
	case *money.Decimal:
		*x = money.FromInt(*n)
		return
	case *period.Every:
		*x = period.MustEvery("2 weeks")
		return
	}
	switch v.Kind() { //nolint:exhaustive // the default fails
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(t, f, n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.String:
		v.SetString("text-" + time.Duration(*n).String())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 250))
	case reflect.Int, reflect.Int8, reflect.Int64:
		v.SetInt(*n % 100)
	default:
		t.Fatalf("a field of kind %s: say how it travels", v.Kind())
	}
}

func travel[A, W any](t *testing.T, there func(A) W, back func(W) A) {
	t.Helper()
	for _, filled := range []bool{true, false} {
		var a A
		n := int64(0)
		if filled {
			fill(t, reflect.ValueOf(&a).Elem(), &n)
		}
		b, err := json.Marshal(there(a))
		if err != nil {
			t.Fatalf("%T: %v", a, err)
		}
		var w W
		if err := json.Unmarshal(b, &w); err != nil {
			t.Fatal(err)
		}
		if got := back(w); !reflect.DeepEqual(a, got) {
			t.Errorf("%T:\nsent %+v\ngot  %+v\n%s", a, a, got, b)
		}
	}
}

// TestNothingIsLost: every field of what travels arrives, also those that are added later.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	travel(t, wire.DrawOf, wire.Draw.Value)
	travel(t, wire.WelcomeOf, wire.Welcome.Value)
	travel(t, wire.BacksOf, wire.Backs)
	travel(t, wire.Counters, wire.Keys)
	same := func(a []authority.Answer) []authority.Answer { return a }
	travel(t, same, same)
	batch := func(b store.Batch) store.Batch { return b }
	travel(t, batch, batch)
	results := func(r []store.Result) []store.Result { return r }
	travel(t, results, results)
	travel(t, wire.FactsOf, func(f *wire.Facts) govern.Facts {
		v, err := f.Value(wire.Zones{})
		if err != nil && len(f.Pictures) > 0 {
			t.Fatal(err)
		}
		return v
	})
}

// FuzzMessage: whatever comes down the stream is refused or read, and nothing panics.
func FuzzMessage(f *testing.F) {
	for _, m := range []wire.Message{
		{Hello: &wire.Hello{Session: "s", Run: "r", Now: 5}},
		{Reset: true},
		{Done: &wire.Done{Revision: 7}},
		{Beat: &wire.Beat{Now: 9}},
		{Call: &wire.Call{ID: 1, What: wire.CallRecall, Counters: []wire.Counter{{Window: 2}}}},
		{Facts: wire.FactsOf(govern.Facts{Pictures: make([]govern.Picture, 0)})},
	} {
		b, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		var m wire.Message
		if json.Unmarshal(b, &m) != nil {
			return
		}
		if m.Facts != nil {
			_, _ = m.Facts.Value(wire.Zones{}) // a zone that there is not
		}
		if m.Call != nil {
			_ = wire.Keys(m.Call.Counters)
		}
	})
}
