package reading_test

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

func language(t testing.TB) *reading.Language {
	t.Helper()
	l, err := reading.NewLanguage()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const document = `{"a":2,"b":1.5,"big":99999999999999999999999999999999999999,"l":[1,2],"n":null,"o":{"in":3},"s":"7.25"}`

func event(data string) meter.Event {
	return meter.Event{Type: "x", Source: "src", Subject: "acme", Time: time.Date(2026, 3, 1, 7, 0, 0, 0, time.UTC), Data: []byte(data)}
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	l := language(t)
	nines := strings.Repeat("9", 38)
	for text, want := range map[string]string{
		`event.data.a * 3`:          "6",
		`event.data.b * 2`:          "3",
		`decimal(2) * event.data.b`: "3",
		`event.data.s`:              "7.25",
		`decimal(event.data.s) + decimal(event.data.b)`:       "8.75",
		`-decimal(event.data.b) - decimal("0.5")`:             "-2",
		`has(event.data.missing) ? event.data.missing : 0`:    "0",
		`event.time.getHours()`:                               "7",
		`size(event.data.l)`:                                  "2",
		`event.data.l.map(x, x * 2)[1]`:                       "4",
		`event.data.o["in"]`:                                  "3",
		`7u`:                                                  "7",
		`event.data.b > 1 ? 1 : 0`:                            "1",
		`decimal(event.data.a) == decimal("2") ? "0.1" : "0"`: "0.1",
		`decimal("1.5") in [decimal(event.data.b)] ? 1 : 0`:   "1",
		`event.subject + event.source == "acmesrc" ? 1 : 0`:   "1",
		`event.data.big`:                                      nines,
		`decimal("` + nines + `") - 1`:                        strings.Repeat("9", 37) + "8",
		`decimal("0.1") + decimal("0.2")`:                     "0.3",
		`1.5`:                                                 `compile: at character 1: 1.5 is a float, which is not exact; write decimal("1.5")`,
		`event.data.a * 1.5`:                                  `compile: at character 16: 1.5 is a float`,
		`double(event.data.a)`:                                "compile: at character 7: this makes a float",
		`event.data.a == decimal("2") ? 1 : 0`:                "compile: at character 14: a decimal is compared with what may be an int",
		`event.data.a in [decimal("2")] ? 1 : 0`:              "compile: at character 14: a decimal is compared",
		`[1, 2]`:                                              "compile: its result is list(int)",
		`event.time`:                                          "compile: its result is timestamp",
		`event.foo`:                                           "compile: at character 1: event has type, subject, source, time and data",
		`foo(1)`:                                              "compile: at character 4: undeclared reference to 'foo'",
		`1 +`:                                                 "compile: at character 4: Syntax error",
		strings.Repeat("1+", catalog.MaxExpression/2) + "1":   "compile: it is longer than 1024 characters",
		strings.Repeat("(", 40) + "1" + strings.Repeat(")", 40): "compile: at character 1: expression recursion limit",
		`2 * decimal("1.5")`:                    "compile: at character 3: found no matching overload for '_*_' applied to '(int, decimal)'; write decimal(x) on both sides",
		`2 * event.data.b`:                      "no such overload; where whole numbers meet fractions, write decimal(x) around both",
		`event.data.l`:                          "the result is list, not an int",
		`event.data.n`:                          "the result is null_type",
		`event.data.missing`:                    "no such key: missing",
		`event.data.big + decimal("1")`:         "number out of range",
		`decimal(event.data.big) * decimal(10)`: "number out of range",
		`event.data.a / 0`:                      "division by zero",
		`9223372036854775807 + event.data.a`:    "integer overflow",
		`decimal("1e5")`:                        "not a decimal number",
		`event.data.l.all(x, event.data.l.all(y, true)) ? 1 : 0`:         "1",
		`decimal("0.` + strings.Repeat("0", 37) + `1") * decimal("0.1")`: "number out of range",
	} {
		x, err := l.Compile(text, reading.Quantity)
		if err != nil {
			if got := "compile: " + strings.TrimPrefix(err.Error(), reading.ErrInvalid.Error()+": "); !errors.Is(err, reading.ErrInvalid) || !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s, want %s", text, got, want)
			}
			continue
		}
		v, err := x.Value(reading.NewInput(event(document)))
		switch {
		case err != nil && (!errors.Is(err, meter.ErrEvent) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", text, err, want)
		case err == nil && v.String() != want:
			t.Errorf("%s: %s, want %s", text, v, want)
		}
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	l := language(t)
	for text, want := range map[string]string{
		`event.data.a == 2`:            "true",
		`event.data.b > 1`:             "true",
		`event.type.startsWith("x.")`:  "false",
		`event.subject.matches("^ac")`: "true",
		`event.data.o`:                 "the expression is map here, not true or false",
		`event.data.a`:                 "the expression is int here",
		`1`:                            "compile: its result is int",
		`"true"`:                       "compile: its result is string",
		`event.subject.matches("(")`:   "compile: error parsing regexp",
		`event.time > timestamp("2026-01-01T00:00:00Z")`: "true",
	} {
		x, err := l.Compile(text, reading.Condition)
		if err != nil {
			if got := "compile: " + strings.TrimPrefix(err.Error(), reading.ErrInvalid.Error()+": "); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s, want %s", text, got, want)
			}
			continue
		}
		holds, err := x.Holds(reading.NewInput(event(document)))
		switch {
		case err != nil && (!errors.Is(err, meter.ErrEvent) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", text, err, want)
		case err == nil && fmt.Sprint(holds) != want:
			t.Errorf("%s: %v, want %s", text, holds, want)
		}
	}
}

// TestCost: an expression that would take long on a large event is stopped.
func TestCost(t *testing.T) {
	t.Parallel()
	x, err := language(t).Compile(`event.data.l.all(x, event.data.l.all(y, event.data.l.all(z, x + y + z >= 0))) ? 1 : 0`, reading.Quantity)
	if err != nil {
		t.Fatal(err)
	}
	e := event(`{"l":[` + strings.TrimSuffix(strings.Repeat("1,", 2000), ",") + `]}`)
	if _, err := x.Value(reading.NewInput(e)); !errors.Is(err, meter.ErrEvent) || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("got %v", err)
	}
}

// TestDecimalsAgainstRationals: what an expression calculates is exact, or an error.
func TestDecimalsAgainstRationals(t *testing.T) {
	t.Parallel()
	l := language(t)
	compiled := map[string]*reading.Expression{}
	for _, op := range []string{"+", "-", "*"} {
		x, err := l.Compile("decimal(event.data.x) "+op+" decimal(event.data.y)", reading.Quantity)
		if err != nil {
			t.Fatal(err)
		}
		compiled[op] = x
	}
	number := rapid.Custom(func(rt *rapid.T) string {
		d := money.FromScaled(rapid.Int64().Draw(rt, "units"), rapid.IntRange(0, 9).Draw(rt, "scale")).String()
		if rapid.Bool().Draw(rt, "quoted") {
			return `"` + d + `"`
		}
		return d
	})
	rapid.Check(t, func(rt *rapid.T) {
		x, y := number.Draw(rt, "x"), number.Draw(rt, "y")
		data, err := meter.Canonical([]byte(`{"x":` + x + `,"y":` + y + `}`))
		if err != nil {
			rt.Fatal(err)
		}
		a, _ := new(big.Rat).SetString(strings.Trim(x, `"`))
		b, _ := new(big.Rat).SetString(strings.Trim(y, `"`))
		for op, want := range map[string]*big.Rat{"+": new(big.Rat).Add(a, b), "-": new(big.Rat).Sub(a, b), "*": new(big.Rat).Mul(a, b)} {
			got, err := compiled[op].Value(reading.NewInput(event(string(data))))
			if err != nil {
				rt.Fatalf("%s %s %s: %v", x, op, y, err)
			}
			if r, _ := new(big.Rat).SetString(got.String()); r.Cmp(want) != 0 {
				rt.Fatalf("%s %s %s = %s, want %s", x, op, y, got, want.RatString())
			}
		}
	})
}

func FuzzExpression(f *testing.F) {
	for _, text := range []string{
		`event.data.a * 3`, `has(event.data.x) ? decimal(event.data.x) : 0`, `event.data.l.map(x, x)`, `event.time.getHours("Europe/Paris")`, `"a" + event.type`,
		`event.data.l.exists_one(x, x == 1)`, `{"a": 1}["a"]`, `-decimal("1")`, `event.subject.matches("a*")`, `b"x" == bytes("x")`, `timestamp("x")`, `duration("1s") > duration("2s")`,
		`1.0`, `x.y`, `dyn(1) in [2]`, `type(event.data.a) == int`, `1 % 0`, `[1][9]`,
	} {
		f.Add(text, `{"a":1,"l":[1,2.5,"x",null,{}]}`)
	}
	l := language(f)
	f.Fuzz(func(t *testing.T, text, data string) {
		canonical, err := meter.Canonical([]byte(data))
		if err != nil || len(canonical) > 1<<16 {
			canonical = nil
		}
		in := reading.NewInput(event(string(canonical)))
		for _, kind := range []reading.Kind{reading.Condition, reading.Quantity} {
			x, err := l.Compile(text, kind)
			if err != nil {
				if !errors.Is(err, reading.ErrInvalid) {
					t.Fatalf("compile %q: %v", text, err)
				}
				continue
			}
			if kind == reading.Condition {
				_, err = x.Holds(in)
			} else {
				_, err = x.Value(in)
			}
			if err != nil && !errors.Is(err, meter.ErrEvent) {
				t.Fatalf("evaluate %q: %v", text, err)
			}
		}
	})
}
