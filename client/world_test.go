package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallystick/tallystick/client"
	"github.com/tallystick/tallystick/test/process"
)

// childVariable makes this test binary a program that takes a block and waits to be killed: its value is the address, the token and
// a customer.
const childVariable = "TALLY_CLIENT_CHILD"

// server is one real tally for all tests; they have customers of their own.
var server struct {
	API, Gateway, Token string
	tally               process.Binary
	dir                 string
	process             *process.Process
}

func TestMain(m *testing.M) {
	if who := os.Getenv(childVariable); who != "" {
		child(strings.Split(who, " "))
		return
	}
	os.Exit(func() (code int) {
		dir, err := os.MkdirTemp("", "tally-client-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir) //nolint:errcheck // what is left lies in the temporary folder
		if err := start(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code = m.Run()
		server.process.Close()
		for _, bad := range []string{"panic:", "DATA RACE"} {
			if strings.Contains(string(server.process.Stderr.Bytes()), bad) {
				fmt.Fprintf(os.Stderr, "the server wrote %q\n", bad)
				return 1
			}
		}
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// patience bounds every wait: much more than a loaded machine needs.
const patience = 60 * time.Second

// noonZone is a zone in which it is about noon: no test crosses its midnight.
func noonZone(now time.Time) string {
	switch east := 12 - now.UTC().Hour(); {
	case east > 0:
		return fmt.Sprintf("Etc/GMT-%d", east)
	case east < 0:
		return fmt.Sprintf("Etc/GMT+%d", -east)
	}
	return "Etc/UTC"
}

const catalogText = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count, dimensions: [route, status]}
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens, unit: tokens, scale: 1}
plans:
  - key: hundred
    currency: USD
    limits:
      - {key: daily, meter: api_calls, quota: "100", window: day, enforcement: hard}
      - {key: words, meter: tokens, quota: "1000", window: day, enforcement: hard}
  - key: thousand
    currency: USD
    limits:
      - {key: daily, meter: api_calls, quota: "1000", window: day, enforcement: hard}
  - key: open
    currency: USD
    limits:
      - {key: daily, meter: api_calls, quota: "1000000000", window: day, enforcement: hard}
  - {key: prepaid, currency: USD, limits: [{key: prepaid, meter: tokens, credits: true}]}
  - key: capped
    currency: USD
    prices:
      - {key: tokens, meter: tokens, model: graduated, every: month, tiers: [{unit_amount: "1"}]}
    limits:
      - {key: spend, spend_cap: "2", window: billing_period}
  - {key: soft, currency: USD, limits: [{key: daily, meter: api_calls, quota: "5", window: day, enforcement: soft}]}
  - {key: grace, currency: USD, limits: [{key: daily, meter: api_calls, quota: "10", window: day, enforcement: grace, grace: "50%"}]}
  - {key: users, currency: USD, limits: [{key: user, meter: api_calls, quota: "3", window: day, per: [user]}]}
gateway:
  end_user: {header: X-User}
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9", meter: api_calls, cost: "1"}
`

func start(dir string) (err error) {
	if server.tally, err = process.Build(dir); err != nil {
		return err
	}
	catalog := filepath.Join(dir, "tally.yaml")
	if err := os.WriteFile(catalog, []byte(catalogText), 0o600); err != nil {
		return err
	}
	server.dir = filepath.Join(dir, "data")
	server.process, err = server.tally.Start("", "serve", "--catalog", catalog, "--dir", server.dir, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := server.process.Stderr.Until(ctx, func(text []byte) bool { return strings.Contains(string(text), "Console  ") }); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(server.dir, "client.json"))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, &server)
}

// api calls the server as an operator does.
func api(t testing.TB, method, path string, body, out any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, server.API+path, strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+server.Token)
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
}

type m map[string]any

// customer is made for one test, with a key; plan may be empty.
func customer(t testing.TB, plan string) (name, keyID, secret string) {
	t.Helper()
	name = strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	api(t, http.MethodPost, "/v1/customers", m{"key": name, "zone": noonZone(time.Now())}, nil)
	var k struct{ ID, Secret string }
	api(t, http.MethodPost, "/v1/keys", m{"customer": name}, &k)
	if plan != "" {
		api(t, http.MethodPost, "/v1/subscriptions", m{"customer": name, "plan": plan}, nil)
	}
	return name, k.ID, k.Secret
}

// open makes a client that ends with the test.
func open(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = server.API
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 20 * time.Second // the machine may be busy
	}
	cfg.Token = server.Token
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, c) })
	return c
}

func shut(t testing.TB, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Log(err)
	}
}

// used is the customer's usage of a meter, as the limit has it.
func used(t testing.TB, c *client.Client, name, meter string) string {
	t.Helper()
	l, err := c.Limits(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range l.Items {
		if i.Meter == meter {
			return i.Consumed
		}
	}
	t.Fatalf("no limit of %s in %+v", meter, l)
	return ""
}

// eventually waits until a condition holds, looking often.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick, end := time.NewTicker(20*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

func problem(t testing.TB, err error) *client.Problem {
	t.Helper()
	var p *client.Problem
	if !errors.As(err, &p) {
		t.Fatalf("%v is no problem", err)
	}
	return p
}

// proxy is a network between client and server that can be cut, and that can answer in the server's place.
type proxy struct {
	*httptest.Server
	cut   atomic.Bool
	busy  atomic.Int64 // so many calls are answered 503
	lose  atomic.Int64 // so many calls are made, and their answers are lost
	calls atomic.Int64
}

func newProxy(t testing.TB) *proxy {
	t.Helper()
	to, err := url.Parse(server.API)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: transport}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.calls.Add(1)
		switch {
		case p.cut.Load():
			panic(http.ErrAbortHandler)
		case p.busy.Add(-1) >= 0:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"status":503,"code":"unavailable","detail":"no","retryable":true}`)
		case p.lose.Add(-1) >= 0:
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}
