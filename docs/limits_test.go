package docs_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// TestLimitExamples runs the examples of docs/limits.md: the first line of each is a limit, the others are what happens and what follows.
func TestLimitExamples(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```limit\n(.*?)```").FindAllStringSubmatch(read(t, "docs/limits.md"), -1)
	kinds := map[quota.Kind]bool{}
	modes := map[quota.Mode]bool{}
	for _, block := range blocks {
		lines := strings.Split(strings.TrimSpace(block[1]), "\n")
		e := newExample(t, lines[0])
		kinds[e.limit.Kind], modes[e.limit.Mode] = true, true
		for _, line := range lines[1:] {
			parts := regexp.MustCompile(`\s{2,}`).Split(strings.TrimSpace(line), -1)
			if len(parts) != 3 {
				t.Fatalf("%q is not: time, what, result", line)
			}
			if got := e.run(t, parts[0], parts[1]); got != parts[2] {
				t.Errorf("%s\n%s: got %q", lines[0], line, got)
			}
		}
	}
	if len(kinds) != 7 || len(modes) != 4 {
		t.Errorf("examples of %d kinds and %d modes only", len(kinds), len(modes))
	}
}

// example is one limit, alone, with all that one holder knows of it.
type example struct {
	limit quota.Limit
	state quota.State
	uses  []quota.SlotUse
	zone  period.Zone
	grant int64
}

func newExample(t *testing.T, line string) *example {
	t.Helper()
	source := `tallystick: 1
meters: [{key: calls, event: request, aggregation: count}, {key: tokens, event: completion, aggregation: sum, value: data.tokens}]
plans:
  - key: p
    currency: USD
    prices: [{key: t, model: graduated, meter: tokens, every: month, tiers: [{unit_amount: "0.5"}]}]
    limits: [` + line + "]\n"
	c, faults := declare.Decode("limits.md", []byte(source))
	if len(faults) > 0 {
		t.Fatalf("%s: %v", line, faults)
	}
	compiled, err := catalog.Compile(1, c)
	if err != nil {
		t.Fatal(err)
	}
	bounds := append(compiled.Bounds("p", "calls"), compiled.Bounds("p", "tokens")...)
	e := &example{limit: bounds[0].Limit, zone: period.MustZone("Europe/Paris")}
	if d := bounds[0].Declared; d.SpendCap != nil { // a unit costs 0.5
		n, _ := strconv.ParseInt(d.SpendCap.String(), 10, 64)
		e.grant = 2 * n
	}
	return e
}

// roll gives the state the window and ceiling of an instant.
func (e *example) roll(at time.Time) {
	now := at.UnixMicro()
	start, end, ok := e.limit.WindowAt(now)
	if !ok && e.limit.Window != 0 {
		anchor := period.Anchor{Start: at.AddDate(-1, 0, 0), Day: 31, Zone: e.zone}
		in, _ := e.limit.Window.Containing(at, e.zone, anchor)
		start, end = in.Start.UnixMicro(), in.End.UnixMicro()
	}
	s := &e.state
	if s.WindowStart != start {
		if e.limit.Kind == quota.Rolling {
			e.uses = append(e.uses, quota.SlotUse{Start: s.WindowStart, Used: s.Consumed})
		}
		s.WindowStart, s.WindowEnd, s.Consumed = start, end, 0
	}
	switch e.limit.Kind {
	case quota.Rolling:
		s.Ceiling = e.limit.RollingCeiling(e.uses, now)
	case quota.Credits, quota.SpendCap:
		s.Ceiling = e.grant
	case quota.TokenBucket, quota.Quota, quota.Fixed, quota.Concurrency:
		s.Ceiling = e.limit.Quota + e.limit.Extra
	}
	s.Granted = s.Ceiling
}

func (e *example) run(t *testing.T, clock, what string) string {
	t.Helper()
	layout := "2006-01-02 15:04:05"
	if !strings.Contains(clock, "-") {
		clock = "2024-03-31 " + clock
	}
	at, err := time.ParseInLocation(layout, clock, e.zone.Location())
	if err != nil {
		t.Fatal(err)
	}
	e.roll(at)
	limits, states := []quota.Limit{e.limit}, []*quota.State{&e.state}
	words := strings.Fields(what)
	number := func(i int) int64 {
		n, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return n
	}
	switch words[0] {
	case "end":
		for range number(1) {
			quota.End(limits, states)
		}
		return "ended"
	case "grant":
		e.grant += number(1)
		return "granted"
	case "settle": // settle 5 as 8
		return fmt.Sprintf("overshoot %d", quota.Settle(limits, states, number(1), number(3), at.UnixMicro()))
	case "remaining":
		left, _ := quota.Remaining(&e.limit, &e.state, at.UnixMicro())
		return strconv.FormatInt(left, 10)
	case "cost":
		return e.decide(at, number(1))
	}
	result := ""
	for i := range number(0) { // 20 requests
		got := e.decide(at, 1)
		if i > 0 && got != result {
			t.Fatalf("%s: %q, then %q", what, result, got)
		}
		result = got
	}
	return result
}

func (e *example) decide(at time.Time, cost int64) string {
	now := at.UnixMicro()
	if e.limit.Kind == quota.Rolling {
		e.state.ClearsAt = e.limit.RollingClears(append(e.uses, quota.SlotUse{Start: e.state.WindowStart, Used: e.state.Consumed}), cost, now)
	}
	var d quota.Decision
	quota.Decide(&d, []quota.Limit{e.limit}, []*quota.State{&e.state}, cost, now)
	over := ""
	if d.Over != 0 {
		over = ", over"
	}
	switch {
	case d.Verdict == quota.Allow:
		return "admitted" + over
	case d.ClearsAt == 0:
		return "denied for good"
	}
	clears := time.UnixMicro(d.ClearsAt).In(e.zone.Location())
	layout := "15:04:05.999"
	if clears.Format(time.DateOnly) != at.Format(time.DateOnly) {
		layout = "2006-01-02 15:04:05.999"
	}
	return "denied until " + clears.Format(layout)
}
