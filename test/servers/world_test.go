// Package servers_test runs several servers over one PostgreSQL behind a load balancer, with gateways in processes of their own:
// one leads, is restarted, killed and paused, and no call fails that need not, no limit is passed, nothing is lost.
package servers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/test/process"
)

var (
	logs  = flag.Bool("logs", false, "print what the processes wrote")
	tally process.Binary
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tally-servers-")
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
const patience = 60 * time.Second

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until a condition holds, looking often.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, tick := patient(t), time.NewTicker(5*time.Millisecond)
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
  - key: rated # all that is leased in memory only, with room enough
    currency: USD
    prices:
      - {key: calls, meter: api_calls, model: graduated, every: month, tiers: [{unit_amount: "0.0004"}]}
    limits:
      - {key: burst, meter: api_calls, token_bucket: {rate: "5000/s", burst: 5000}}
      - {key: minute, meter: api_calls, quota: 1000000, fixed: 1m, enforcement: hard}
      - {key: sliding, meter: api_calls, quota: 1000000, rolling: 1m, enforcement: hard}
      - {key: at_once, concurrency: 200}
gateway:
  routes:
    - {match: "GET /hello", upstream: "%s", meter: api_calls, cost: "1"}
`

// world is a database, servers on it, a load balancer before them, and gateways.
type world struct {
	t        *testing.T
	dir      string // of commands, which go through the balancer
	records  string
	shared   string // what all servers have besides
	catalog  string
	upstream *httptest.Server
	calls    atomic.Int64 // of the upstream
	balancer *balancer
	servers  []*server
	args     []string
}

// server is one process after another on one folder and one address.
type server struct {
	w       *world
	name    string
	dir     string
	addr    string
	args    []string
	process *process.Process
	earlier []*process.Process
}

// history is what the server's log says of who led, in all of its runs.
func (s *server) history() string {
	var out strings.Builder
	for _, p := range append(s.earlier, s.process) {
		for line := range strings.Lines(string(p.Stderr.Bytes())) {
			if strings.Contains(line, "lead") || strings.Contains(line, "handed over") || strings.Contains(line, "answered here") || strings.Contains(line, "WARN") || strings.Contains(line, "ERROR") {
				fmt.Fprintf(&out, "%s %s", s.name, line)
			}
		}
	}
	return out.String()
}

func newWorld(t *testing.T, servers, limit int, args ...string) *world {
	t.Helper()
	return newWorldOn(t, pgtest.Start(t, pgtest.Config{Fsync: true}).Database(t), servers, limit, args...)
}

func newWorldOn(t *testing.T, records string, servers, limit int, args ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), records: records, shared: t.TempDir(), args: args}
	w.upstream = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.calls.Add(1)
		_, _ = io.WriteString(rw, "{}\n")
	}))
	t.Cleanup(w.upstream.Close)
	w.catalog = filepath.Join(w.shared, "tally.yaml")
	if err := os.WriteFile(w.catalog, fmt.Appendf(nil, catalogText, limit, w.upstream.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	w.balancer = newBalancer(t)
	for i := range servers {
		s := &server{w: w, name: fmt.Sprintf("server-%d", i+1), dir: t.TempDir(), addr: freeAddress(t)}
		w.servers = append(w.servers, s)
		w.balancer.add(s.url())
		s.start()
	}
	for _, s := range w.servers {
		s.ready()
	}
	endpoint := map[string]any{}
	b, err := os.ReadFile(filepath.Join(w.servers[0].dir, "client.json"))
	if err == nil {
		err = json.Unmarshal(b, &endpoint)
	}
	if err != nil {
		t.Fatal(err)
	}
	endpoint["api"] = w.balancer.URL
	if b, err = json.Marshal(endpoint); err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "client.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// freeAddress is one that nobody listens at now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) start() {
	if s.process != nil {
		s.earlier = append(s.earlier, s.process)
	}
	s.w.t.Helper()
	s.process = s.w.run(append(append([]string{
		"serve", "--role", "server", "--dir", s.dir, "--api", s.addr, "--records", s.w.records, "--journal", s.w.journal(),
		"--secrets", filepath.Join(s.w.shared, "secrets"), "--catalog", s.w.catalog,
	}, s.w.args...), s.args...)...)
}

// ready waits until the server says so, and the balancer knows.
func (s *server) ready() {
	s.w.t.Helper()
	eventually(s.w.t, s.name+" is ready", func() bool { return s.w.balancer.up(s.url()) })
}

func (s *server) probe(path string) (status int, text string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url()+path, nil)
	if err != nil {
		return 0, ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// leads says whether it leads.
func (s *server) leads() bool {
	_, text := s.probe("/readyz")
	return text == "ok, leading\n"
}

// leader waits until one leads.
func (w *world) leader() (led *server) {
	w.t.Helper()
	eventually(w.t, "a server leads", func() bool {
		for _, s := range w.servers {
			if s.leads() {
				led = s
				return true
			}
		}
		return false
	})
	return led
}

// stop is SIGTERM, and must end well.
func (s *server) stop() {
	s.w.t.Helper()
	s.signal(syscall.SIGTERM)
	if code, err := s.process.Wait(patient(s.w.t)); err != nil || code != 0 {
		s.w.t.Errorf("%s ended with %d, %v\n%s", s.name, code, err, s.process.Stderr.Bytes())
	}
}

func (s *server) kill() {
	s.w.t.Helper()
	s.signal(syscall.SIGKILL)
	if _, err := s.process.Wait(patient(s.w.t)); err != nil {
		s.w.t.Fatal(err)
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.w.t.Helper()
	if err := s.process.Signal(sig); err != nil {
		s.w.t.Fatal(err)
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
		text := string(p.Stderr.Bytes())
		for _, bad := range []string{"panic:", "DATA RACE", "fatal error:"} {
			if strings.Contains(text, bad) {
				w.t.Errorf("a process wrote %q:\n%s", bad, text)
			}
		}
		if *logs {
			w.t.Logf("%v:\n%s", args, text)
		}
	})
	return p
}

// command runs a command against the deployment and reads its document.
func (w *world) command(v any, args ...string) {
	w.t.Helper()
	if err := tally.JSON(patient(w.t), v, append(args, "--dir", w.dir)...); err != nil {
		w.t.Fatal(err)
	}
}

// customer makes one on the plan "limited" with a key, and returns its secret.
func (w *world) customer(key string) (secret string) { return w.customerOn(key, "limited") }

func (w *world) customerOn(key, plan string) (secret string) {
	w.t.Helper()
	var made struct{ Secret string }
	var ignored any
	w.command(&ignored, "customers", "create", key)
	w.command(&ignored, "subscriptions", "create", key, plan)
	w.command(&made, "keys", "create", key)
	return made.Secret
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

// books wants the balance to be 0.
func (w *world) books() {
	w.t.Helper()
	var books struct {
		Findings   []json.RawMessage
		Difference json.Number
	}
	w.command(&books, "books")
	if len(books.Findings) > 0 || books.Difference != "0" {
		w.t.Errorf("books: %+v", books)
	}
}

// gateway starts one that talks to the balancer, and returns where it takes requests.
func (w *world) gateway(name string) (door string) {
	w.t.Helper()
	var made struct{ Secret string }
	w.command(&made, "gateway", "token", name)
	token := filepath.Join(w.t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(made.Secret), 0o600); err != nil {
		w.t.Fatal(err)
	}
	p := w.run("serve", "--role", "gateway", "--server", w.balancer.URL, "--server-token-file", token, "--dir", w.t.TempDir(),
		"--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--draw-timeout", "2s", "--output", "json") // as docs/many-servers.md advises
	text, err := p.Stdout.Until(patient(w.t), json.Valid)
	if err != nil {
		w.t.Fatalf("%s did not get ready: %v\n%s", name, err, p.Stderr.Bytes())
	}
	var at struct{ Gateway string }
	if err := json.Unmarshal(text, &at); err != nil {
		w.t.Fatal(err)
	}
	return at.Gateway
}

// balancer passes requests on to servers that are ready, in turn. One that cannot be connected to is left out at once.
type balancer struct {
	*httptest.Server
	next atomic.Int64
	said said

	mu   sync.Mutex
	urls []string
	fine map[string]bool
}

// said keeps what is logged.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// Bytes is the end of it.
func (s *said) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.b.Bytes()
	return bytes.Clone(b[max(0, len(b)-4096):])
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	b := &balancer{fine: map[string]bool{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1, ErrorLog: log.New(&b.said, "", log.Lmicroseconds), Transport: b.retry(transport), Rewrite: func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				http.Error(w, "balancer: "+err.Error(), http.StatusBadGateway)
			}
		},
	}
	// A body is read before it is passed on: else an answer that comes before the transport has seen the body's end is cut off, since
	// the server closes the body when the answer begins (golang/go#40747).
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
			proxy.ServeHTTP(w, r)
		}
	}))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan bool)
	go func() {
		defer close(done)
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				b.look(ctx)
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
		b.CloseClientConnections()
		b.Close()
		transport.CloseIdleConnections()
	})
	return b
}

func (b *balancer) add(u string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.urls = append(b.urls, u)
}

func (b *balancer) up(u string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fine[u]
}

// look asks all servers whether they are ready.
func (b *balancer) look(ctx context.Context) {
	b.mu.Lock()
	list := append([]string{}, b.urls...)
	b.mu.Unlock()
	var wg sync.WaitGroup
	for _, u := range list {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			fine := false
			if req, err := http.NewRequestWithContext(ctx, http.MethodGet, u+"/readyz", nil); err == nil {
				if resp, err := http.DefaultClient.Do(req); err == nil {
					fine = resp.StatusCode == http.StatusOK
					_ = resp.Body.Close()
				}
			}
			b.mu.Lock()
			b.fine[u] = fine
			b.mu.Unlock()
		})
	}
	wg.Wait()
}

func (b *balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.urls {
		u := b.urls[int(b.next.Add(1))%len(b.urls)]
		if b.fine[u] {
			return u
		}
	}
	return ""
}

type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// retry sends a request to one server, and to another one if that cannot be connected to.
func (b *balancer) retry(to http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		for try := 0; ; try++ {
			at := b.pick()
			if at == "" {
				select {
				case <-time.After(10 * time.Millisecond): // all are restarted at once
					continue
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
			u, err := url.Parse(at)
			if err != nil {
				return nil, err
			}
			r.URL.Scheme, r.URL.Host = u.Scheme, u.Host
			resp, err := to.RoundTrip(r)
			if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" && try < 500 {
				b.mu.Lock()
				b.fine[at] = false
				b.mu.Unlock()
				continue
			}
			return resp, err
		}
	})
}

// journal is where the servers keep their events: in the same database.
func (w *world) journal() string { return w.records }

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
