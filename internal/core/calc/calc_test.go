package calc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/calc"
)

// january wraps fields of an aggregation.
func january(fields string) string {
	return `{"op":"aggregate","id":1,"period":{"start":"2026-01-01T00:00:00Z","end":"2026-01-11T00:00:00Z"},` + fields + `}`
}

// on is an event of a day of January.
func on(day int, value string) string {
	return fmt.Sprintf(`{"time":"2026-01-%02dT00:00:00Z","value":%q}`, day, value)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	three := `"events":[` + on(3, "4") + "," + on(6, "-1.5") + "," + on(1, "2") + "," + on(11, "100") + "," + `{"time":"2025-12-31T23:59:59.999999Z","value":"100"}]`
	tests := []struct{ request, want string }{
		{january(`"aggregation":"count",` + three), `{"id":1,"value":"3"}`},
		{january(`"aggregation":"count","events":[{"time":"2026-01-01T00:00:00Z"}]`), `{"id":1,"value":"1"}`},
		{january(`"aggregation":"sum",` + three), `{"id":1,"value":"4.5"}`},
		{january(`"aggregation":"min",` + three), `{"id":1,"value":"-1.5"}`},
		{january(`"aggregation":"max",` + three), `{"id":1,"value":"4"}`},
		{january(`"aggregation":"latest",` + three), `{"id":1,"value":"-1.5"}`},
		{january(`"aggregation":"time_weighted",` + three), `{"id":1,"value":"0.85"}`}, // 2 × 2 d + 4 × 3 d - 1.5 × 5 d, over 10 d
		{january(`"aggregation":"max","mode":"delta",` + three), `{"id":1,"value":"6"}`},
		{january(`"aggregation":"min","mode":"delta",` + three), `{"id":1,"value":"2"}`},
		{january(`"aggregation":"latest","mode":"delta","initial":"10",` + three), `{"id":1,"value":"14.5"}`},
		{january(`"aggregation":"time_weighted","mode":"delta",` + three), `{"id":1,"value":"4.45"}`}, // 2 × 2 + 6 × 3 + 4.5 × 5
		{january(`"aggregation":"min","initial":"-3",` + three), `{"id":1,"value":"-3"}`},
		{january(`"aggregation":"time_weighted","initial":"7"`), `{"id":1,"value":"7"}`},
		{january(`"aggregation":"latest","initial":"7"`), `{"id":1,"value":"7"}`},
		{january(`"aggregation":"max"`), `{"id":1,"value":"0"}`},
		{january(`"aggregation":"latest","events":[` + on(2, "1") + "," + on(2, "2") + `]`), `{"id":1,"value":"2"}`},
		{january(`"aggregation":"unique","events":[` + on(2, "1") + "," + on(2, "1.0") + "," + on(3, "1") + `]`), `{"id":1,"value":"2"}`},
		{january(`"aggregation":"sum","events":[` + on(2, "-1.005") + `],"round":{"mode":"half_up","digits":2}`), `{"id":1,"value":"-1.01"}`},
		{january(`"aggregation":"sum","events":[` + on(2, "-1.001") + `],"round":{"mode":"up","digits":2}`), `{"id":1,"value":"-1.01"}`},
		{january(`"aggregation":"sum","events":[` + on(2, "-1.009") + `],"round":{"mode":"down","digits":2}`), `{"id":1,"value":"-1"}`},
		{january(`"aggregation":"sum","events":[` + on(2, "0.5") + `],"round":{}`), `{"id":1,"value":"1"}`},
		{
			`{"op":"prorate","currency":"USD","amount":"-10","service":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"},"period":{"start":"2026-01-01T00:00:00Z","end":"2026-01-04T00:00:00Z"}}`,
			`{"id":null,"ratio":"0.3333333333333333333333333333333333","amount":"-3.333333333333333333333333333333333","inexact":true,"rounded":"-3.33"}`,
		},
		{
			`{"op":"prorate","currency":"XXX","amount":"10.00","service":{"start":"2026-01-01T00:00:00+01:00","end":"2026-01-03T00:00:00+01:00"},"period":{"start":"2026-01-01T00:00:00+01:00","end":"2026-01-05T00:00:00+01:00"}}`,
			`{"id":null,"ratio":"0.5","amount":"5"}`,
		},
		{`{"op":"tax","currency":"KWD","lines":[]}`, `{"id":null,"tax":"0.000","total":"0.000","taxes":[]}`},
		{`{"op":"tax","currency":"USD","lines":[],"rates":[{"percent":"7.50"}]}`, `{"id":null,"tax":"0.00","total":"0.00","taxes":[{"percent":"7.5","amount":"0.00"}]}`},
		{`{"op":"burn","start":"2026-01-01T00:00:00Z"}`, `{"id":null,"balances":{},"overage":"0","usage":"0"}`},
		{" {\"id\" : \"\\u00e4\\\"\", \"op\":\"allocate\",\"currency\":\"USD\",\"amount\":\"1\",\"weights\":[\"1\"]}\r", `{"id":"\u00e4\"","parts":["1.00"]}`},
	}
	for _, tt := range tests {
		if got := string(calc.Answer([]byte(tt.request))); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.request, got, tt.want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	grants := func(grant string) string {
		return `{"op":"burn","id":1,"start":"2026-01-01T00:00:00Z","grants":[` + grant + `]}`
	}
	tests := []struct{ request, id, code, pointer string }{
		{``, "null", calc.CodeSyntax, ""},
		{`null`, "null", calc.CodeSyntax, ""},
		{`[{"op":"tax"}]`, "null", calc.CodeSyntax, ""},
		{`{"op":"tax"}{}`, "null", calc.CodeSyntax, ""},
		{`{"op":"tax",}`, "null", calc.CodeSyntax, ""},
		{`{"id":01}`, "null", calc.CodeSyntax, ""},
		{`{"id":"` + "\xff" + `"}`, "null", calc.CodeSyntax, ""},
		{`{"id":"\x"}`, "null", calc.CodeSyntax, ""},
		{strings.Repeat("[", 100_000), "null", calc.CodeSyntax, ""},
		{strings.Repeat(" ", calc.LineMax+1), "null", calc.CodeTooLarge, ""},
		{`{"id":3}`, "3", calc.CodeInvalid, "/op"},
		{`{"id":"3","op":"price"}`, `"3"`, calc.CodeInvalid, "/op"},
		{`{"id":{},"op":"tax"}`, "null", calc.CodeInvalid, "/id"},
		{`{"id":"` + strings.Repeat("x", 300) + `","op":"tax"}`, "null", calc.CodeInvalid, "/id"},
		{`{"id":1,"id":2,"op":"tax"}`, "1", calc.CodeInvalid, "/id"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[{"amount":"1"},{"amount":"1","amount":"1"}]}`, "1", calc.CodeInvalid, "/lines/1/amount"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[{"amount":"1","a~/b":1}]}`, "1", calc.CodeInvalid, "/lines/0/a~0~1b"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[1]}`, "1", calc.CodeInvalid, "/lines/0"},
		{`{"id":1,"op":"tax","currency":"USD","lines":{}}`, "1", calc.CodeInvalid, "/lines"},
		{`{"id":1,"op":"tax","currency":"USD"}`, "1", calc.CodeInvalid, "/lines"},
		{`{"id":1,"op":"tax","currency":"usd","lines":[]}`, "1", calc.CodeInvalid, "/currency"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[],"level":"page"}`, "1", calc.CodeInvalid, "/level"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[],"inclusive":"yes"}`, "1", calc.CodeInvalid, "/inclusive"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[],"rates":[{"percent":"-1"}]}`, "1", calc.CodeInvalid, "/rates/0/percent"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[],"rates":[{"percent":"1001"}]}`, "1", calc.CodeInvalid, "/rates/0/percent"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[],"rates":[{"percent":"1.0000000000000000001"}]}`, "1", calc.CodeInvalid, "/rates/0/percent"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[{"amount":"1e3"}]}`, "1", calc.CodeInvalid, "/lines/0/amount"},
		{`{"id":1,"op":"tax","currency":"USD","lines":[{"amount":"` + strings.Repeat("9", 38) + `"}],"rates":[{"percent":"1000"}]}`, "1", calc.CodeOverflow, ""},
		{`{"id":1,"op":"allocate","currency":"USD","amount":"1.005","weights":["1"]}`, "1", calc.CodeInvalid, "/amount"},
		{`{"id":1,"op":"allocate","currency":"XXX","amount":"1","weights":["1"]}`, "1", calc.CodeInvalid, "/currency"},
		{`{"id":1,"op":"allocate","currency":"USD","amount":"1","weights":["0","0"]}`, "1", calc.CodeInvalid, "/weights"},
		{`{"id":1,"op":"allocate","currency":"USD","amount":"1"}`, "1", calc.CodeInvalid, "/weights"},
		{`{"id":1,"op":"allocate","currency":"USD","amount":"` + strings.Repeat("9", 30) + `","weights":["1"]}`, "1", calc.CodeOverflow, ""},
		{grants(`{"id":"a","amount":"-1"}`), "1", calc.CodeInvalid, "/grants/0/amount"},
		{grants(`{"id":"a","amount":"1"},{"id":"a","amount":"1"}`), "1", calc.CodeInvalid, "/grants/1/id"},
		{grants(`{"id":"a","amount":"1","priority":1.5}`), "1", calc.CodeInvalid, "/grants/0/priority"},
		{grants(`{"id":"a","amount":"1","expires_at":"2026-01-01T00:00:00Z"}`), "1", calc.CodeInvalid, "/grants/0/expires_at"},
		{grants(`{"id":"a","amount":"1","recurs":{"every":"fortnight"}}`), "1", calc.CodeInvalid, "/grants/0/recurs/every"},
		{`{"id":1,"op":"burn","start":"2026-01-01T00:00:00Z","grants":[{"id":"a","amount":"1","recurs":{"every":"day"}}],"usage":[{"at":"2026-01-01T00:00:00Z","quantity":"1000000"}],"until":"9999-01-01T00:00:00Z"}`, "1", calc.CodeInvalid, ""},
		{grants(`{"id":"a","amount":"1","recurs":{"every":"day","zone":"UTC"}}`), "1", calc.CodeInvalid, "/grants/0/recurs/zone"},
		{`{"id":1,"op":"burn","start":"yesterday"}`, "1", calc.CodeInvalid, "/start"},
		{`{"id":1,"op":"burn","start":"2026-01-01T00:00:00Z","until":"2025-01-01T00:00:00Z"}`, "1", calc.CodeInvalid, "/until"},
		{`{"id":1,"op":"burn","start":"2026-01-01T00:00:00Z","usage":[{"at":"2026-01-01T00:00:00Z","quantity":"-1"}]}`, "1", calc.CodeInvalid, "/usage/0/quantity"},
		{`{"id":1,"op":"burn","start":"2026-01-01T00:00:00Z","resets":[{"at":"2026-01-02T00:00:00Z"},{"at":"2026-01-02T01:00:00+01:00"}]}`, "1", calc.CodeInvalid, "/resets/1/at"},
		{`{"id":1,"op":"prorate","currency":"USD","amount":"1","service":{"start":"2026-01-01T00:00:01Z","end":"2026-01-01T00:00:00Z"}}`, "1", calc.CodeInvalid, "/service"},
		{`{"id":1,"op":"prorate","currency":"USD","amount":"1","service":[]}`, "1", calc.CodeInvalid, "/service"},
		{january(`"aggregation":"median"`), "1", calc.CodeInvalid, "/aggregation"},
		{january(`"aggregation":"sum","events":[{"time":"2027-01-01T00:00:00Z"}]`), "1", calc.CodeInvalid, "/events/0/value"},
		{january(`"aggregation":"sum","events":[{"time":"2027-01-01T00:00:00Z","value":"1","dimensions":{"a":1}}]`), "1", calc.CodeInvalid, "/events/0/dimensions/a"},
		{january(`"aggregation":"sum","round":{"digits":39}`), "1", calc.CodeInvalid, "/round/digits"},
	}
	for _, tt := range tests {
		var got struct {
			ID    json.RawMessage `json:"id"`
			Error *calc.Fault     `json:"error"`
		}
		line := calc.Answer([]byte(tt.request))
		if err := json.Unmarshal(line, &got); err != nil || got.Error == nil || got.Error.Detail == "" {
			t.Errorf("%.200s: %s, %v", tt.request, line, err)
			continue
		}
		if string(got.ID) != tt.id || got.Error.Code != tt.code || got.Error.Pointer != tt.pointer {
			t.Errorf("%.200s\n%s, want id %s, %s at %q", tt.request, line, tt.id, tt.code, tt.pointer)
		}
	}
}

// TestTimeWeightedAgainstHours: the average of a level is that of its hours.
func TestTimeWeightedAgainstHours(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const hours = 32 // the average of whole numbers ends
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		levels := [hours]int{}
		level, delta := rapid.IntRange(-5, 5).Draw(t, "initial"), rapid.Bool().Draw(t, "delta")
		initial, events := level, []string{}
		for h := range hours {
			for range rapid.IntRange(0, 2).Draw(t, "events") {
				n := rapid.IntRange(-5, 5).Draw(t, "value")
				events = append(events, fmt.Sprintf(`{"time":%q,"value":"%d"}`, start.Add(time.Duration(h)*time.Hour).Format(time.RFC3339), n))
				if delta {
					n += level
				}
				level = n
			}
			levels[h] = level
		}
		sum := 0
		for _, l := range levels {
			sum += l
		}
		mode := map[bool]string{true: "delta", false: "level"}[delta]
		request := fmt.Sprintf(`{"op":"aggregate","aggregation":"time_weighted","period":{"start":%q,"end":%q},"mode":%q,"initial":"%d","events":[%s]}`,
			start.Format(time.RFC3339), start.Add(hours*time.Hour).Format(time.RFC3339), mode, initial, strings.Join(events, ","))
		want := strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.5f", float64(sum)/hours), "0"), ".")
		if want == "-0" {
			want = "0"
		}
		if got := string(calc.Answer([]byte(request))); got != `{"id":null,"value":"`+want+`"}` {
			t.Fatalf("%s\n%s, want %s", request, got, want)
		}
	})
}

// FuzzAnswer: whatever is asked, there is one line of JSON, with an id, and it is the same a second time.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		graduatedRequest,
		`{"op":"prorate","id":1,"currency":"USD","amount":"10","service":{"start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"},"period":{"start":"2026-01-01T00:00:00Z","end":"2026-01-04T00:00:00Z"},"by":"day","zone":"Europe/Berlin"}`,
		`{"op":"tax","id":"a","currency":"EUR","lines":[{"amount":"10"}],"rates":[{"percent":"19"},{"percent":"5","compound":true}],"level":"line","inclusive":true}`,
		`{"op":"allocate","currency":"JPY","amount":"-100","weights":["1","2"]}`,
		`{"op":"burn","start":"2026-01-01T00:00:00Z","grants":[{"id":"a","amount":"10","priority":1,"effective_at":"2026-01-01T00:00:00Z","expires_at":"2027-01-01T00:00:00Z","voided_at":"2026-06-01T00:00:00Z","recurs":{"every":"month","anchor":"2026-01-31T00:00:00Z"},"min_rollover":"1","max_rollover":"5"}],"usage":[{"at":"2026-02-01T00:00:00Z","quantity":"12"}],"resets":[{"at":"2026-03-01T00:00:00Z","preserve_overage":true}],"until":"2026-04-01T00:00:00Z"}`,
		january(`"aggregation":"time_weighted","mode":"delta","initial":"2","events":[` + on(2, "3") + `],"round":{"mode":"up","digits":2}`),
		`{"op":"tax","lines":[`, "", "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		line := calc.Answer(request)
		var got map[string]json.RawMessage
		if err := json.Unmarshal(line, &got); err != nil || got["id"] == nil || bytes.ContainsRune(line, '\n') {
			t.Fatalf("%q: %q, %v", request, line, err)
		}
		if again := calc.Answer(request); !bytes.Equal(line, again) {
			t.Fatalf("%q: %s, then %s", request, line, again)
		}
	})
}
