//go:build kafka

package kafka_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/test/fleet"
	"github.com/tallystick/tallystick/test/process"
)

const catalogText = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
  - {key: jobs, event: job, aggregation: sum, value: data.n}
plans:
  - key: limited
    currency: USD
    prices:
      - {key: calls, meter: api_calls, model: graduated, every: month, tiers: [{unit_amount: "0.0004"}]}
      - {key: jobs, meter: jobs, model: graduated, every: month, tiers: [{unit_amount: "0.01"}]}
    limits:
      - {key: daily, meter: api_calls, quota: "1000000", window: day, enforcement: hard}
gateway:
  routes:
    - {match: "GET /hello", upstream: "%s", meter: api_calls, cost: "1"}
`

// deployment is what the load and the checks talk to.
type deployment struct {
	t                *testing.T
	tally            process.Binary
	api, token, door string
	client           string // folder of commands
	customer, key    string
	calls            atomic.Int64 // of the upstream
}

// catalog is a file with a route to an upstream that counts.
func (d *deployment) catalog() string {
	d.t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		d.calls.Add(1)
		_, _ = io.WriteString(w, "{}\n")
	}))
	d.t.Cleanup(up.Close)
	path := filepath.Join(d.t.TempDir(), "tally.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, catalogText, up.URL), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// command runs a command and reads its document.
func (d *deployment) command(v any, args ...string) {
	d.t.Helper()
	if err := d.tally.JSON(patient(d.t), v, append(args, "--dir", d.client)...); err != nil {
		d.t.Fatal(err)
	}
}

// must runs a command that has to end well, and returns what it printed.
func (d *deployment) must(args ...string) []byte {
	d.t.Helper()
	r, err := d.tally.Run(patient(d.t), args...)
	if err != nil || r.Code != 0 {
		d.t.Fatalf("tally %v: exit %d, %v\n%s%s", args, r.Code, err, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func (d *deployment) subscribe(customer string) {
	d.t.Helper()
	var made struct{ Secret string }
	var ignored any
	d.command(&ignored, "customers", "create", customer, "--currency", "USD")
	d.command(&ignored, "subscriptions", "create", customer, "limited")
	d.command(&made, "keys", "create", customer)
	d.customer, d.key = customer, made.Secret
}

// ask calls the API once.
func (d *deployment) ask(client *http.Client, method, path string, body []byte, v any) error {
	req, err := http.NewRequest(method, d.api+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/cloudevents-batch+json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return process.Document(text, v)
}

// receipt is the answer to reported events.
type receipt struct{ Accepted, Duplicate, Conflict, Rejected, Unmatched int }

// report sends events once; the same ids have the same content where n is.
func (d *deployment) report(client *http.Client, ids []string, n int) (r receipt, err error) {
	var events []map[string]any
	for _, id := range ids {
		events = append(events, map[string]any{
			"specversion": "1.0", "source": "test", "id": id, "type": "job", "subject": d.customer, "data": map[string]int{"n": n},
		})
	}
	body, err := json.Marshal(events)
	if err != nil {
		return r, err
	}
	return r, d.ask(client, http.MethodPost, "/v1/events", body, &r)
}

// load reports events, each batch until it has its receipt, some of them twice and with another content, and calls a door.
type load struct {
	d    *deployment
	stop chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex // guards all below
	more     chan struct{}
	acked    []string
	retries  int
	last     string // why the last retry was
	admitted int
	lost     int
}

const (
	reporters = 2
	batchSize = 10
)

func (d *deployment) load(name string) *load {
	l := &load{d: d, stop: make(chan struct{}), more: make(chan struct{})}
	for n := range reporters {
		l.wg.Go(func() { l.reporter(fmt.Sprintf("%s-%d", name, n)) })
	}
	l.wg.Go(l.caller)
	d.t.Cleanup(l.end)
	return l
}

func (l *load) ends() bool {
	select {
	case <-l.stop:
		return true
	case <-time.After(5 * time.Millisecond):
		return false
	}
}

func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.wg.Wait()
}

func (l *load) reporter(name string) {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for n := 0; !l.ends(); n++ {
		var ids []string
		for i := range batchSize {
			ids = append(ids, fmt.Sprintf("%s-%d-%d", name, n, i))
		}
		r, ok := l.insist(client, ids, 1)
		if !ok {
			return
		}
		if r.Accepted+r.Duplicate != batchSize {
			l.d.t.Errorf("a receipt %+v for %d new events", r, batchSize)
		}
		l.mu.Lock()
		l.acked = append(l.acked, ids...)
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if n%5 == 2 { // what has a receipt is a duplicate for ever, and with another content a conflict
			if r, ok := l.insist(client, ids, 1); ok && r.Duplicate != batchSize {
				l.d.t.Errorf("a receipt %+v for %d known events", r, batchSize)
			}
			if r, ok := l.insist(client, ids, 2); ok && r.Conflict != batchSize {
				l.d.t.Errorf("a receipt %+v for %d known events with another content", r, batchSize)
			}
		}
	}
}

// insist reports until there is a receipt.
func (l *load) insist(client *http.Client, ids []string, value int) (receipt, bool) {
	for began := time.Now(); ; <-time.After(50 * time.Millisecond) {
		r, err := l.d.report(client, ids, value)
		if err == nil {
			return r, true
		}
		if time.Since(began) > patience {
			l.d.t.Errorf("no receipt in %v: %v", patience, err)
			return r, false
		}
		l.mu.Lock()
		l.retries++
		l.last = err.Error()
		l.mu.Unlock()
	}
}

// caller sends requests through the gateway. One without an answer may have been counted.
func (l *load) caller() {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for !l.ends() {
		req, err := http.NewRequest(http.MethodGet, l.d.door+"/hello", nil)
		if err != nil {
			l.d.t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+l.d.key)
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		l.mu.Lock()
		switch {
		case err == nil && resp.StatusCode == http.StatusOK:
			l.admitted++
		case err != nil:
			l.lost++
		}
		l.mu.Unlock()
	}
}

// reach waits until so many events more have their receipt.
func (l *load) reach(more int) {
	l.d.t.Helper()
	ctx := patient(l.d.t)
	l.mu.Lock()
	want := len(l.acked) + more
	l.mu.Unlock()
	for {
		l.mu.Lock()
		have, next, last := len(l.acked), l.more, l.last
		l.mu.Unlock()
		if have >= want {
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
			l.d.t.Fatalf("%d of %d events have a receipt after %v; the last failure: %s", have, want, patience, last)
		}
	}
}

// check holds the deployment against what was answered.
func (l *load) check() {
	d := l.d
	d.t.Helper()
	there := d.events("jobs")
	missing, twice := 0, 0
	for _, id := range l.acked {
		if there[id] == 0 {
			missing++
		}
	}
	for _, n := range there {
		if n > 1 {
			twice++
		}
	}
	jobs, calls := d.usage("jobs"), d.usage("api_calls")
	d.t.Logf("%d events acknowledged with %d retries (%s); %d there, %d missing, %d twice, usage %d; %d requests answered, %d without an answer, upstream %d, usage %d",
		len(l.acked), l.retries, l.last, len(there), missing, twice, jobs, l.admitted, l.lost, d.calls.Load(), calls)
	if missing > 0 || twice > 0 || len(there) != len(l.acked) || jobs != len(l.acked) {
		d.t.Error("acknowledged events are lost, or are there twice")
	}
	if calls < l.admitted || calls > l.admitted+l.lost || calls < int(d.calls.Load()) {
		d.t.Error("admitted requests are lost, or counted twice")
	}
	d.books()
}

func (d *deployment) usage(meter string) int {
	d.t.Helper()
	var usage struct{ Value json.Number }
	d.command(&usage, "usage", d.customer, "--meter", meter)
	n, err := usage.Value.Int64()
	if err != nil {
		d.t.Fatal(err)
	}
	return int(n)
}

// events says how often each id is listed.
func (d *deployment) events(meter string) map[string]int {
	d.t.Helper()
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	out := map[string]int{}
	q := url.Values{"customer": {d.customer}, "meter": {meter}, "limit": {"1000"}}
	for {
		var page struct {
			Items []struct{ ID string }
			Next  *string
		}
		if err := d.ask(client, http.MethodGet, "/v1/events?"+q.Encode(), nil, &page); err != nil {
			d.t.Fatal(err)
		}
		for _, e := range page.Items {
			out[e.ID]++
		}
		if page.Next == nil {
			return out
		}
		q.Set("cursor", *page.Next)
	}
}

func (d *deployment) books() {
	d.t.Helper()
	var books struct {
		Findings   []json.RawMessage
		Difference json.Number
		Late       json.Number
	}
	d.command(&books, "books")
	if len(books.Findings) > 0 || books.Difference != "0" {
		d.t.Errorf("books: %+v", books)
	}
}

// proves has an event proved and verified without a server, and the whole log audited.
func (d *deployment) proves(event string) {
	d.t.Helper()
	dir := d.t.TempDir()
	key, bundle := filepath.Join(dir, "key"), filepath.Join(dir, "bundle.json")
	if err := os.WriteFile(key, d.must("checkpoint", "--key", "--dir", d.client), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.must("prove", event, "--source", "test", "--out", bundle, "--dir", d.client)
	if text := d.must("verify", bundle, "--key", key); !strings.Contains(string(text), event) {
		d.t.Errorf("verify: %s", text)
	}
	d.must("audit", "--dir", d.client)
}

// examined wants the doctor to find nothing that failed, and the checks that are named.
func (d *deployment) examined(names ...string) {
	d.t.Helper()
	var found struct {
		Checks []struct{ Check, Result, Detail string }
	}
	d.command(&found, "doctor")
	have := map[string]string{}
	for _, c := range found.Checks {
		have[c.Check] = c.Result + ": " + c.Detail
	}
	for _, name := range names {
		if have[name] == "" {
			d.t.Errorf("the doctor says nothing of %s: %v", name, have)
		}
	}
	d.t.Logf("doctor: %v", have)
}

// metric reads one of a server.
func metric(t *testing.T, api, name string) string {
	t.Helper()
	resp, err := http.Get(api + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// server is one process after another on one folder.
type server struct {
	*deployment
	dir  string
	args []string
	*process.Process
}

func (s *server) start() {
	s.t.Helper()
	p, err := s.tally.Start("", append([]string{"serve", "--dir", s.dir, "--api", strings.TrimPrefix(s.api, "http://"), "--gateway", strings.TrimPrefix(s.door, "http://")}, s.args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Process = p
	s.t.Cleanup(func() {
		p.Close()
		sound(s.t, p)
		if s.t.Failed() {
			text := p.Stderr.Bytes()
			s.t.Logf("a server wrote:\n%s", text[max(0, len(text)-4000):])
		}
	})
	if _, err := p.Stderr.Until(patient(s.t), func(text []byte) bool { return strings.Contains(string(text), "Console  ") }); err != nil {
		s.t.Fatalf("the server did not get ready: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "client.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var at struct{ Token string }
	if err := json.Unmarshal(b, &at); err != nil {
		s.t.Fatal(err)
	}
	s.token = at.Token
}

// sound fails when a process wrote what no process of ours should.
func sound(t *testing.T, p *process.Process) {
	t.Helper()
	for _, bad := range []string{"panic:", "DATA RACE", "fatal error:"} {
		if text := string(p.Stderr.Bytes()); strings.Contains(text, bad) {
			t.Errorf("a process wrote %q:\n%s", bad, text)
		}
	}
}

func (s *server) kill() {
	s.t.Helper()
	if err := s.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Wait(patient(s.t)); err != nil {
		s.t.Fatal(err)
	}
}

// stop is SIGTERM, and must end well.
func (s *server) stop() {
	s.t.Helper()
	if err := s.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if code, err := s.Wait(patient(s.t)); err != nil || code != 0 {
		s.t.Errorf("the server ended with %d, %v", code, err)
	}
}

// TestServer runs one server with all roles on Kafka, with exports to Kafka and NATS. It and the broker are killed under load. All
// that was acknowledged is there once, is proved, and was told to both sinks.
func TestServer(t *testing.T) {
	t.Parallel()
	b := theBroker(t)
	d := &deployment{t: t, tally: theBinary(t)}
	s := &server{deployment: d, dir: t.TempDir()}
	d.client = s.dir
	for _, at := range []*string{&d.api, &d.door} {
		addr, err := free()
		if err != nil {
			t.Fatal(err)
		}
		*at = "http://" + addr
	}
	s.args = []string{"--catalog", d.catalog(), "--journal", b.url("alone")}
	s.start()
	d.subscribe("acme")
	sinks := newSinks(d, b)
	l := d.load("e")
	l.reach(200)
	s.kill()
	s.start()
	l.reach(200)
	b.restart(t)
	l.reach(200)
	b.down(t, s.kill)
	s.start()
	l.reach(200)
	l.end()
	l.check()
	d.proves(l.acked[0])
	sinks.check(l)
	d.examined("journal topic", "journal retention", "journal copies", "journal command size", "journal replica", "export topic", "export stream")
	if lag, failed := metric(t, d.api, "tally_kafka_lag_commands"), metric(t, d.api, "tally_kafka_failed"); lag != "0" || failed != "0" {
		t.Errorf("lag %q, failed %q", lag, failed)
	}
	s.stop()
	d.must("audit", "--stopped", "--dir", s.dir, "--journal", b.url("alone"))
	// A folder that was lost is made anew from the topic.
	if err := os.RemoveAll(filepath.Join(s.dir, "journal-kafka")); err != nil {
		t.Fatal(err)
	}
	s.start()
	l.check()
	d.proves(l.acked[0])
	s.stop()
}

// TestServers runs two servers on PostgreSQL and Kafka, with a gateway. The leader is killed, the broker, and the next leader is
// paused for longer than its lead: what it had on its way is counted once, and it ends when it goes on.
func TestServers(t *testing.T) {
	t.Parallel()
	b := theBroker(t)
	db, err := fleet.NewPostgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.CreateDatabase(t.Context(), "tally"); err != nil {
		t.Fatal(err)
	}
	d := &deployment{t: t, tally: theBinary(t)}
	storage := []string{"--records", fleet.URL(db.Addr, "tally"), "--journal", b.url("many")}
	f, err := fleet.New(fleet.Config{
		Binary: d.tally, Dir: t.TempDir(), Servers: 2, Gateways: 1, ServerArgs: []string{"--catalog", d.catalog()},
		Storage: func(int) []string { return storage },
		Started: func(p *process.Process) { t.Cleanup(func() { sound(t, p) }) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range f.Servers {
				if p := n.Process(); p != nil {
					text := p.Stderr.Bytes()
					t.Logf("%s wrote:\n%s", n.Name, text[max(0, len(text)-4000):])
				}
			}
		}
	})
	if err := f.Start(patient(t)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	kept := make(chan error, 1)
	go func() { kept <- f.Keep(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-kept; err != nil {
			t.Error(err)
		}
	})
	d.api, d.door, d.client, d.token = "http://"+f.API.Addr, "http://"+f.Doors.Addr, f.Client, f.Token
	d.subscribe("acme")
	l := d.load("m")
	l.reach(100)
	first := leader(t, f)
	if err := first.Kill(patient(t), 0); err != nil {
		t.Fatal(err)
	}
	l.reach(100)
	b.restart(t)
	l.reach(100)
	second := leader(t, f)
	deposed := second.Process()
	if err := deposed.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another server leads", func() bool { return leader(t, f) != second })
	l.reach(50)
	if err := deposed.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.reach(50)
	l.end()
	if code, err := deposed.Wait(patient(t)); err != nil || code != 1 {
		t.Errorf("a deposed leader ended with %d, %v", code, err)
	}
	for _, n := range f.Nodes() {
		if err := n.Ready(patient(t)); err != nil {
			t.Error(err)
		}
	}
	l.check()
	d.proves(l.acked[0])
	d.examined("journal topic", "journal replica")
	for _, n := range f.Servers { // also the one that does not lead
		eventually(t, n.Name+" has applied the topic", func() bool {
			applied := metric(t, "http://"+n.API, "tally_kafka_applied_offset")
			return applied != "" && applied != "0" && metric(t, "http://"+n.API, "tally_kafka_lag_commands") == "0"
		})
	}
	if err := f.Stop(patient(t)); err != nil {
		t.Error(err)
	}
	// Both folders, and one that is made now, hold the same log.
	for _, n := range f.Servers {
		d.must(append([]string{"audit", "--stopped", "--dir", filepath.Join(filepath.Dir(f.Client), n.Name), "--secrets", f.Secrets()}, storage...)...)
	}
}

// eventually waits until a condition holds, looking often.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx := patient(t)
	for !holds() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// leader waits until a server leads.
func leader(t *testing.T, f *fleet.Fleet) *fleet.Node {
	t.Helper()
	ctx := patient(t)
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for {
		for _, n := range f.Servers {
			if resp, err := client.Get("http://" + n.API + "/readyz"); err == nil {
				text, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if string(text) == "ok, leading\n" {
					return n
				}
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("no server leads")
		}
	}
}
