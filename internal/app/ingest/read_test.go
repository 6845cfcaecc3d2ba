package ingest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// declared applies a catalog in YAML.
func (w *world) declared(t testing.TB, yaml string) {
	t.Helper()
	c, faults := declare.Decode("t.yaml", []byte("tallystick: 1\n"+yaml))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	compiled, err := catalog.Compile(7, c)
	if err != nil {
		t.Fatal(err)
	}
	w.people.catalog = compiled
}

const everyAggregation = `meters:
  - {key: count, event: e, aggregation: count}
  - {key: sum, event: e, aggregation: sum, value: data.v, scale: 2, dimensions: [model, {name: region, value: data.geo.region}]}
  - {key: min, event: e, aggregation: min, value: data.v, scale: 2}
  - {key: max, event: e, aggregation: max, value: data.v, scale: 2}
  - {key: latest, event: e, aggregation: latest, value: data.v, scale: 2}
  - {key: unique, event: e, aggregation: unique, value: data.user}
  - {key: level, event: e, aggregation: time_weighted, value: data.v, scale: 2}
  - {key: custom, event: e, aggregation: custom, value: "decimal(event.data.v) * decimal(\"0.5\") + decimal(event.data.w)", scale: 3}
  - {key: few, event: e, aggregation: count, filter: {data.model: [a, b], data.geo.region: eu, data.flag: true}}
  - {key: chosen, event: e, aggregation: sum, value: data.w, filter: "event.data.w > 1 && event.subject == 'acme'"}
`

// TestEveryAggregation reads events by each, through the journal, and measures what they read.
func TestEveryAggregation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declared(t, everyAggregation)
	event := func(id string, hour int, data string) meter.Event {
		return meter.Event{Source: "s", ID: id, Type: "e", Subject: "acme", Time: now.Add(-24 * time.Hour).Add(time.Duration(hour) * time.Hour), Data: []byte(data)}
	}
	out := w.report(t,
		event("1", 0, `{"v":1.5,"w":1,"user":"ann","model":"a","geo":{"region":"eu"},"flag":true}`),
		event("2", 6, `{"v":"4.25","w":3,"user":7,"model":"b","geo":{"region":"us"},"flag":true}`),
		event("3", 12, `{"v":2,"w":2,"user":"7","model":null}`),
	)
	if got := statuses(out); got != "accepted accepted accepted" {
		t.Fatalf("%s: %+v", got, out)
	}
	day := period.Interval{Start: now.Add(-24 * time.Hour), End: now}
	want := map[string]string{
		"count": "3", "sum": "7.75", "min": "1.5", "max": "4.25", "latest": "2", "unique": "2", "custom": "9.875", "few": "1", "chosen": "5",
		"level": "2.4375", // (6 × 1.5 + 6 × 4.25 + 12 × 2) ÷ 24
	}
	got := map[string]string{}
	err := w.journal.View(t.Context(), func(v store.View) error {
		for _, m := range w.people.catalog.Meters {
			groups, err := v.Measure(store.SeriesKey{CustomerID: "cus_acme", Meter: m.Key}, day, store.Measure{Aggregation: m.Aggregation})
			if err != nil || len(groups) != 1 {
				return fmt.Errorf("%s: %d groups, %w", m.Key, len(groups), err)
			}
			got[m.Key] = groups[0].Value.String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("measured (-want +got):\n%s", diff)
	}
	r, err := w.Event(t.Context(), "s", "1")
	if err != nil {
		t.Fatal(err)
	}
	dimensions := []meter.Dimension{{Name: "model", Value: "a"}, {Name: "region", Value: "eu"}}
	if diff := cmp.Diff(dimensions, r.Resolutions[1].Dimensions); diff != "" || r.Resolutions[1].Meter != "sum" {
		t.Errorf("dimensions (-want +got):\n%s", diff)
	}
}

// TestWhatFiltersLeaveOut is accepted, and counts for nobody.
func TestWhatFiltersLeaveOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declared(t, `meters:
  - {key: a, event: e, aggregation: count, filter: {data.status: [200, 201]}}
  - {key: b, event: e, aggregation: sum, value: data.v, filter: "has(event.data.v)"}
`)
	e := func(id, subject, data string) meter.Event {
		return meter.Event{Source: "s", ID: id, Type: "e", Subject: subject, Data: []byte(data)}
	}
	out := w.report(t,
		e("1", "acme", `{"status":404}`), e("2", "acme", `{"status":"200"}`), e("3", "nobody", `{"status":404}`), e("4", "acme", ``),
		e("5", "acme", `{"status":{"code":200}}`), e("1", "acme", `{"status":404}`),
	)
	if got, want := statuses(out), "accepted accepted unmatched accepted rejected duplicate"; got != want {
		t.Fatalf("%s, want %s: %+v", got, want, out)
	}
	if out[4].Pointer != "/data" || !strings.Contains(out[4].Rule, `filter of meter "a"`) || !strings.Contains(out[4].Fix, "data.status: [200, 201]") {
		t.Errorf("rejected: %+v", out[4])
	}
	r, err := w.Event(t.Context(), "s", "2")
	if err != nil || len(r.Resolutions) != 1 || r.Resolutions[0].Meter != "a" {
		t.Errorf("event 2: %+v, %v", r.Resolutions, err)
	}
	for id, want := range map[string]store.Flags{"1": store.Filtered, "2": 0, "3": 0, "4": store.Filtered} {
		if r, err := w.Event(t.Context(), "s", id); err != nil || r.Flags != want {
			t.Errorf("event %s has flags %d, want %d, %v", id, r.Flags, want, err)
		}
	}
	unmatched, err := w.Events(t.Context(), ingest.Scan{Unmatched: true})
	if err != nil || len(unmatched.Records) != 1 || unmatched.Records[0].Event.ID != "3" {
		t.Errorf("unmatched: %+v, %v", unmatched.Records, err)
	}
	if len(w.counted) != 1 {
		t.Errorf("counted for %q", w.counted)
	}
}

// TestUnreadable: what a meter cannot read is refused with the place, the rule and a fix.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declared(t, everyAggregation)
	whole := `{"v":1,"w":1,"user":"a"`
	for name, tc := range map[string]struct{ data, pointer, rule string }{
		"no number":    {`{"w":1,"user":"a"}`, "/data/v", "must be a number or a decimal string"},
		"negative":     {`{"v":-1,"w":1,"user":"a"}`, "/data/v", "must not be negative"},
		"decimals":     {`{"v":1.001,"w":1,"user":"a"}`, "/data/v", "at most 2 decimals"},
		"too large":    {`{"v":99999999999999,"w":1,"user":"a"}`, "/data/v", "must be at most"},
		"no user":      {`{"v":1,"w":1}`, "/data/user", "is missing"},
		"null user":    {`{"v":1,"w":1,"user":null}`, "/data/user", "is missing"},
		"empty user":   {`{"v":1,"w":1,"user":""}`, "/data/user", "must not be empty"},
		"long user":    {`{"v":1,"w":1,"user":"` + strings.Repeat("a", 257) + `"}`, "/data/user", "at most 256 bytes"},
		"list of user": {`{"v":1,"w":1,"user":["a"]}`, "/data/user", "must be a text, a number or a boolean"},
		"expression":   {`{"v":1,"user":"a"}`, "/data", `must fit the expression of meter "custom": the expression fails: no such key: w`},
		"its decimals": {`{"v":0.01,"w":"0.0001","user":"a"}`, "/data", "at most 3 decimals"},
		"overflow":     {`{"v":1,"w":99999999999999999999999999999999999999.5,"user":"a"}`, "/data", "the expression fails: number out of range"},
		"dimension":    {whole + `,"geo":{"region":["eu"]}}`, "/data/geo/region", "must be a text, a number or a boolean"},
	} {
		out := w.report(t, meter.Event{Source: "s", ID: name, Type: "e", Subject: "nobody", Data: []byte(tc.data)})
		if o := out[0]; o.Status != "rejected" || o.Pointer != tc.pointer || !strings.Contains(o.Rule, tc.rule) || o.Fix == "" {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declared(t, `events:
  - type: completion
    schema:
      required: [tokens]
      additionalProperties: false
      properties:
        tokens: {type: integer, maximum: 1000}
        model: {enum: [small, large]}
        tags: {type: array, items: {type: string}}
meters:
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens}
`)
	for data, want := range map[string]string{
		`{"tokens":1,"model":"small"}`:   "",
		``:                               "/data/tokens must fit the schema: it is missing",
		`{"model":"small"}`:              "/data/tokens must fit the schema: it is missing",
		`{"tokens":"1"}`:                 "/data/tokens must fit the schema: it is a string",
		`{"tokens":1001}`:                "/data/tokens must fit the schema: it is too large (got 1001)",
		`{"tokens":1,"model":"huge"}`:    `/data/model must fit the schema: it is none of the allowed values (got "huge")`,
		`{"tokens":1,"x/y":1}`:           "/data/x~1y must fit the schema: it is not a property that the schema knows",
		`{"tokens":1,"tags":["a",1]}`:    "/data/tags/1 must fit the schema: it is a number",
		`{"tokens":1.5,"model":"small"}`: "/data/tokens must fit the schema: it is a number",
	} {
		out := w.report(t, meter.Event{Source: "s", ID: data + "x", Type: "completion", Subject: "acme", Data: []byte(data)})
		o := out[0]
		if want == "" {
			if o.Status != "accepted" {
				t.Errorf("%s: %+v", data, o)
			}
			continue
		}
		if got := o.Pointer + " " + o.Rule; o.Status != "rejected" || got != want || !strings.Contains(o.Fix, `"completion" is in catalog version 7`) {
			t.Errorf("%s: %s, %+v; want %s", data, got, o, want)
		}
	}
	if out := w.report(t, meter.Event{Source: "s", ID: "other", Type: "other", Subject: "acme", Data: []byte(`{"tokens":"x"}`)}); out[0].Status != "unmatched" {
		t.Errorf("another type: %+v", out[0])
	}
}

func TestDeclaredEventTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declared(t, "ingest: {max_age: 36h, max_ahead: 90s}\nmeters:\n  - {key: a, event: request, aggregation: count}\n")
	out := w.report(t,
		request("1", "acme", now.Add(-36*time.Hour)), request("2", "acme", now.Add(-36*time.Hour-time.Microsecond)),
		request("3", "acme", now.Add(90*time.Second)), request("4", "acme", now.Add(91*time.Second)),
	)
	if got, want := statuses(out), "accepted rejected accepted rejected"; got != want {
		t.Fatalf("%s: %+v", got, out)
	}
	if out[1].Rule != "must be at most 36 hours ago" || out[3].Rule != "must be at most 1m30s ahead of the server's clock" {
		t.Errorf("rules: %q, %q", out[1].Rule, out[3].Rule)
	}
}

// aliased has other names for types and subjects.
type aliased struct {
	*directory
	types, subjects map[string]string
}

func (a aliased) AliasType(s string) string    { return a.types[s] }
func (a aliased) AliasSubject(s string) string { return a.subjects[s] }

// TestAliases: they are asked about what nobody knows, and the event keeps the names that it came with.
func TestAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	people := aliased{w.people, map[string]string{"req": "request", "request": "completion"}, map[string]string{"42": "acme", "bolt": "acme", "43": "nobody"}}
	s, err := ingest.New(ingest.Config{Directory: people, Journal: w.journal, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	events := []meter.Event{request("1", "42", now), request("2", "bolt", now), request("3", "43", now), request("4", "44", now), request("5", "acme", now)}
	events[4].Type = "req"
	out, err := s.Report(t.Context(), "api/tok_1", events)
	if err != nil || statuses(out) != "accepted accepted unmatched unmatched accepted" {
		t.Fatalf("%s, %v", statuses(out), err)
	}
	for id, want := range map[string]string{"1": "cus_acme", "2": "cus_bolt", "5": "cus_acme"} {
		r, err := s.Event(t.Context(), events[0].Source, id)
		if err != nil || len(r.Resolutions) != 1 || r.Resolutions[0].CustomerID != want || r.Resolutions[0].Meter != "api_calls" {
			t.Errorf("event %s: %+v, %v", id, r.Resolutions, err)
		}
		if id == "5" && r.Event.Type != "req" {
			t.Errorf("the event became a %s", r.Event.Type)
		}
	}
}
