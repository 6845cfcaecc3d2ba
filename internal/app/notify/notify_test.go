package notify_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// post is one request that a receiver got.
type post struct {
	url    string
	header map[string]string
	body   []byte
}

type world struct {
	*notify.Service
	t       *testing.T
	records *sqlite.Records
	cust    account.Customer
	now     time.Time
	posts   []post
	answer  func(url string) (int, error)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	records, err := sqlite.Scratch(t.Context(), filepath.Join(t.TempDir(), "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := records.Close(); err != nil {
			t.Error(err)
		}
	})
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	w := &world{
		t: t, records: records, now: now, answer: func(string) (int, error) { return 200, nil },
		cust: account.Customer{ID: "cus_01m4zpy0egjht4tbjpdy6xty7k", Key: "acme", Name: "Acme", Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD"), CreatedAt: now},
	}
	if err := records.PutCustomer(t.Context(), w.cust, store.Audit{ID: "aud_1", Time: now}); err != nil {
		t.Fatal(err)
	}
	w.Service, err = notify.New(notify.Config{
		Directory: w, Records: records, Sender: w, Now: func() time.Time { return w.now }, Random: rand.NewChaCha8([32]byte{1}),
		Key: bytes.Repeat([]byte("k"), 32), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) Customer(ref string) (account.Customer, bool) {
	return w.cust, ref == w.cust.ID || ref == w.cust.Key
}

func (w *world) Send(_ context.Context, url string, header map[string]string, body []byte) (int, error) {
	w.posts = append(w.posts, post{url, header, body})
	return w.answer(url)
}

func (w *world) hook(url string, kinds ...string) (store.Webhook, string) {
	w.t.Helper()
	h, secret, err := w.Create(w.t.Context(), "op", url, kinds)
	if err != nil {
		w.t.Fatal(err)
	}
	return h, secret
}

// passed is a limit of 100 a day of which so much is used at noon.
func (w *world) passed(percent int, consumed int64) {
	w.t.Helper()
	day := time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC)
	w.Passed(enforce.Notice{
		CustomerID: w.cust.ID, Limit: "daily", Meter: "api_calls", Percent: percent, Consumed: consumed, Quota: 100,
		WindowStart: day.UnixMicro(), WindowEnd: day.AddDate(0, 0, 1).UnixMicro(), At: w.now.UnixMicro(),
	})
	if err := w.Tick(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) notices() []store.Notice {
	w.t.Helper()
	list, err := w.List(w.t.Context(), notify.Query{CustomerID: "acme"})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) deliver() {
	w.t.Helper()
	for more := true; more; {
		var err error
		if more, err = w.Deliver(w.t.Context(), w.now); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestEachOccasionIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.passed(50, 50)
	w.passed(80, 80)
	w.passed(80, 81)
	var told []string
	for _, n := range w.notices() {
		told = append(told, n.Kind+": "+notify.Sentence(n))
	}
	slices.Sort(told)
	// At noon half of the day has passed, so 50 last until its end and 80 do not.
	want := []string{
		"limit.forecast: At this pace limit daily is used up at 2026-03-10T15:00:00Z, before it resets.",
		"limit.threshold: 50 % of limit daily is used: 50 of 100.",
		"limit.threshold: 80 % of limit daily is used: 80 of 100.",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

func TestDeliveriesAreSignedAndRetried(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h, secret := w.hook("https://a.example/x", notify.LimitThreshold)
	w.hook("https://b.example/", notify.UsageAbnormal)
	w.answer = func(string) (int, error) { return 0, errors.New("connection refused") }
	w.passed(80, 80)
	w.deliver()
	if len(w.posts) != 1 || w.posts[0].url != h.URL {
		t.Fatalf("posts %+v", w.posts)
	}
	p := w.posts[0]
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", p.header["Webhook-Id"], p.header["Webhook-Timestamp"], p.body)
	if p.header["Webhook-Signature"] != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) || w.Secret(h.ID) != secret {
		t.Errorf("header %v does not sign the body", p.header)
	}
	w.deliver()
	if len(w.posts) != 1 {
		t.Error("tried again at once")
	}
	w.now = w.now.Add(5 * time.Second)
	w.answer = func(string) (int, error) { return 503, nil }
	w.deliver()
	n, ds, err := w.Deliveries(t.Context(), p.header["Webhook-Id"])
	if err != nil || len(ds) != 1 || ds[0].Attempts != 2 || ds[0].LastError != "the receiver answered 503" || !ds[0].NextAt.Equal(w.now.Add(30*time.Second)) {
		t.Fatalf("%+v %v", ds, err)
	}
	w.answer = func(string) (int, error) { return 204, nil }
	w.now = ds[0].NextAt
	w.deliver()
	w.deliver()
	if _, ds, err = w.Deliveries(t.Context(), n.ID); err != nil || ds[0].State != store.DeliveryDelivered || len(w.posts) != 3 {
		t.Errorf("%+v %v after %d posts", ds, err, len(w.posts))
	}
	if err := w.Redeliver(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	if w.deliver(); len(w.posts) != 4 {
		t.Errorf("%d posts after a redelivery", len(w.posts))
	}
}

func TestDeliveriesAreGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hook("https://a.example/")
	w.hook("https://gone.example/")
	w.answer = func(url string) (int, error) {
		if strings.Contains(url, "gone") {
			return 410, nil
		}
		return 500, nil
	}
	w.passed(50, 50)
	for range 12 {
		w.deliver()
		w.now = w.now.Add(13 * time.Hour)
	}
	_, ds, err := w.Deliveries(t.Context(), w.notices()[0].ID)
	if err != nil || len(ds) != 2 {
		t.Fatalf("%+v %v", ds, err)
	}
	attempts := map[int]bool{}
	for _, d := range ds {
		attempts[d.Attempts] = d.State == store.DeliveryFailed
	}
	if !attempts[1] || !attempts[10] {
		t.Errorf("%+v", ds)
	}
}

func TestWebhooksAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, u := range []string{"", "ftp://a.example/", "https:///x", "https://user:pass@a.example/", "https://a.example/#x", "https://" + strings.Repeat("a", 2048)} {
		if _, _, err := w.Create(t.Context(), "op", u, nil); !errors.Is(err, account.ErrInvalid) {
			t.Errorf("%.40s: %v", u, err)
		}
	}
	if _, _, err := w.Create(t.Context(), "op", "https://a.example", []string{"limit.treshold"}); !errors.Is(err, account.ErrInvalid) {
		t.Error(err)
	}
	if _, err := w.Disable(t.Context(), "op", "whk_x"); !errors.Is(err, account.ErrNotFound) {
		t.Error(err)
	}
}

func TestAFullQueueDropsAndCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 10_002 {
		w.Tell(notify.Message{Kind: notify.UsageAbnormal, CustomerID: w.cust.ID, Once: fmt.Sprint(i), At: w.now})
	}
	if s := w.Stats(); s.Lost != 2 || s.Queued != 10_000 {
		t.Errorf("%+v", s)
	}
}

// TestTicksAtOnce: the loop's tick and that of an advanced clock store each message once, and none is taken away unstored.
func TestTicksAtOnce(t *testing.T) {
	w := newWorld(t)
	const messages = 60
	for i := range messages {
		w.Tell(notify.Message{Kind: notify.LimitThreshold, CustomerID: w.cust.ID, Once: fmt.Sprint(i), At: w.now, Limit: "daily"})
	}
	var g errgroup.Group
	for range 4 {
		g.Go(func() error { return w.Tick(t.Context()) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	stored, err := w.records.ListNotices(t.Context(), store.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) != messages {
		t.Errorf("%d of %d notices are stored", len(stored), messages)
	}
}
