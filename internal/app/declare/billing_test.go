package declare

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// billing decodes the file with every field of prices and billing.
func billing(t *testing.T) *catalog.Catalog {
	t.Helper()
	source, err := os.ReadFile("testdata/billing.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, faults := Decode("billing.yaml", source)
	if len(faults) > 0 {
		t.Fatal(printed(faults))
	}
	return c
}

// TestBilling: what the file says, as a difference from nothing.
func TestBilling(t *testing.T) {
	t.Parallel()
	const golden = "testdata/billing.diff"
	var b strings.Builder
	for _, change := range catalog.Diff(nil, billing(t)) {
		b.WriteString(strings.TrimSpace(change.Op+" "+change.Path+"  "+change.To) + "\n")
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEveryField: the file sets every field of what is billed, and taking any one away again is a difference.
func TestEveryField(t *testing.T) {
	t.Parallel()
	before, next := billing(t), billing(t)
	set := map[string]bool{}
	leaves(roots(next), func(name string, v reflect.Value) {
		set[name] = set[name] || !v.IsZero()
		if v.IsZero() {
			return
		}
		was := reflect.New(v.Type()).Elem()
		was.Set(v)
		if v.Type() == reflect.TypeFor[period.Every]() {
			v.Set(reflect.ValueOf(period.MustEvery("5 years"))) // none is a month
		} else {
			v.SetZero()
		}
		if len(catalog.Diff(before, next)) == 0 {
			t.Errorf("%s: taken away without a difference", name)
		}
		v.Set(was)
	})
	for name, ok := range set {
		if !ok {
			t.Errorf("no %s in the file", name)
		}
	}
}

func roots(c *catalog.Catalog) []reflect.Value {
	out := []reflect.Value{
		reflect.ValueOf(&c.AddOns), reflect.ValueOf(&c.Coupons), reflect.ValueOf(&c.Taxes), reflect.ValueOf(&c.Billing),
	}
	for i := range c.Plans {
		out = append(out, reflect.ValueOf(&c.Plans[i].Prices), reflect.ValueOf(&c.Plans[i].Terms))
	}
	return out
}

// leaves visits the fields of structs that hold no further struct of ours.
func leaves(values []reflect.Value, visit func(name string, v reflect.Value)) {
	opaque := map[reflect.Type]bool{
		reflect.TypeFor[money.Decimal](): true, reflect.TypeFor[money.Currency](): true, reflect.TypeFor[period.Every](): true,
	}
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch {
		case opaque[v.Type()], v.Kind() == reflect.Pointer && opaque[v.Type().Elem()]:
			visit(name, v)
		case v.Kind() == reflect.Pointer:
			walk(name, v.Elem())
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(v.Type().String()+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			for i := range v.Len() {
				walk(name, v.Index(i))
			}
		default:
			visit(name, v)
		}
	}
	for _, v := range values {
		walk("", v)
	}
}
