package reading

import (
	"errors"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
)

func TestCost(t *testing.T) {
	t.Parallel()
	language, err := NewLanguage()
	if err != nil {
		t.Fatal(err)
	}
	exchange := &Exchange{
		Method: "POST", Path: "/chat", RequestBytes: 10, ResponseBytes: 32, Status: 200,
		RequestHeaders: map[string]string{"x-tier": "gold"}, ResponseHeaders: map[string]string{"x-cost": "1.25"},
		JSON: []byte(`{"usage":{"input":100,"output":7,"rate":0.5},"list":[1]}`),
	}
	for text, want := range map[string]string{
		"request.bytes + response.bytes":                                          "42",
		"response.json.usage.input + 4 * response.json.usage.output":              "128",
		`decimal(response.json.usage.rate) * decimal(response.json.usage.output)`: "3.5",
		`response.headers["x-cost"]`:                                              "1.25",
		`request.headers["x-tier"] == "gold" ? 0 : 1`:                             "0",
		`response.status == 200 && request.method == "POST" ? 2 : 1`:              "2",
		`request.path.startsWith("/chat") ? 3 : 1`:                                "3",
		`has(response.json.missing) ? 1 : 5`:                                      "5",
		"response.json.missing":                                                   "no such key",
		`response.headers["none"]`:                                                "no such key",
		"response.json.list":                                                      "not an int",
		"response.json.usage.input - 101":                                         "negative",
		"[1,2,3,4,5,6,7,8].map(a, [1,2,3,4,5,6,7,8].map(b, [1,2,3,4,5,6,7,8].map(c, [1,2,3,4,5,6,7,8].map(d, [1,2,3,4,5,6,7,8].map(e, 1))))).size()": "cost limit",
	} {
		x, err := language.Compile(text, Cost)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := x.Cost(exchange)
		switch {
		case err != nil && (!strings.Contains(err.Error(), want) || !errors.Is(err, meter.ErrEvent)):
			t.Errorf("%s: %v, want %q", text, err, want)
		case err == nil && got.String() != want:
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"event.data.x": "no event", "response.body": "response has", "request.body": "request has", "1.5": "float", "true": "bool", "": "", "1 +": "",
	} {
		if _, err := language.Compile(text, Cost); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := language.Compile("request.bytes", Quantity); !errors.Is(err, ErrInvalid) {
		t.Errorf("a meter sees the request: %v", err)
	}
	// Without JSON, and without headers.
	x, err := language.Compile(`response.json == null ? size(request.headers) : 9`, Cost)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x.Cost(&Exchange{}); err != nil || got.String() != "0" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := x.Cost(&Exchange{JSON: []byte("{")}); !errors.Is(err, meter.ErrEvent) {
		t.Errorf("broken JSON: %v", err)
	}
}

func TestCostOfRoute(t *testing.T) {
	t.Parallel()
	r, err := New(&catalog.Catalog{Routes: []catalog.Route{{Match: "/a", From: catalog.FromExpression, Path: "request.bytes"}, {Match: "/b", From: catalog.FromJSON, Path: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Cost("/a").Cost(&Exchange{RequestBytes: 5}); err != nil || got.String() != "5" || r.Cost("/b") != nil {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := New(&catalog.Catalog{Routes: []catalog.Route{{Match: "/a", From: catalog.FromExpression, Path: "nothing"}}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a wrong expression: %v", err)
	}
}
