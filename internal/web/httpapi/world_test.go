package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/export"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/inbox"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/app/recount"
	"github.com/tallystick/tallystick/internal/app/replay"
	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/receipt"
	coreseal "github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/tree"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/store/sqlite"
	"github.com/tallystick/tallystick/internal/web/hook"
	"github.com/tallystick/tallystick/internal/web/httpapi"
	"github.com/tallystick/tallystick/internal/web/session"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const token = "tally_op_test"

// world is the API over real services and stores, with a clock of its own. Same steps, same bytes: only request ids differ.
type world struct {
	refunds  store.Refunds
	gateways int
	t        testing.TB
	h        http.Handler
	govern   *govern.Service
	credits  *credits.Service
	enforce  *enforce.Enforcer
	receive  *receive.Receiver
	clock    *clock.Clock
	replays  *replay.Replays
	notify   *notify.Service
	exports  *export.Service
	sinks    testSinks
	collect  *collect.Service
	correct  *correct.Service
	journal  *file.Journal
	ingest   *ingest.Service
	recount  *recount.Service
	seal     *seal.Service
	sealing  bool // closes are sealed, which takes positions in the journal
	ready    bool
	log      bytes.Buffer
	// link stands for what makes portal links, where a test needs it to fail or to wait.
	link func(ref string, ttl time.Duration) (string, time.Time, error)

	mu   sync.Mutex // guards real
	real time.Time
}

// locked is a reader for several goroutines.
type locked struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *locked) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(b)
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.real
}

// step lets a second pass, so that ids made after it sort behind those before it.
func (w *world) step() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.real = w.real.Add(time.Second)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return openWorld(t, account.Test)
}

func openWorld(t testing.TB, mode account.Mode) *world {
	t.Helper()
	w := &world{t: t, ready: true, real: time.Date(2026, 10, 15, 12, 0, 0, 0, time.UTC)}
	dir, ctx := t.TempDir(), t.Context()
	random := &locked{r: rand.NewChaCha8([32]byte{})}
	records := must[*sqlite.Records](t)(sqlite.Scratch(ctx, filepath.Join(dir, "records.db")))
	w.journal = must[*file.Journal](t)(file.Open(file.Config{Dir: filepath.Join(dir, "journal")}))
	log := slog.New(slog.NewTextHandler(&w.log, nil))
	state := clock.State{}
	w.clock = must[*clock.Clock](t)(clock.New(clock.Config{
		Real: w.now, Test: mode == account.Test, Load: func() (clock.State, error) { return state, nil },
		Save: func(s clock.State) error { state = s; return nil },
	}))
	w.govern = must[*govern.Service](t)(govern.New(ctx, govern.Config{
		Records: records, Journal: w.journal, Now: w.clock.Now, Random: random, Pepper: make([]byte, 32), Mode: mode,
	}))
	w.credits = must[*credits.Service](t)(credits.New(ctx, credits.Config{
		Directory: w.govern, Records: records, Journal: w.journal, Flush: func(ctx context.Context) error { return w.enforce.Flush(ctx) }, Now: w.clock.Now,
		Random: rand.NewChaCha8([32]byte{9}), Tell: func(context.Context, notify.Message) error { return nil },
	}))
	sp := must[*spool.Spool](t)(spool.Open(spool.Config{Dir: filepath.Join(dir, "spool")}))
	ring := must[*receipt.Keyring](t)(receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32))))
	w.receive = must[*receive.Receiver](t)(receive.New(ctx, receive.Config{Journal: w.journal, Records: records, Now: w.clock.Now, Random: &locked{r: rand.NewChaCha8([32]byte{1})}}))
	signer := must[*receive.Signer](t)(receive.NewSigner(make([]byte, 32)))
	must[store.GatewayKey](t)(w.receive.Register(ctx, 1, signer.Public()))
	quotas := must[*authority.Service](t)(authority.New(authority.Config{
		Directory: w.govern, Leases: records, Journal: w.journal, Now: w.clock.Now, Mono: func() time.Duration { return 0 }, Local: 1, Log: log, Credits: w.credits.Units,
	}))
	w.enforce = must[*enforce.Enforcer](t)(enforce.Open(ctx, enforce.Config{
		Directory: w.govern, Spool: sp, Authority: quotas, Past: enforce.JournalPast{Journal: w.journal}, Keyring: ring, Node: 1, Boot: "b", Now: w.clock.Now, Real: w.clock.Now, Log: log,
		Deliver: receive.NewSender(1, signer, w.receive).Deliver,
	}))
	in := must[*ingest.Service](t)(ingest.New(ingest.Config{
		Directory: w.govern, Journal: w.journal, Now: w.clock.Now, Counted: w.enforce.Counted, Flush: w.enforce.Flush,
	}))
	w.ingest = in
	used := must[*usage.Service](t)(usage.New(usage.Config{Directory: w.govern, Journal: w.journal, Now: w.clock.Now, Flush: w.enforce.Flush}))
	w.recount = must[*recount.Service](t)(recount.New(recount.Config{
		Directory: w.govern, Journal: w.journal, Records: records, Reread: in.Reread, Resolve: in.Resolve, Now: w.clock.Now, Random: random, Counted: w.enforce.Counted, Flush: w.enforce.Flush,
	}))
	own := &locked{r: rand.NewChaCha8([32]byte{1})} // the ids of others do not depend on it
	noteKey, verifier, err := coreseal.NewKey(own, coreseal.Origin("test"))
	if err != nil {
		t.Fatal(err)
	}
	tiles := must[*tree.Tree](t)(tree.Open(tree.Config{Dir: filepath.Join(dir, "journal", "tree")}))
	w.seal = must[*seal.Service](t)(seal.Open(ctx, seal.Config{
		Seals: records, Keys: records, Invoices: records, Journal: w.journal, Tiles: tiles, Signer: noteKey, Verifier: verifier, Now: w.clock.Now, Random: own,
	}))
	bills := must[*bill.Service](t)(bill.New(bill.Config{Directory: w.govern, Journal: w.journal, Invoices: records, Now: w.clock.Now, Seal: w.sealCloses}))
	w.correct = must[*correct.Service](t)(correct.New(correct.Config{
		Directory: w.govern, Resolver: in, Journal: w.journal, Backfills: records, Closes: records, Audit: w.govern.Audit, Now: w.clock.Now,
		Random: random, Counted: w.enforce.Counted, Flush: w.enforce.Flush,
	}))
	unmatched := must[*inbox.Service](t)(inbox.New(inbox.Config{
		Directory: w.govern, Resolver: in, Journal: w.journal, Now: w.clock.Now, Audit: w.govern.Audit, Counted: w.enforce.Counted,
	}))
	w.clock.OnAdvance(w.enforce.Flush, func(ctx context.Context) error {
		for more := true; more; {
			var err error
			if more, err = bills.Tick(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	told := must[*notify.Service](t)(notify.New(notify.Config{
		Directory: w.govern, Records: records, Sender: hook.New(), Now: w.clock.Now, Random: &locked{r: rand.NewChaCha8([32]byte{2})}, Key: make([]byte, 32), Log: log,
	}))
	w.notify, w.refunds = told, records
	w.collect = must[*collect.Service](t)(collect.New(collect.Config{
		Directory: w.govern, Records: records, Now: w.clock.Now, Random: &locked{r: rand.NewChaCha8([32]byte{3})}, Post: told.Post, Suspend: w.govern.SetUnpaid, Log: log,
	}))
	w.exports = must[*export.Service](t)(export.New(export.Config{
		Journal: w.journal, Records: records, Sinks: &w.sinks, Source: "test", Now: w.clock.Now, Real: w.now, Random: &locked{r: rand.NewChaCha8([32]byte{5})},
	}))
	w.replays = must[*replay.Replays](t)(replay.New(records, make([]byte, 32), random, w.now))
	w.h = must[http.Handler](t)(httpapi.New(httpapi.Config{
		Govern: w.govern, Credits: w.credits, Enforce: w.enforce, Receive: w.receive, Ingest: in, Bill: bills, Collect: w.collect, BillingRuns: billingRuns(t, w, records, bills), Seal: w.seal, Usage: used, Recount: w.recount, Correct: w.correct, Inbox: unmatched,
		Clock: w.clock, Replays: w.replays, Notify: told, Exports: w.exports, Refunds: records.ListRefunds, GatewayCount: func(context.Context) (int, error) { return w.gateways, nil },
		Signer: session.New(make([]byte, 32), token, w.now), Version: "test", Ready: func() bool { return w.ready },
		PortalLink: func(ref string, ttl time.Duration) (string, time.Time, error) {
			if w.link != nil {
				return w.link(ref, ttl)
			}
			return "http://127.0.0.1:8080/portal/open?token=" + ref, w.now().Add(ttl), nil
		},
		Metrics: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "tally_up 1\n") }),
		Log:     log, Real: w.now,
	}))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		for _, err := range []error{w.enforce.Close(ctx), tiles.Close(), sp.Close(), w.journal.Close(), records.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

func (w *world) sealCloses(ctx context.Context, list []store.Sealing) error {
	if !w.sealing {
		return nil
	}
	return w.seal.SealCloses(ctx, list)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request with the operator's token; header pairs follow the body.
func (w *world) call(method, path, body string, header ...string) answer {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	return answer{rec.Code, rec.Header(), rec.Body.Bytes()}
}

func (w *world) get(path string) answer {
	w.t.Helper()
	return w.call(http.MethodGet, path, "")
}

// want is a call that must answer with a status.
func (w *world) want(status int, method, path, body string, header ...string) answer {
	w.t.Helper()
	a := w.call(method, path, body, header...)
	if a.status != status {
		w.t.Fatalf("%s %s: status %d, want %d: %s\n%s", method, path, a.status, status, a.body, w.log.String())
	}
	return a
}

// field reads a field of a JSON answer by its path, for example "items.0.id".
func (a answer) field(t testing.TB, path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	for part := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i := int(part[0] - '0')
			if i >= len(x) {
				t.Fatalf("%s: the list has %d: %s", path, len(x), a.body)
			}
			v = x[i]
		default:
			t.Fatalf("%s is not in %s", path, a.body)
		}
	}
	return v
}

func (a answer) text(t testing.TB, path string) string {
	t.Helper()
	s, ok := a.field(t, path).(string)
	if !ok {
		t.Fatalf("%s is not a string in %s", path, a.body)
	}
	return s
}

// golden compares an answer with a file; ids of requests are left out.
func (w *world) golden(name string, a answer) {
	w.t.Helper()
	var out bytes.Buffer
	for _, h := range []string{"Content-Type", "Retry-After", "WWW-Authenticate", "Allow", "Idempotent-Replayed"} {
		if v := a.header.Get(h); v != "" {
			out.WriteString(h + ": " + v + "\n")
		}
	}
	out.WriteString("Status: " + http.StatusText(a.status) + "\n\n")
	body := a.body
	if id := a.header.Get("Request-Id"); id != "" {
		body = bytes.ReplaceAll(body, []byte(id), []byte("req_…"))
	}
	if json.Valid(body) {
		var indented bytes.Buffer
		if err := json.Indent(&indented, body, "", "  "); err != nil {
			w.t.Fatal(err)
		}
		body = indented.Bytes()
	}
	out.Write(bytes.TrimRight(body, "\n"))
	out.WriteString("\n")
	compare(w.t, filepath.Join("testdata", name+".txt"), out.Bytes())
}

func compare(t testing.TB, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with: go test ./internal/web/httpapi -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

const testCatalog = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count, dimensions: [route]}
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens, unit: tokens, scale: 2}
plans:
  - key: free
    currency: USD
    limits:
      - {key: burst, meter: api_calls, token_bucket: {rate: "200/s", burst: "200"}}
      - {key: daily, meter: api_calls, quota: "3", window: day, enforcement: hard}
  - key: pro
    currency: USD
    prices:
      - {key: platform, model: flat, amount: "20.00", every: month, charge: in_advance}
      - key: calls
        meter: api_calls
        model: graduated
        every: month
        tiers:
          - {up_to: "2", unit_amount: "0"}
          - {unit_amount: "0.0004"}
    limits:
      - {key: spend, spend_cap: "500.00", window: billing_period, enforcement: hard}
gateway:
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9000", meter: api_calls, cost: "1"}
`

// apply puts the test's catalog in force.
func (w *world) apply() answer {
	w.t.Helper()
	return w.want(http.StatusCreated, http.MethodPost, "/v1/catalog/versions?file=tally.yaml", testCatalog, "Content-Type", "application/yaml")
}

// subscribe makes a customer with a key on a plan, and returns the key's secret.
func (w *world) subscribe(customer, plan string) (secret string) {
	w.t.Helper()
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"`+customer+`"}`)
	a := w.want(http.StatusCreated, http.MethodPost, "/v1/keys", `{"customer":"`+customer+`"}`)
	w.want(http.StatusCreated, http.MethodPost, "/v1/subscriptions", `{"customer":"`+customer+`","plan":"`+plan+`"}`)
	return a.text(w.t, "secret")
}

// request asks the gateway's limiter as a client would, and settles.
func (w *world) request(secret string) *enforce.Admission {
	w.t.Helper()
	route := w.govern.Current().Routes[0]
	a := w.enforce.Admit(w.t.Context(), enforce.Request{Secret: secret, Route: &route, Method: http.MethodGet})
	if a.Allowed() {
		if err := a.Settle(enforce.Actual{Status: http.StatusOK}); err != nil {
			w.t.Fatal(err)
		}
	}
	return a
}
