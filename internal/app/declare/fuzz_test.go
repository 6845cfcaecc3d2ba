package declare

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/rules"
)

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(source) < 4096 {
			f.Add(source)
		}
	}
	for _, s := range []string{
		"0::", "{0", "*-0", "&{0", "0\n:", "0\n-", "{\"000\":0000A,", "- - - a", "[a: b: c: ", "a: [\n}", "? a", "<<: *a", "!!map", "--- |\n a",
		"tallystick: 1\nmeters: [{key: a, event: b, aggregation: sum, value: data.x, scale: 9}]",
		"tallystick: 1\nplans:\n- key: p\n  currency: USD\n  trial: 14 days\n  prices:\n  - {key: s, model: volume, every: 2 weeks, tiers: [{up_to: 5, flat_amount: 1}, {unit_amount: 2}]}",
		"tallystick: 1\nmeters: [{key: m, event: e, aggregation: sum, value: data.x, dimensions: [d]}]\nplans:\n- key: p\n  currency: JPY\n  bill_at: 5\n  prices:\n" +
			"  - {key: a, meter: m, filter: {d: 1}, model: percentage, percent: 3, fixed: 1, free_events: 2}\n" +
			"  - {key: b, meter: m, filter: {d: x}, model: matrix, unit_amount: 1, cells: [{when: {d: true}, unit_amount: 2}]}",
		"tallystick: 1\nadd_ons: [{key: a, currency: EUR, prices: [{key: f, model: package, amount: 1, size: 10, free: 2}]}]\n" +
			"coupons: [{key: c, percent: 5, periods: 3, prices: [f], until: \"2027-01-01T00:00:00Z\"}, {key: d, amount: 5, currency: EUR, periods: once}]",
		"tallystick: 1\ntaxes: {round: line, rules: [{key: a, percent: 5}, {key: b, percent: 9.975, country: CA, region: QC, compound: true}]}\n" +
			"billing: {series: INV-, grace: 2h, seller: {name: S, country: DE, iban: DE89370400440532013000}, dunning: {reminders: [3, 7], after: 30, then: suspend}}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		c, faults := Decode("f.yaml", source)
		if (c == nil) == (len(faults) == 0) || len(faults) > MaxFaults {
			t.Fatalf("catalog %v, %d faults", c, len(faults))
		}
		lines := bytes.Count(source, []byte("\n")) + 1
		for i, fault := range faults {
			if fault.Message == "" || fault.Line < 1 || fault.Line > lines+1 || fault.Column < 1 {
				t.Errorf("fault %+v of %d lines", fault, lines)
			}
			if i > 0 && (faults[i-1].Line > fault.Line || faults[i-1].Line == fault.Line && faults[i-1].Column > fault.Column) {
				t.Errorf("out of order: %v after %v", fault, faults[i-1])
			}
		}
		if c == nil {
			return
		}
		if problems := rules.Validate(c); len(problems) > 0 {
			t.Errorf("accepted with problems %v", problems)
		}
		if _, err := catalog.Compile(1, c); err != nil {
			t.Errorf("accepted but %v", err)
		}
		if changes := catalog.Diff(c, c); len(changes) > 0 {
			t.Errorf("differs from itself: %v", changes)
		}
	})
}
