// Package faults_test breaks real tally processes: kill -9 under load, a full disk, an end in the middle of the demo's start.
// After each fault the books must balance, all that was answered must be in the usage, and no limit may be passed.
package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/test/process"
)

var (
	rounds = flag.Int("rounds", 1, "how many times the server is killed")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the moments at which it is killed")
	tally  process.Binary
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tally-faults-")
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

const (
	dailyLimit = 2000
	meterKey   = "api_calls"
)

// catalogText has a plan with a hard daily limit, and one without any limit.
const catalogText = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count, dimensions: [route, status]}
plans:
  - key: limited
    currency: USD
    prices:
      - {key: calls, meter: api_calls, model: graduated, every: month, tiers: [{up_to: "1000", unit_amount: "0.0015"}, {unit_amount: "0.0004"}]}
    limits:
      - {key: daily, meter: api_calls, quota: "%d", window: day, enforcement: hard}
      - {key: monthly, meter: api_calls, quota: "100000000", window: billing_period, enforcement: hard}
      - {key: spend, spend_cap: "100000.00", window: billing_period, enforcement: hard}
  - key: open
    currency: USD
    prices:
      - {key: calls, meter: api_calls, model: graduated, every: month, tiers: [{unit_amount: "0.0001"}]}
gateway:
  routes:
    - {match: "GET /hello", upstream: "%s", meter: api_calls, cost: "1"}
`

// world is one data folder, the server over it and the API behind its gateway.
type world struct {
	t        *testing.T
	dir      string
	catalog  string
	zone     string
	upstream *upstream
	server   *process.Process
	endpoint struct{ API, Gateway, Token string }
}

// newWorld readies a folder at dir; nothing runs yet.
func newWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{t: t, dir: dir, catalog: filepath.Join(t.TempDir(), "tally.yaml"), zone: noonZone(time.Now()), upstream: newUpstream(t)}
	if err := os.WriteFile(w.catalog, fmt.Appendf(nil, catalogText, dailyLimit, w.upstream.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// start starts the server; it need not get ready.
func (w *world) start(args ...string) *process.Process {
	w.t.Helper()
	args = append([]string{"serve", "--catalog", w.catalog, "--dir", w.dir, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0"}, args...)
	p, err := tally.Start("", args...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		p.Close()
		sound(w.t, p)
	})
	w.server = p
	return p
}

// sound fails when a process wrote what no process of ours should.
func sound(t *testing.T, p *process.Process) {
	t.Helper()
	text := string(p.Stderr.Bytes())
	for _, bad := range []string{"panic:", "DATA RACE", "fatal error:"} {
		if strings.Contains(text, bad) {
			t.Errorf("the server wrote %q:\n%s", bad, text)
			return
		}
	}
}

// ready starts the server and waits until it takes traffic.
func (w *world) ready(args ...string) {
	w.t.Helper()
	p := w.start(args...)
	if _, err := p.Stderr.Until(patient(w.t), func(text []byte) bool { return strings.Contains(string(text), "Console  ") }); err != nil {
		w.t.Fatalf("the server did not get ready: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(w.dir, "client.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &w.endpoint); err != nil {
		w.t.Fatal(err)
	}
}

// kill is kill -9 of the server alone.
func (w *world) kill() {
	w.t.Helper()
	if err := w.server.Signal(syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.server.Wait(patient(w.t)); err != nil {
		w.t.Fatal(err)
	}
}

// command runs a command against the server and reads its document.
func (w *world) command(v any, args ...string) {
	w.t.Helper()
	if err := tally.JSON(patient(w.t), v, append(args, "--dir", w.dir)...); err != nil {
		w.t.Fatal(err)
	}
}

// get reads a document of the API.
func (w *world) get(v any, path string, query url.Values) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.endpoint.API+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+w.endpoint.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, resp.Status, b)
	}
	return process.Document(b, v)
}

// customer is one customer with a key, and all that clients saw of it.
type customer struct {
	key, secret string
	limit       int             // of a day; 0: none
	answered    map[string]bool // event ids of all 200s
	denied      map[string]bool // decisions of all others
	lost        int             // requests without an answer
}

// customer makes a customer through the command line.
func (w *world) customer(key, plan string) *customer {
	w.t.Helper()
	var made struct{ Secret string }
	var ignored any
	w.command(&ignored, "customers", "create", key, "--zone", w.zone)
	w.command(&ignored, "subscriptions", "create", key, plan)
	w.command(&made, "keys", "create", key)
	c := &customer{key: key, secret: made.Secret, answered: map[string]bool{}, denied: map[string]bool{}}
	if plan == "limited" {
		c.limit = dailyLimit
	}
	return c
}

// saw notes answers.
func (c *customer) saw(t *testing.T, answers []answer) {
	t.Helper()
	for _, a := range answers {
		switch {
		case a.err != nil:
			c.lost++
		case a.status == http.StatusOK:
			if c.answered[a.event] {
				t.Errorf("two answers carry the decision %s", a.event)
			}
			c.answered[a.event] = true
		default:
			c.denied[a.event] = true
		}
	}
}

// figures are the books' of one customer, and what usage and limits say.
type figures struct {
	Customer                                                        string
	Admitted, Reported, Metered, Rated, Unpriced, Difference, Usage json.Number
}

// audit holds the state of a customer against what its clients and the upstream saw. Exact: nothing was in flight when the
// server ended, so every event was answered. It returns the usage.
func (w *world) audit(c *customer, exact bool) int {
	w.t.Helper()
	events, recovered := w.events(c)
	usage := w.balanced(c)
	calls := w.upstream.count(c.key)
	if len(events) != usage {
		w.t.Errorf("%s: usage is %d, but there are %d events", c.key, usage, len(events))
	}
	for id := range c.answered {
		if !events[id] {
			w.t.Errorf("%s: request %s was answered with 200 and is not in the usage", c.key, id)
		}
	}
	for id := range c.denied {
		if events[id] {
			w.t.Errorf("%s: request %s was refused and is in the usage", c.key, id)
		}
	}
	if usage < calls {
		w.t.Errorf("%s: the upstream was called %d times, the usage is %d: some were admitted unmetered", c.key, calls, usage)
	}
	if c.limit > 0 && max(calls, usage) > c.limit {
		w.t.Errorf("%s: the limit is %d; the upstream was called %d times, the usage is %d", c.key, c.limit, calls, usage)
	}
	if over := usage - len(c.answered); over > c.lost || over < recovered || exact && over != 0 {
		w.t.Errorf("%s: usage %d, answered %d, recovered %d, without an answer %d", c.key, usage, len(c.answered), recovered, c.lost)
	}
	w.spot(c)
	return usage
}

// balanced wants the books to balance and returns the customer's usage.
func (w *world) balanced(c *customer) int {
	w.t.Helper()
	var books struct {
		Findings   []json.RawMessage
		Difference json.Number
		Open       int
		Spooled    int `json:"spooled_bytes"`
		WrittenOff int `json:"written_off"`
		Rows       []figures
	}
	w.command(&books, "books")
	if len(books.Findings) > 0 {
		w.t.Errorf("signed batches went missing or were refused: %s", books.Findings)
	}
	if books.Difference != "0" || books.Open != 0 || books.Spooled != 0 || books.WrittenOff != 0 {
		w.t.Errorf("books: %+v\n%s", books, w.server.Stderr.Bytes())
	}
	var usage struct{ Value json.Number }
	w.command(&usage, "usage", c.key, "--meter", meterKey)
	var sum int64
	for _, r := range books.Rows {
		if r.Customer == c.key {
			n, err := r.Admitted.Int64()
			if err != nil {
				w.t.Fatal(err)
			}
			sum += n
			if r.Admitted != r.Metered || r.Admitted != r.Rated || r.Reported != "0" || r.Unpriced != "0" {
				w.t.Errorf("%s: books %+v", c.key, r)
			}
		}
	}
	if usage.Value.String() != fmt.Sprint(sum) {
		w.t.Errorf("%s: usage is %s, books say %d were admitted", c.key, usage.Value, sum)
	}
	return int(sum)
}

// event is an event as the API shows it.
type event struct {
	ID, Customer, Origin string
	DecisionID           string `json:"decision_id"`
	Value                json.Number
	Flags                []string
}

// events lists the ids of a customer's events, and counts those that a restart settled.
func (w *world) events(c *customer) (ids map[string]bool, recovered int) {
	w.t.Helper()
	ids = map[string]bool{}
	q := url.Values{"customer": {c.key}, "meter": {meterKey}, "limit": {"1000"}}
	for {
		var page struct {
			Items []event
			Next  *string
		}
		if err := w.get(&page, "/v1/events", q); err != nil {
			w.t.Fatal(err)
		}
		for _, e := range page.Items {
			if ids[e.ID] || e.Customer != c.key || e.Origin != "admitted" || e.Value != "1" {
				w.t.Errorf("event listed twice or wrong: %+v", e)
			}
			ids[e.ID] = true
			if slices.Contains(e.Flags, "recovered") {
				recovered++
			}
		}
		if page.Next == nil {
			return ids, recovered
		}
		q.Set("cursor", *page.Next)
	}
}

// spotted bounds how many events an audit asks for one by one.
const spotted = 25

// spot asks for some of the answered requests by id, and has one of each kind explained.
func (w *world) spot(c *customer) {
	w.t.Helper()
	some := slices.Collect(maps.Keys(c.answered))
	for _, id := range some[:min(len(some), spotted)] {
		var e event
		if err := w.get(&e, "/v1/events/"+id, nil); err != nil {
			w.t.Errorf("%s: %v", c.key, err)
			continue
		}
		if e.Customer != c.key || !strings.HasPrefix(e.DecisionID, "dec_"+id+".") {
			w.t.Errorf("%s: event %s is %+v", c.key, id, e)
		}
	}
}

// answer is what a client saw of one request.
type answer struct {
	status     int
	event      string // short id
	code       string // of a problem
	retryAfter string
	err        error // no answer
}

// refused says that no request was read: the server was gone, or its socket was closed before it looked.
func (a answer) refused() bool {
	return errors.Is(a.err, syscall.ECONNREFUSED) || errors.Is(a.err, syscall.ECONNRESET) || errors.Is(a.err, io.EOF) || errors.Is(a.err, syscall.EPIPE)
}
