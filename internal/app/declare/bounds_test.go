package declare

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestBounds feeds long documents that are made to be slow. Without screen and guard several take minutes at this size
// already; with them each takes less than two seconds at MaxSource.
func TestBounds(t *testing.T) {
	t.Parallel()
	const (
		size    = MaxSource / 16
		tooLong = 20 * time.Second // generous: other tests run beside this one
	)
	fill := func(head, unit string) string { return head + strings.Repeat(unit, (size-len(head))/len(unit)) }
	keys := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size-40; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	const priced = "tallystick: 1\nmeters: [{key: abcdefghij, event: e, aggregation: count, dimensions: [d]}]\nplans:\n- key: q\n  currency: USD\n  prices:\n"
	for name, source := range map[string]string{
		"open brackets":     fill("", "["),
		"open braces":       fill("", "{a: "),
		"dashes":            fill("", "- "),
		"empty entries":     fill("", "-\n"),
		"empty values":      fill("a:\n", "b:\n"),
		"flow keys alone":   fill("{", "a,"),
		"keys":              keys("k%d: 1\n"),
		"flow lines":        fill("[\n", "a: 1\n"),
		"colons":            fill("[", "a: "),
		"flow colons":       fill("{", "a::"),
		"block text":        fill("a: |\n  a\n", "\n"),
		"folded text":       fill("a: >\n  a\n", " \n"),
		"long key":          "{" + fill("", "k") + ": 1}",
		"one line":          fill("a: ", "x "),
		"many lines":        fill("a: x\n", " x\n"),
		"comments":          fill("", "# c\n"),
		"quotes":            fill("a: ", "'x' "),
		"anchors":           fill("a: ", "&a "),
		"aliases":           fill("a: [", "*a, "),
		"wide list":         fill("tallystick: 1\nplans: [", "a,"),
		"wrong entries":     fill("tallystick: 1\nplans:\n", "- {key: a}\n"),
		"wrong references":  fill("tallystick: 1\nmeters: [{key: abcdefghij, event: e, aggregation: count}]\nplans:\n- key: p\n  currency: USD\n  limits:\n", "  - {key: a, meter: abcdefghik, quota: 1, window: day}\n"),
		"unknown fields":    "tallystick: 1\nmeters: [{" + keys("k%d: 1,"),
		"conflicting":       fill("tallystick: 1\ngateway:\n  routes:\n", "  - {match: /a, upstream: http://h}\n"),
		"too large":         strings.Repeat("#", MaxSource+1),
		"expressions":       "tallystick: 1\nmeters:\n" + keys("- {key: k%d, event: e, aggregation: custom, value: \"event.data.a + event.data.b * 3 + (has(event.data.c) ? 1 : 0)\"}\n"),
		"long expressions":  fill("tallystick: 1\nmeters:\n", "- {key: k, event: e, aggregation: count, filter: \""+strings.Repeat("event.data.a > 1 && ", 50)+"true\"}\n"),
		"comprehensions":    fill("tallystick: 1\nmeters:\n", "- {key: k, event: e, aggregation: count, filter: \""+strings.Repeat("[1].all(a,", 20)+"true"+strings.Repeat(")", 20)+"\"}\n"),
		"schemas":           "tallystick: 1\nevents:\n" + keys("- {type: t%d, schema: {type: object, properties: {a: {type: string, pattern: \"^(a|b)*c{1,9}$\"}}}}\n"),
		"references":        "tallystick: 1\nevents:\n" + keys("- {type: t%d, schema: {anyOf: [{$ref: \"#\"}, {$ref: \"#/anyOf/0\"}]}}\n"),
		"wide schema":       "tallystick: 1\nevents:\n- {type: t, schema: {properties: {" + keys("k%d: {type: string},") + "}}}",
		"cells":             priced + "  - key: m\n    model: matrix\n    meter: abcdefghij\n    unit_amount: 1\n    cells:\n" + keys("    - {when: {d: x%d}, unit_amount: 1}\n"),
		"same cells":        fill(priced+"  - key: m\n    model: matrix\n    meter: abcdefghij\n    unit_amount: 1\n    cells:\n", "    - {when: {d: x}, unit_amount: 1}\n"),
		"filters":           priced + keys("  - {key: k%d, model: unit, unit_amount: 1, meter: abcdefghij, filter: {d: x}}\n"),
		"add-ons":           priced + "  - {key: p, model: flat, amount: 1}\nadd_ons:\n" + keys("- {key: k%d, currency: USD, prices: [{key: p, model: flat, amount: 1}]}\n"),
		"wide add-on":       priced + "  - {key: p, model: flat, amount: 1}\nadd_ons:\n- key: a\n  currency: USD\n  prices:\n" + keys("  - {key: k%d, model: flat, amount: 1, every: day}\n"),
		"coupons":           priced + "  - {key: abcdefghij, model: flat, amount: 1}\ncoupons:\n" + keys("- {key: k%d, percent: 1, periods: once, plans: [a, b, q], prices: [abcdefghik, abcdefghil]}\n"),
		"wide coupon":       priced + "  - {key: p, model: flat, amount: 1}\ncoupons: [{key: a, percent: 1, periods: once, prices: [" + keys("k%d,") + "]}]",
		"tax rules":         "tallystick: 1\ntaxes:\n  rules:\n" + keys("  - {key: k%d, percent: 1, compound: true, products: [a, b, c], country: DE}\n"),
		"reminders":         fill("tallystick: 1\nbilling: {dunning: {reminders: [", "1,") + "]}}",
		"unknown top field": fill("tallystick: 1\n", "x: 1\n"),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			c, faults := Decode("big.yaml", []byte(source))
			if c != nil || len(faults) == 0 || len(faults) > MaxFaults {
				t.Errorf("catalog %v with %d faults", c != nil, len(faults))
			}
			if took := time.Since(start); took > tooLong {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ source, message string }{
		"brackets":      {"a: " + strings.Repeat("[", maxDepth), "nests too deep"},
		"blocks":        {strings.Repeat("- ", maxDepth+1), "nests too deep"},
		"flow colons":   {"[a: b: c]", "second colon"},
		"keys":          {strings.Repeat("a: 1\n", maxKeys+1), "too many keys"},
		"empty values":  {"a:\n" + strings.Repeat("- b:\n", maxEmpty+1), "left empty"},
		"empty entries": {strings.Repeat("-\n", maxEmpty+1), "left empty"},
		"empty in flow": {"a: {" + strings.Repeat("b: ,", maxEmpty+1), "left empty"},
		"lone keys":     {"a: {" + strings.Repeat("b,", maxEmpty+1), "left empty"},
		"long key":      {strings.Repeat("k", maxKeySize+1) + ": 1", "key is too long"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, faults := Decode("f.yaml", []byte(tt.source))
			if len(faults) != 1 || !strings.Contains(faults[0].Message, tt.message) {
				t.Errorf("got %v, want %q", faults, tt.message)
			}
		})
	}
	sound := map[string]string{
		"lists":  "a: [" + strings.Repeat("b,", maxEmpty+1) + "]",
		"keys":   strings.Repeat("- {a: 1}\n", maxKeys+1),
		"blocks": strings.Repeat("- a: 1\n  b: 2\n", maxKeys+1),
		"deep":   "a: " + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1),
	}
	for name, source := range sound {
		t.Run("sound "+name, func(t *testing.T) {
			t.Parallel()
			if _, fault := parse(source); fault != nil {
				t.Error(fault)
			}
		})
	}
}
