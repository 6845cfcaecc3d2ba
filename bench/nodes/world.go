package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/bench/load"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/test/fleet"
	"github.com/tallystick/tallystick/test/process"
)

const (
	keysOfOne    = 10 // keys of a customer
	drainPoll    = 100 * time.Millisecond
	drainMax     = 5 * time.Minute
	startMax     = 5 * time.Minute
	databaseName = "tally"
	drawTimeout  = "2s" // as docs/many-servers.md advises; on a machine that other work shares, 300 ms are over before a new customer's lease is there
)

// catalogYAML has a bucket and a quota of the customer, and a quota of each key, none of which is ever reached.
const catalogYAML = `tallystick: 1
meters:
  - {key: calls, event: request, aggregation: count}
plans:
  - key: bench
    currency: USD
    prices:
      - {key: calls, meter: calls, model: graduated, every: month, tiers: [{unit_amount: "0.000001"}]}
    limits:
      - {key: burst, meter: calls, token_bucket: {rate: "1000000/s", burst: 1000000}}
      - {key: daily, meter: calls, quota: "1000000000000", window: day}
      - {key: each, meter: calls, quota: "1000000000", window: day, per: [key]}
gateway:
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9", meter: calls}
`

// world is the deployment that is measured.
type world struct {
	o         options
	dir       string
	postgres  *fleet.Postgres
	fleet     *fleet.Fleet
	doors     []string // of the gateways, over gRPC
	hot, many string   // files of keys
}

// newWorld starts all, with keys. The keys are made before there are gateways, which would be told of each.
func newWorld(ctx context.Context, o options) (w *world, err error) {
	w = &world{o: o}
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	if w.dir, err = os.MkdirTemp("", "tally-bench"); err != nil {
		return w, err
	}
	if w.postgres, err = fleet.NewPostgres(ctx); err != nil {
		return w, err
	}
	if err := w.postgres.CreateDatabase(ctx, databaseName); err != nil {
		return w, err
	}
	if err := w.start(ctx, 0); err != nil {
		return w, err
	}
	hot, err := w.makeHot(ctx)
	if err != nil {
		return w, err
	}
	if err := w.fleet.Stop(ctx); err != nil {
		return w, err
	}
	w.fleet.Close()
	if err := w.makeMany(ctx, hot); err != nil {
		return w, err
	}
	if _, err := w.postgres.QueryIn(ctx, databaseName, "VACUUM ANALYZE"); err != nil {
		return w, err
	}
	return w, w.start(ctx, slices.Max(numbers()))
}

// start starts the server, and gateways that ask it without a balancer between them.
func (w *world) start(ctx context.Context, gateways int) error {
	binary, err := filepath.Abs(w.o.tally)
	if err != nil {
		return err
	}
	file := filepath.Join(w.dir, "bench.yaml")
	if err := os.WriteFile(file, []byte(catalogYAML), 0o600); err != nil {
		return err
	}
	url := fleet.URL(w.postgres.Addr, databaseName)
	journal := url
	if w.o.journal == "file" {
		journal = "file://" + filepath.Join(w.dir, "journal")
	}
	w.doors = make([]string, gateways)
	for i := range w.doors {
		if w.doors[i], err = fleet.FreeAddr(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	w.fleet, err = fleet.New(fleet.Config{
		Binary: process.Binary(binary), Dir: w.dir, Servers: 1, Gateways: gateways, ServerArgs: []string{"--catalog", file},
		Storage:  func(int) []string { return []string{"--records", url, "--journal", journal} },
		Path:     func(int) string { return "http://" + w.fleet.Servers[0].API },
		GateArgs: func(i int) []string { return []string{"--grpc", w.doors[i], "--draw-timeout", drawTimeout} },
	})
	if err != nil {
		return err
	}
	return w.fleet.Start(ctx)
}

func (w *world) close() {
	if w.fleet != nil {
		w.fleet.Close()
	}
	if w.postgres != nil {
		_ = w.postgres.Close() // a temporary folder
	}
	_ = os.RemoveAll(w.dir) // another one
}

// makeHot makes one customer with one key.
func (w *world) makeHot(ctx context.Context) (secret string, err error) {
	_, err1 := w.post(ctx, "customers", map[string]any{"key": "c0"})
	_, err2 := w.post(ctx, "subscriptions", map[string]any{"customer": "c0", "plan": "bench"})
	secret, err3 := w.post(ctx, "keys", map[string]any{"customer": "c0"})
	w.hot = filepath.Join(w.dir, "hot")
	return secret, errors.Join(err1, err2, err3, os.WriteFile(w.hot, []byte(secret), 0o600))
}

// makeMany copies the hot customer's records in the database, since a call for each would take longer than all that is measured.
// The server must not run.
func (w *world) makeMany(ctx context.Context, hot string) error {
	text, err := os.ReadFile(filepath.Join(w.fleet.Secrets(), "pepper"))
	if err != nil {
		return err
	}
	pepper, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	mode := account.Live
	if strings.HasPrefix(hot, "tally_test_") {
		mode = account.Test
	}
	now := time.Now()
	var failed error
	id := func(kind string) string {
		id, err := account.NewID(kind, now, rand.Reader)
		failed = errors.Join(failed, err)
		return id
	}
	var customers, names, subscriptions, keys, owners, labels, digests, secrets []string
	for c := range w.o.keys / keysOfOne {
		customers, names, subscriptions = append(customers, id("cus")), append(names, fmt.Sprintf("c%d", c+1)), append(subscriptions, id("sub"))
		for k := range keysOfOne {
			secret, err := account.NewSecret(mode, rand.Reader)
			failed = errors.Join(failed, err)
			mac := hmac.New(sha256.New, pepper)
			mac.Write([]byte(secret))
			keys, owners, labels = append(keys, id("key")), append(owners, customers[c]), append(labels, fmt.Sprintf("k%d", k))
			digests, secrets = append(digests, `\x`+hex.EncodeToString(mac.Sum(nil))), append(secrets, secret)
		}
	}
	if failed != nil {
		return failed
	}
	db, err := pgx.Connect(ctx, fleet.URL(w.postgres.Addr, databaseName))
	if err != nil {
		return err
	}
	defer db.Close(ctx) //nolint:errcheck // all is committed
	for _, x := range []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO customers SELECT r.* FROM customers t, unnest($1::text[], $2::text[]) n(id, key), jsonb_populate_record(t, to_jsonb(n)) r WHERE t.key = 'c0'", []any{customers, names}},
		{"INSERT INTO subscriptions SELECT r.* FROM subscriptions t, unnest($1::text[], $2::text[]) n(id, customer_id), jsonb_populate_record(t, to_jsonb(n)) r", []any{subscriptions, customers}},
		{"INSERT INTO api_keys SELECT r.* FROM api_keys t, unnest($1::text[], $2::text[], $3::text[], $4::text[]) n(id, customer_id, name, digest), jsonb_populate_record(t, to_jsonb(n)) r", []any{keys, owners, labels, digests}},
	} {
		if _, err := db.Exec(ctx, x.sql, x.args...); err != nil {
			return fmt.Errorf("%s: %w", x.sql, err)
		}
	}
	w.many = filepath.Join(w.dir, "many")
	return os.WriteFile(w.many, []byte(strings.Join(secrets, "\n")), 0o600)
}

func (w *world) post(ctx context.Context, what string, body map[string]any) (secret string, err error) {
	return load.Create(ctx, "http://"+w.fleet.Servers[0].API, w.fleet.Token, what, body)
}

// metrics are the numbers that some gateways tell, added up, by name and labels as they stand there.
func (w *world) metrics(ctx context.Context, gates []*fleet.Node) (map[string]float64, error) {
	sum := map[string]float64{}
	for _, node := range gates {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node.API+"/metrics", nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, ok := strings.Cut(lines.Text(), " ")
			if !ok || strings.HasPrefix(name, "#") {
				continue
			}
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				continue // a line that is not wanted here
			}
			sum[name] += f
		}
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// drained waits until all that gateways decided is in the journal.
func (w *world) drained(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < drainMax; time.Sleep(drainPoll) {
		m, err := w.metrics(ctx, w.fleet.Gateways)
		if err != nil {
			return err
		}
		lag, ok := m["tally_spool_lag_bytes"]
		if !ok {
			return errors.New("the gateways do not tell tally_spool_lag_bytes")
		}
		if lag == 0 {
			return nil
		}
	}
	return fmt.Errorf("usage did not reach the journal within %s", drainMax)
}

// cpu is what some gateways, and what server and PostgreSQL have used so far.
func (w *world) cpu(gates []*fleet.Node) (gateways, rest time.Duration, err error) {
	for _, node := range gates {
		d, err := load.CPU(node.Process().PID())
		if err != nil {
			return 0, 0, err
		}
		gateways += d
	}
	server, err := load.CPU(w.fleet.Servers[0].Process().PID())
	if err != nil {
		return 0, 0, err
	}
	database, err := load.GroupCPU(w.postgres.PID())
	return gateways, server + database, err
}
