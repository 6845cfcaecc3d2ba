package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/gateway/cost"
)

// costs are those of the events, in their order.
func (w *world) costs() string {
	w.t.Helper()
	var out []string
	for _, r := range w.events() {
		var d struct{ Cost json.Number }
		if err := json.Unmarshal(r.Event.Data, &d); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, d.Cost.String())
	}
	return strings.Join(out, " ")
}

func TestActualCosts(t *testing.T) {
	t.Parallel()
	const stream = "data: {\"usage\":null}\r\n\r\ndata: {\"usage\":\r\ndata: {\"total_tokens\":21}}\r\n\r\ndata: [DONE]\r\n\r\n"
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // all of it
		w.Header().Set("X-Cost", "7")
		switch r.URL.Path {
		case "/bad":
			w.Header().Set("X-Cost", "many")
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range len(stream) {
				fmt.Fprint(w, stream[i:i+1])
				w.(http.Flusher).Flush() //nolint:errcheck // a test's type assertion
			}
			return
		case "/empty":
			w.WriteHeader(204)
			return
		case "/fails":
			w.WriteHeader(500)
		case "/text":
			fmt.Fprint(w, "no JSON")
			return
		}
		fmt.Fprint(w, `{"usage":{"total_tokens":13}}`)
	})
	for name, c := range map[string]struct {
		from               catalog.CostSource
		path, target, body string
		max                string
		capped             bool
		want               string
		unread             int64
	}{
		"header":              {from: catalog.FromHeader, path: "X-Cost", want: "7"},
		"malformed header":    {from: catalog.FromHeader, path: "X-Cost", target: "/bad", want: "3", unread: 1},
		"header, no body":     {from: catalog.FromHeader, path: "X-Cost", target: "/empty", want: "7"},
		"request bytes":       {from: catalog.FromRequestBytes, body: "12345", want: "5"},
		"long request":        {from: catalog.FromRequestBytes, body: strings.Repeat("x", 100_000), want: "100000"},
		"response bytes":      {from: catalog.FromResponseBytes, body: "12345", want: "29"},
		"bytes":               {from: catalog.FromBytes, body: "12345", want: "34"},
		"JSON":                {from: catalog.FromJSON, path: "usage.total_tokens", want: "13"},
		"JSON is not there":   {from: catalog.FromJSON, path: "usage.total_tokens", target: "/text", want: "3", unread: 1},
		"JSON, no body":       {from: catalog.FromJSON, path: "usage.total_tokens", target: "/empty", want: "3", unread: 1},
		"events":              {from: catalog.FromJSON, path: "usage.total_tokens", target: "/events", want: "21"},
		"expression":          {from: catalog.FromExpression, path: "x", target: "/x", body: "12", want: "231"},
		"capped":              {from: catalog.FromJSON, path: "usage.total_tokens", max: "5", capped: true, want: "5"},
		"above the maximum":   {from: catalog.FromJSON, path: "usage.total_tokens", max: "5", want: "13"},
		"a failure is free":   {from: catalog.FromJSON, path: "usage.total_tokens", target: "/fails", want: ""},
		"below the estimate":  {from: catalog.FromRequestBytes, body: "1", want: "1"},
		"nothing at all":      {from: catalog.FromRequestBytes, want: ""},
		"no expression at it": {from: catalog.FromExpression, path: "fails", want: "3", unread: 1},
	} {
		w := newWorld(t, func(cfg *Config) {
			cfg.Expressions = func(text string) (cost.Expression, error) {
				return func(x *cost.Exchange) (money.Decimal, error) {
					if text == "fails" || x.RequestHeaders["authorization"] == "" || x.Path != "/x" || x.Method != "POST" || !strings.Contains(string(x.JSON), "13") {
						return money.Decimal{}, cost.ErrAbsent
					}
					return money.FromInt(int64(x.Status) + x.RequestBytes + x.ResponseBytes), nil
				}, nil
			}
		})
		rt := catalog.Route{Match: "POST /", Upstream: url, From: c.from, Path: c.path, Capped: c.capped}
		if c.max != "" {
			rt.Max = money.MustDecimal(c.max)
		}
		w.estimate = "3"
		w.declare(2, "1000000", rt)
		resp, body := w.do("POST", c.target, "good", strings.NewReader(c.body))
		if resp.StatusCode >= 400 && c.target != "/fails" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		if got := w.costs(); got != c.want && (name != "nothing at all" || got != "0") {
			t.Errorf("%s: charged %q, want %q", name, got, c.want)
		}
		if n := w.gateway.Stats().CostsUnread; n != c.unread {
			t.Errorf("%s: %d unread, want %d", name, n, c.unread)
		}
	}
}

// Whoever has the whole answer stands in the usage, also where the cost is read from its end.
func TestCostIsSettledBeforeTheEnd(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "first")
		w.(http.Flusher).Flush() //nolint:errcheck // a test's type assertion
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		<-more
		fmt.Fprint(w, " last")
	})
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "/", Upstream: url, From: catalog.FromResponseBytes})
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.gw.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	req.Header.Set("Accept", "text/event-stream")
	go func() { more <- struct{}{} }()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b := make([]byte, 10)
	if _, err := io.ReadFull(resp.Body, b); err != nil {
		t.Fatal(err)
	}
	if got := w.costs(); got != "10" {
		t.Errorf("charged %q while the client has the last byte", got)
	}
	req = req.Clone(t.Context())
	req.URL.Path, req.Method = "/cut", "POST" // a GET would be sent again by the client's transport
	if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
		_, _ = io.ReadAll(resp.Body) // breaks off
		_ = resp.Body.Close()        // as above
	}
	w.ended(2, 0, 1)
	if got := w.costs(); got != "10 5" {
		t.Errorf("charged %q, want what came before the cut", got)
	}
}

func TestRefundPolicies(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			return
		}
		var status int
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &status); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
	})
	for name, c := range map[string]struct {
		refund            catalog.Refund
		target            string
		settled, released int64
		says              string
	}{
		"default, 503":      {catalog.RefundDefault(), "/503", 0, 1, ""},
		"default, 404":      {catalog.RefundDefault(), "/404", 1, 0, ""},
		"chosen, 404":       {catalog.Refund{Statuses: []catalog.StatusRange{{First: 404, Last: 404}}}, "/404", 0, 1, ""},
		"chosen, 503":       {catalog.Refund{Statuses: []catalog.StatusRange{{First: 404, Last: 404}}}, "/503", 1, 0, ""},
		"time-out, default": {catalog.RefundDefault(), "/hang", 0, 1, "The request was not counted."},
		"time-out, charged": {catalog.Refund{Statuses: []catalog.StatusRange{}, ClientGone: true}, "/hang", 1, 0, "The request was counted."},
	} {
		w := newWorld(t)
		w.declare(2, "1000", catalog.Route{Match: "GET /", Upstream: url, Refund: c.refund, Timeout: 30 * time.Millisecond})
		if _, body := w.do("GET", c.target, "good", nil); !strings.Contains(body, c.says) {
			t.Errorf("%s: %s", name, body)
		}
		w.ended(c.settled, c.released, 0)
	}
	for charged, refund := range []catalog.Refund{catalog.RefundDefault(), {Statuses: []catalog.StatusRange{}, Timeout: true}} {
		w := newWorld(t)
		w.declare(2, "1000", catalog.Route{Match: "GET /", Upstream: url, Refund: refund})
		c, _ := w.raw("GET /hang HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
		for w.e.Stats().Open == 0 { // until it is admitted
			if w.t.Context().Err() != nil {
				t.Fatal("never admitted")
			}
		}
		_ = c.Close()                                       // the point of this test
		for w.e.Stats().Settled+w.e.Stats().Released == 0 { // until that is noticed
			if w.t.Context().Err() != nil {
				t.Fatal("never ended")
			}
		}
		w.ended(int64(charged), int64(1-charged), 0)
	}
}
