// Package nodes_test runs a server and gateways in processes of their own, and breaks what is between them: no limit may be
// passed, nothing may be lost, and all must recover by itself.
package nodes_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/test/process"
)

var (
	rounds = flag.Int("rounds", 1, "rounds of faults, each with a limit of its own")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the faults")
	slow   = flag.Duration("slow", 0, "how long the API behind the gateways takes")
	quiet  = flag.Bool("quiet", false, "no faults")
	logs   = flag.Bool("logs", false, "print what the processes wrote")
	limit  = flag.Int("limit", 10_000, "the daily limit of a round")
	tally  process.Binary
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tally-nodes-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir) //nolint:errcheck // what is left lies in the temporary folder
		if tally, err = process.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds every wait: much more than a loaded machine needs.
const patience = 90 * time.Second

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until a condition holds, looking often.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, tick := patient(t), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// pause waits, or until the test ends.
func pause(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

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
  - {key: api_calls, event: request, aggregation: count}
plans:
  - key: limited
    currency: USD
    prices:
      - {key: calls, meter: api_calls, model: graduated, every: month, tiers: [{unit_amount: "0.0004"}]}
    limits:
      - {key: daily, meter: api_calls, quota: "%d", window: day, enforcement: hard}
  - key: steady
    currency: USD
    limits:
      - {key: burst, meter: api_calls, token_bucket: {rate: "20/s", burst: 50}}
  - key: prepaid
    currency: USD
    limits:
      - {key: prepaid, meter: api_calls, credits: true}
  - key: hundred
    currency: USD
    limits:
      - {key: daily, meter: api_calls, quota: "100", window: day, enforcement: hard}
gateway:
  routes:
    - {match: "GET /hello", upstream: "%s", meter: api_calls, cost: "1"}
`

// upstream is the API behind the gateways. It lives in the test's process and counts for itself.
type upstream struct {
	*httptest.Server
	slow time.Duration // each answer takes so long; not changed while it serves

	mu    sync.Mutex     // guards calls
	calls map[string]int // by customer
}

func newUpstream(t *testing.T, slow time.Duration) *upstream {
	t.Helper()
	u := &upstream{slow: slow, calls: map[string]int{}}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.calls[r.Header.Get("Tally-Customer")]++
		u.mu.Unlock()
		if u.slow > 0 {
			t := time.NewTimer(u.slow)
			defer t.Stop()
			select {
			case <-t.C:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, "{\"hello\":true}\n")
	}))
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

func (u *upstream) count(customer string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[customer]
}

// world is one server, its gateways and the API behind them.
type world struct {
	t        *testing.T
	dir      string
	catalog  string
	args     []string
	upstream *upstream
	server   *process.Process
	endpoint struct{ API, Gateway, Token string }
	gates    []*gate
}

// gate is one gateway with a proxy between it and the server.
type gate struct {
	w     *world
	name  string
	dir   string
	token string
	proxy *proxy
	args  []string

	mu      sync.Mutex // guards all below
	process *process.Process
	door    string // where requests go; empty: it is not there
	api     string
}

func newWorld(t *testing.T, gateways int, args ...string) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "server"), catalog: filepath.Join(t.TempDir(), "tally.yaml"), args: args, upstream: newUpstream(t, *slow)}
	w.apply(*limit)
	w.serve()
	for i := range gateways {
		w.add(fmt.Sprintf("gate-%d", i+1)).start()
	}
	for _, g := range w.gates {
		g.ready()
	}
	return w
}

// add registers a gateway and starts nothing.
func (w *world) add(name string) *gate {
	w.t.Helper()
	var made struct{ Secret string }
	w.command(&made, "gateway", "token", name)
	g := &gate{w: w, name: name, dir: filepath.Join(w.t.TempDir(), name), token: filepath.Join(w.t.TempDir(), name+".token"), proxy: newProxy(w.t)}
	if err := os.WriteFile(g.token, []byte(made.Secret+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	_, addr := w.address()
	g.proxy.target(addr)
	w.gates = append(w.gates, g)
	return g
}

// address is where the server is.
func (w *world) address() (scheme, addr string) {
	scheme, addr, _ = strings.Cut(w.endpoint.API, "://")
	return scheme, addr
}

func (w *world) apply(limit int) {
	w.t.Helper()
	if err := os.WriteFile(w.catalog, fmt.Appendf(nil, catalogText, limit, w.upstream.URL), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// serve starts the server and waits until it takes traffic.
func (w *world) serve() {
	w.t.Helper()
	p := w.run(append([]string{"serve", "--role", "server", "--catalog", w.catalog, "--dir", w.dir, "--api", "127.0.0.1:0"}, w.args...)...)
	w.server = p
	if _, err := p.Stderr.Until(patient(w.t), func(text []byte) bool { return strings.Contains(string(text), "Console  ") }); err != nil {
		w.t.Fatalf("the server did not get ready: %v", err)
	}
	w.read(filepath.Join(w.dir, "client.json"), &w.endpoint)
	_, addr := w.address()
	for _, g := range w.gates {
		g.proxy.target(addr)
	}
}

// stop ends the server by a signal.
func (w *world) stop(s syscall.Signal) {
	w.t.Helper()
	if err := w.server.Signal(s); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.server.Wait(patient(w.t)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(path string, v any) {
	w.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) run(args ...string) *process.Process {
	w.t.Helper()
	p, err := tally.Start("", args...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		p.Close()
		sound(w.t, p)
		if *logs {
			w.t.Logf("%v:\n%s", args, p.Stderr.Bytes())
		}
	})
	return p
}

// sound fails when a process wrote what no process of ours should.
func sound(t *testing.T, p *process.Process) {
	t.Helper()
	text := string(p.Stderr.Bytes())
	for _, bad := range []string{"panic:", "DATA RACE", "fatal error:"} {
		if strings.Contains(text, bad) {
			t.Errorf("a process wrote %q:\n%s", bad, text)
			return
		}
	}
}

// command runs a command against the server and reads its document.
func (w *world) command(v any, args ...string) {
	w.t.Helper()
	if err := tally.JSON(patient(w.t), v, append(args, "--dir", w.dir)...); err != nil {
		w.t.Fatal(err)
	}
}

// customer makes a customer with a key, and returns its secret.
func (w *world) customer(key, plan string) (secret string) {
	w.t.Helper()
	var made struct{ Secret string }
	var ignored any
	w.command(&ignored, "customers", "create", key, "--zone", noonZone(time.Now()))
	w.command(&ignored, "subscriptions", "create", key, plan)
	w.command(&made, "keys", "create", key)
	return made.Secret
}

// start starts the gateway's process.
func (g *gate) start() {
	g.w.t.Helper()
	scheme, _ := g.w.address()
	p := g.w.run(append([]string{
		"serve", "--role", "gateway", "--server", scheme + "://" + g.proxy.listener.Addr().String(), "--server-token-file", g.token, "--dir", g.dir, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0",
		"--output", "json",
	}, g.args...)...)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.process = p
}

// ready waits until it takes traffic.
func (g *gate) ready() {
	g.w.t.Helper()
	g.mu.Lock()
	p := g.process
	g.mu.Unlock()
	text, err := p.Stdout.Until(patient(g.w.t), func(text []byte) bool { return json.Valid(text) })
	if err != nil {
		g.w.t.Fatalf("%s did not get ready: %v\n%s", g.name, err, p.Stderr.Bytes())
	}
	var at struct{ API, Gateway string }
	if err := json.Unmarshal(text, &at); err != nil {
		g.w.t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.door, g.api = at.Gateway, at.API
}

func (g *gate) at() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.door
}

func (g *gate) signal(s syscall.Signal) {
	g.w.t.Helper()
	g.mu.Lock()
	p := g.process
	g.mu.Unlock()
	if err := p.Signal(s); err != nil {
		g.w.t.Fatal(err)
	}
}

// kill is kill -9.
func (g *gate) kill() {
	g.w.t.Helper()
	g.signal(syscall.SIGKILL)
	g.mu.Lock()
	p := g.process
	g.door = ""
	g.mu.Unlock()
	if _, err := p.Wait(patient(g.w.t)); err != nil {
		g.w.t.Fatal(err)
	}
}

// stop is SIGTERM, and must end well.
func (g *gate) stop() {
	g.w.t.Helper()
	g.signal(syscall.SIGTERM)
	g.mu.Lock()
	p := g.process
	g.door = ""
	g.mu.Unlock()
	if code, err := p.Wait(patient(g.w.t)); err != nil || code != 0 {
		g.w.t.Errorf("%s ended with %d, %v\n%s", g.name, code, err, p.Stderr.Bytes())
	}
}

// books wants the balance to be 0 with nothing left in any spool, and returns the customer's usage.
func (w *world) books(customer string) int {
	w.t.Helper()
	var books struct {
		Findings   []json.RawMessage
		Difference json.Number
		WrittenOff int `json:"written_off"`
	}
	w.command(&books, "books")
	if len(books.Findings) > 0 || books.Difference != "0" || books.WrittenOff != 0 {
		w.t.Errorf("books: %+v", books)
	}
	return w.usage(customer)
}

func (w *world) usage(customer string) int {
	w.t.Helper()
	var usage struct{ Value json.Number }
	w.command(&usage, "usage", customer, "--meter", "api_calls")
	n, err := usage.Value.Int64()
	if err != nil {
		w.t.Fatal(err)
	}
	return int(n)
}

// status of gateways as the server sees them.
func (w *world) statuses() map[string]string {
	w.t.Helper()
	var list struct {
		Items []struct {
			Name, Status string
			Lag          int `json:"spool_lag_bytes"`
		}
	}
	w.command(&list, "gateway", "list")
	out := map[string]string{}
	for _, x := range list.Items {
		out[x.Name] = x.Status
	}
	return out
}

// connected says that all gateways are, so that each is asked for what it has not handed over yet.
func (w *world) connected() bool {
	for _, status := range w.statuses() {
		if status != "connected" {
			return false
		}
	}
	return true
}

// ask sends one request through a gateway.
func (g *gate) ask(client *http.Client, secret string) (status int, event, code string, err error) {
	door := g.at()
	if door == "" {
		return 0, "", "", fmt.Errorf("%s is not there", g.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, door+"/hello", nil)
	if err != nil {
		return 0, "", "", err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	event, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Decision-Id"), "dec_"), ".")
	if resp.StatusCode != http.StatusOK && err == nil {
		var p struct{ Code string }
		if jerr := json.Unmarshal(body, &p); jerr == nil {
			code = p.Code
		}
	}
	if resp.StatusCode == http.StatusOK {
		err = nil // the client has seen it, body or not
	}
	return resp.StatusCode, event, code, err
}
