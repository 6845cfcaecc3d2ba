package doors

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/web/answer"
)

func TestAllowsUntilTheQuotaIsUsedUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "2")
	for i := range 2 {
		got := w.ask(asks("", "GET", "/hello/a?x=1", "good"))
		if got.Code != 200 || got.Body.Len() != 0 {
			t.Fatalf("call %d: %d %s", i, got.Code, got.Body)
		}
		for name, want := range map[string]string{"Tally-Customer": "acme", "Tally-Key-Id": keyID, "Ratelimit-Policy": `"daily";q=2;w=86400`} {
			if v := got.Header().Get(name); v != want {
				t.Errorf("%s: %q, want %q", name, v, want)
			}
		}
		if !strings.HasPrefix(got.Header().Get("Decision-Id"), "dec_") {
			t.Error("no Decision-Id")
		}
	}
	got := w.ask(asks("", "GET", "/hello/a", "good"))
	var p answer.Problem
	if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil || got.Code != 429 || p.Code != "quota_exceeded" || !jittered(got.Header().Get("Retry-After"), 43200) {
		t.Errorf("%d %v %+v", got.Code, err, got.Header())
	}
	if s := w.e.Stats(); s.Settled != 2 || s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

// TestMapped is what auth_request can take: 2xx, 401, 403.
func TestMapped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "1")
	w.ask(asks("", "GET", "/hello/a", "good"))
	for _, c := range []struct {
		r            *http.Request
		status       int
		tally, code  string
		retry, asked string
	}{
		{asks("status=403", "GET", "/hello/a", "good"), 403, "429", "quota_exceeded", "jittered", ""},
		{asks("status=403", "GET", "/hello/a", "bad"), 401, "401", "key_unknown", "", answer.Challenge},
		{asks("status=403", "GET", "/nothing", "good"), 403, "404", "route_unknown", "", ""},
		{asks("status=403", "GET", "/"+strings.Repeat("x", targetMax), "good"), 403, "431", "headers_too_large", "", ""},
		{asks("status=403&from=original", "GET", "/hello/a", "good"), 403, "400", "door_malformed", "", ""},
	} {
		got := w.ask(c.r)
		h := got.Header()
		var p answer.Problem
		err := json.Unmarshal([]byte(h.Get("Tally-Problem")), &p)
		if err != nil || got.Code != c.status || h.Get("Tally-Status") != c.tally || p.Code != c.code || h.Get("Retry-After") != c.retry && (c.retry != "jittered" || !jittered(h.Get("Retry-After"), 43200)) || h.Get("Www-Authenticate") != c.asked {
			t.Errorf("%s: %d %v %v", c.code, got.Code, err, h)
		}
	}
}

func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "100", func(c *Config) {
		c.Token = "a token of sixteen"
		c.Peers = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	for _, c := range []struct {
		remote, token string
		status        int
	}{
		{"10.1.2.3:5", "a token of sixteen", 200},
		{"[::ffff:10.1.2.3]:5", "a token of sixteen", 200},
		{"10.1.2.3:5", "a token of sixteem", 403},
		{"10.1.2.3:5", "", 403},
		{"127.0.0.1:5", "a token of sixteen", 403},
		{"nonsense", "a token of sixteen", 403},
	} {
		r := asks("", "GET", "/hello/a", "good")
		r.RemoteAddr = c.remote
		if c.token != "" {
			r.Header.Set(TokenHeader, c.token)
		}
		if got := w.ask(r); got.Code != c.status {
			t.Errorf("%s %q: %d, want %d", c.remote, c.token, got.Code, c.status)
		}
	}
	if s := w.d.Stats(); s.Asked != 6 || s.Refused != 4 || w.e.Stats().Admitted != 2 {
		t.Errorf("%+v", s)
	}
}

func TestWhatTheProxyMustSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "100")
	for _, c := range []struct {
		name   string
		r      *http.Request
		status int
	}{
		{"another method than the route's", asks("", "DELETE", "/hello/a", "good"), 404},
		{"a host", asks("", "POST", "/x", "good", "X-Forwarded-Host", "admin.example:8443"), 200},
		{"a climbing path", asks("", "GET", "/hello/../hello/a", "good"), 404},
		{"an escaped climbing path", asks("", "GET", "/hello/%2e%2e/hello/a", "good"), 404},
		{"no method", asks("", "", "/hello/a", "good"), 400},
		{"a tunnel", asks("", "CONNECT", "/hello/a", "good"), 400},
		{"no path", asks("", "GET", "hello", "good"), 400},
		{"a path with a blank", asks("", "GET", "/hello /a", "good"), 400},
		{"two paths", asks("", "GET", "/hello/a", "good", "X-Forwarded-Uri", "/nothing"), 400},
		{"two hosts", asks("", "GET", "/hello/a", "good", "X-Forwarded-Host", "a", "X-Forwarded-Host", "b"), 400},
		{"the other set of headers", asks("from=original", "GET", "/nothing", "good", "X-Original-Method", "GET", "X-Original-Uri", "/hello/a"), 200},
		{"the other set, not asked for", asks("", "GET", "/nothing", "good", "X-Original-Method", "GET", "X-Original-Uri", "/hello/a"), 404},
		{"an unknown option", asks("status=402", "GET", "/hello/a", "good"), 400},
		{"a hold that is too long", asks("hold=1h", "GET", "/hello/a", "good"), 400},
		{"a long method", asks("", strings.Repeat("G", methodMax+1), "/hello/a", "good"), 431},
		{"a long host", asks("", "GET", "/hello/a", "good", "X-Forwarded-Host", strings.Repeat("h", hostMax+1)), 431},
	} {
		if got := w.ask(c.r); got.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, got.Code, c.status, got.Body)
		}
	}
}

func (w *world) report(body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, SettlePath, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:4711"
	return w.ask(r)
}

func TestHeldUntilTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "100", func(c *Config) { c.HeldMax = 4 })
	var ids []string
	for range 5 { // one more than there is room for: it is charged at once
		ids = append(ids, w.ask(asks("hold=30s", "GET", "/hello/a", "good")).Header().Get("Decision-Id"))
	}
	if s := w.d.Stats(); s.Held != 4 || s.Full != 1 || w.e.Stats().Settled != 1 {
		t.Fatalf("%+v", s)
	}
	for _, c := range []struct {
		body   string
		status int
	}{
		{`{"decision_id":"` + ids[0] + `","status":200,"cost":"1"}`, 204},
		{`{"decision_id":"` + ids[0] + `","status":200}`, 404},
		{`{"decision_id":"` + ids[1] + `","status":502}`, 204},
		{`{"decision_id":"` + ids[4] + `"}`, 404},
		{`{"decision_id":"dec_x"}`, 404},
		{`{"decision_id":"` + ids[2] + `","cost":"-1"}`, 400},
		{`{"decision_id":"` + ids[2] + `","status":99}`, 400},
		{`{"decision_id":"` + ids[2] + `"} {}`, 400},
		{`{"decision_id":"` + strings.Repeat("x", reportMax) + `"}`, 400},
		{`{}`, 400},
		{`nonsense`, 400},
	} {
		if got := w.report(c.body); got.Code != c.status {
			t.Errorf("%.60s: %d, want %d: %s", c.body, got.Code, c.status, got.Body)
		}
	}
	if s := w.e.Stats(); s.Settled != 2 || s.Released != 1 || s.Open != 2 {
		t.Errorf("%+v", s)
	}
	w.now = w.now.Add(29 * time.Second)
	if err := w.d.Tick(t.Context()); err != nil || w.d.Stats().Held != 2 {
		t.Fatalf("%v: ended too early", err)
	}
	w.now = w.now.Add(time.Second)
	if err := w.d.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := w.e.Stats(); s.Settled != 4 || s.Open != 0 || w.d.Stats().Expired != 2 {
		t.Errorf("%+v", s)
	}
	w.ask(asks("hold=5m", "GET", "/hello/a", "good"))
	if err := w.d.Close(); err != nil || w.e.Stats().Open != 0 {
		t.Errorf("close leaves admissions open: %v", err)
	}
}

func FuzzOriginal(f *testing.F) {
	for _, s := range [][3]string{{"GET", "/hello/a?b=c", "h"}, {"CONNECT", "/", ""}, {"G T", "//x/../y", "a b"}, {"POST", "/%zz%2e%2e/", "admin.example:1"}, {"", "*", "\x00"}} {
		f.Add(s[0], s[1], s[2], "status=403&hold=3s")
	}
	w := newWorld(f, "1000000000")
	f.Fuzz(func(t *testing.T, method, uri, host, query string) {
		r := asks("", "", "", "good")
		r.URL.RawQuery = query
		r.Header["X-Forwarded-Method"], r.Header["X-Forwarded-Uri"], r.Header["X-Forwarded-Host"] = []string{method}, []string{uri}, []string{host}
		o, p := readOptions(query)
		if p == nil && o.hold != 0 && (o.hold < time.Second || o.hold > holdMax) {
			t.Fatalf("hold %s", o.hold)
		}
		if _, p := readOriginal(r, forwarded()); p == nil && (len(uri) > targetMax || len(method) > methodMax || len(host) > hostMax || uri[0] != '/') {
			t.Fatalf("taken: %q %q %q", method, uri, host)
		}
		got := w.ask(r)
		if got.Code == 200 && !strings.HasPrefix(uri, "/hello/") && method != "POST" {
			t.Fatalf("%q %q admitted", method, uri)
		}
		if v := got.Header().Get("Tally-Problem"); v != "" && (!json.Valid([]byte(v)) || strings.ContainsAny(v, "\r\n")) {
			t.Fatalf("problem %q", v)
		}
	})
}

func FuzzHeaderText(f *testing.F) {
	for _, s := range []string{"", "plain", "ü€😀", "a\nb\"c\\", "\xff\x00\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		doc, err := json.Marshal(s)
		if err != nil {
			return
		}
		line := headerText(append(doc, '\n'))
		for i := range len(line) {
			if line[i] < ' ' || line[i] > '~' {
				t.Fatalf("%q", line)
			}
		}
		var want, got string
		if json.Unmarshal(doc, &want) != nil || json.Unmarshal([]byte(line), &got) != nil || got != want {
			t.Fatalf("%q became %q", want, got)
		}
	})
}

// sink is a ResponseWriter that keeps nothing.
type sink http.Header

func (s sink) Header() http.Header         { return http.Header(s) }
func (s sink) Write(b []byte) (int, error) { return len(b), nil }
func (s sink) WriteHeader(int)             {}

func BenchmarkAuth(b *testing.B) {
	w := newWorld(b, "1000000000000")
	r := asks("", "GET", "/hello/a", "good")
	b.ReportAllocs()
	for b.Loop() {
		s := sink{}
		w.d.ServeHTTP(s, r)
		if s["Tally-Customer"] == nil {
			b.Fatal("refused")
		}
	}
}

// The route's refund policy decides what a status gives back, as at the gateway.
func TestToldStatusFollowsTheRoutesPolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		refund            catalog.Refund
		status            int
		settled, released int64
	}{
		{catalog.RefundDefault(), 500, 0, 1},
		{catalog.RefundDefault(), 404, 1, 0},
		{catalog.RefundDefault(), 0, 1, 0},
		{catalog.Refund{Statuses: []catalog.StatusRange{}}, 500, 1, 0},
		{catalog.Refund{Statuses: []catalog.StatusRange{{First: 404, Last: 404}}}, 404, 0, 1},
		{catalog.Refund{Statuses: []catalog.StatusRange{{First: 404, Last: 404}}}, 503, 1, 0},
	} {
		w := newWorld(t, "100")
		w.cat.Routes[0].Refund = c.refund
		id := w.ask(asks("hold=30s", "GET", "/hello/a", "good")).Header().Get("Decision-Id")
		r := httptest.NewRequest(http.MethodPost, SettlePath, strings.NewReader(`{"decision_id":"`+id+`","status":`+strconv.Itoa(c.status)+`}`))
		r.RemoteAddr = "127.0.0.1:4711"
		if got := w.ask(r); got.Code != 204 {
			t.Errorf("%+v: %d %s", c, got.Code, got.Body)
		}
		if s := w.e.Stats(); s.Settled != c.settled || s.Released != c.released {
			t.Errorf("%+v: settled %d released %d", c, s.Settled, s.Released)
		}
	}
}

// A proxy that has stopped waiting will not forward the request.
func TestProxyThatLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "100")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.ask(asks("", "GET", "/hello/a", "good").WithContext(ctx))
	if s := w.e.Stats(); s.Settled != 0 || s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

// jittered says whether a Retry-After is never before the reset, and at most 30 s later.
func jittered(text string, reset int) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= reset && n <= reset+30
}
