package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/gateway"
	"github.com/tallystick/tallystick/internal/web/session"
)

//go:embed demo.yaml
var demoCatalog []byte

// demoSeeded and demoBegan are settings of a demo folder: whether its history is complete, and the instant it is counted from.
const (
	demoSeeded = "demo.seeded"
	demoBegan  = "demo.began"
	// demoAddress is where the demo API answered last; demoUpstream stands for it in demo.yaml.
	demoAddress  = "demo.upstream"
	demoUpstream = "http://127.0.0.1:9000"
)

// demoCustomer is one customer of the demo. Daily is how many calls it reports on an average day.
type demoCustomer struct {
	key, name, zone, plan, secret string
	daily                         int
}

func demoCustomers() []demoCustomer {
	return []demoCustomer{
		{key: "acme", name: "Acme GmbH", zone: "Europe/Berlin", plan: "pro", secret: "demo_pro", daily: 480},
		{key: "bolt", name: "Bolt Labs", zone: "Europe/Paris", plan: "free", secret: "demo_free", daily: 40},
		{key: "cobalt", name: "Cobalt Inc.", zone: "America/New_York", plan: "pro", daily: 210},
		{key: "dune", name: "Dune Studio", zone: "Asia/Kathmandu", plan: "free", daily: 25},
	}
}

// The demo's past: subscriptions began historyStart ago, usage was reported for the last historyUsage.
const (
	historyStart = 65 * 24 * time.Hour
	historyDays  = 30
)

type demoCmd struct {
	listen
	// As of tally serve, but never from the environment: a demo must be put into a database by its name alone.
	Role      string       `help:"all: server and gateway; server: no gateway port." enum:"all,server" default:"all"`
	Records   string       `help:"Where the records are, as with tally serve: postgres://… for a demo of several servers." placeholder:"URL"`
	Journal   string       `help:"Where usage events are, as with tally serve." placeholder:"URL"`
	Secrets   string       `help:"Folder of the deployment's secrets, as with tally serve." type:"path" placeholder:"DIR"`
	Advertise string       `help:"URL at which the other servers reach this one's API." placeholder:"URL"`
	Upstream  string       `help:"URL of a demo API that runs already; else one is started." placeholder:"URL"`
	Story     string       `help:"Tell a story instead: year is twelve months of 50 customers on a test clock." enum:",year" default:"" placeholder:"year"`
	Out       string       `help:"With --story: where the invoices are written as PDF (default DIR/invoices)." type:"path" placeholder:"DIR"`
	Serve     bool         `help:"With --story: stay up with console and API at its end."`
	Reset     demoResetCmd `cmd:"" help:"Delete the demo's data folder, so that the next demo starts anew."`
	Run_      demoRunCmd   `cmd:"" default:"1" hidden:"" name:"run"`
}

type demoRunCmd struct{}

func (c *demoRunCmd) Run(e *cli.Env, d *demoCmd) error {
	kept := storage{Records: d.Records, Journal: d.Journal, Secrets: d.Secrets, Advertise: d.Advertise}
	if d.Story != "" {
		if kept != (storage{}) {
			return errors.New("--story is told in a data folder: leave --records, --journal, --secrets and --advertise away")
		}
		return d.tell(e)
	}
	up := &upstream{url: d.Upstream, stop: func() {}}
	if d.Upstream == "" {
		var err error
		if up, err = startUpstream(e.Ctx, e.Stderr); err != nil {
			return err
		}
	}
	defer up.stop()
	s := &server{
		ports: ports{listen: d.listen, log: logger(e.Stderr)}, apart: apart{Role: d.Role}, storage: kept, dir: e.DataDir(), mode: "test", grace: 0,
		demo: true, upstream: up.url,
	}
	started := time.Now()
	if s.shared() { // whoever leads first seeds
		return s.runMember(e.Ctx, func(ctx context.Context) error {
			if s.Role == roleServer || !s.serving.Load() {
				return s.announceMember(ctx, e)
			}
			return s.announce(ctx, e, time.Since(started))
		})
	}
	return s.run(e.Ctx, func(ctx context.Context) error {
		started = time.Now()
		if err := s.seed(ctx); err != nil {
			return err
		}
		return s.announce(ctx, e, time.Since(started))
	})
}

// seed makes the demo's catalog, customers and history through the same services that the API uses. It may be interrupted
// anywhere: every step finds out what is there, and events have fixed ids.
func (s *server) seed(ctx context.Context) error {
	if err := s.seedAll(ctx); err != nil {
		return fmt.Errorf("demo data: %w (start again to go on, or: tally demo reset)", err)
	}
	return nil
}

func (s *server) seedAll(ctx context.Context) error {
	told, err := s.records.Setting(ctx, storyTold)
	if err != nil {
		return err
	}
	if told != "" {
		return fmt.Errorf("%s holds the story of a year: serve it with --story year --serve, or name another folder with --dir", s.dir)
	}
	if err := s.demoCatalog(ctx); err != nil {
		return err
	}
	done, err := s.records.Setting(ctx, demoSeeded)
	if err != nil {
		return err
	}
	if done == "" {
		began, err := s.demoStart(ctx)
		if err != nil {
			return err
		}
		for _, c := range demoCustomers() {
			if err := s.seedCustomer(ctx, c, began); err != nil {
				return err
			}
		}
		if err := s.records.PutSetting(ctx, demoSeeded, "yes"); err != nil {
			return err
		}
	}
	s.billing.Store(true)
	if err := s.billAll(ctx); err != nil {
		return err
	}
	return s.compareBooks(ctx)
}

// demoCatalog applies the demo's catalog; a catalog that the user has changed since only gets the upstream's new address.
func (s *server) demoCatalog(ctx context.Context) error {
	source := []byte(strings.ReplaceAll(string(demoCatalog), demoUpstream, s.upstream))
	if v := s.govern.Current().Version; v > 0 {
		have, err := s.govern.Catalog(ctx, v)
		if err != nil {
			return err
		}
		old, err := s.records.Setting(ctx, demoAddress)
		if err != nil {
			return err
		}
		if old != "" {
			source = []byte(strings.ReplaceAll(string(have.Source), old, s.upstream))
		}
	}
	if err := s.records.PutSetting(ctx, demoAddress, s.upstream); err != nil {
		return err
	}
	_, _, err := s.govern.ApplyCatalog(ctx, "demo", "demo.yaml", source)
	return err
}

// demoStart is the instant that the history is counted from, fixed by the first run.
func (s *server) demoStart(ctx context.Context) (time.Time, error) {
	began, err := s.records.Setting(ctx, demoBegan)
	if err != nil {
		return time.Time{}, err
	}
	if began == "" {
		began = period.Format(s.clock.Now())
		if err := s.records.PutSetting(ctx, demoBegan, began); err != nil {
			return time.Time{}, err
		}
	}
	return time.Parse(time.RFC3339Nano, began)
}

func (s *server) seedCustomer(ctx context.Context, c demoCustomer, began time.Time) error {
	cust, ok := s.govern.Customer(c.key)
	if !ok {
		var err error
		cust, err = s.govern.CreateCustomer(ctx, "demo", govern.NewCustomer{Key: c.key, Name: c.name, Zone: c.zone, Currency: "USD"})
		if err != nil {
			return err
		}
	}
	if len(s.govern.SubscriptionsOf(cust.ID)) == 0 {
		y, m, d := cust.Zone.Date(began.Add(-historyStart))
		_, err := s.govern.CreateSubscription(ctx, "demo", govern.NewSubscription{
			Customer: cust.ID, Plan: c.plan, Start: cust.Zone.StartOfDay(y, m, d),
		})
		if err != nil {
			return err
		}
	}
	if c.secret != "" {
		keys, err := s.govern.ListKeys(ctx, store.Query{CustomerID: cust.ID, Limit: 1})
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			if _, _, err := s.govern.CreateKey(ctx, "demo", govern.NewKey{Customer: cust.ID, Name: "demo", Fixed: c.secret}); err != nil {
				return err
			}
		}
	}
	return s.seedUsage(ctx, c, cust, began)
}

// seedUsage reports the customer's past, one event a call, up to the last local midnight: today's quota stays untouched.
func (s *server) seedUsage(ctx context.Context, c demoCustomer, cust account.Customer, began time.Time) error {
	y, m, d := cust.Zone.Date(began)
	rnd := rand.New(rand.NewPCG(uint64(len(c.key)), uint64(c.daily))) //nolint:gosec // the history must be the same each time
	var batch []meter.Event
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		outcomes, err := s.ingest.Report(ctx, "demo", batch)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Status != "accepted" && o.Status != "duplicate" {
				return fmt.Errorf("event %s: %s %s", o.ID, o.Status, o.Rule)
			}
		}
		batch = batch[:0]
		return nil
	}
	for day := -historyDays; day < 0; day++ {
		start := cust.Zone.StartOfDay(y, m, d+day)
		end := cust.Zone.StartOfDay(y, m, d+day+1)
		n := c.daily*3/4 + rnd.IntN(c.daily/2+1)
		for i := range n {
			at := start.Add(time.Duration(rnd.Int64N(int64(end.Sub(start)))))
			batch = append(batch, meter.Event{
				Source: "demo/history", ID: fmt.Sprintf("%s-%d-%d", c.key, -day, i), Type: "request", Subject: c.key,
				Time: period.Truncate(at), Data: []byte(`{"route":"GET /hello"}`),
			})
			if len(batch) == 1000 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

func (s *server) announce(ctx context.Context, e *cli.Env, took time.Duration) error {
	b, err := s.bill.Books(ctx, "")
	if err != nil {
		return err
	}
	issued, err := s.bill.Invoices(ctx, store.Query{Limit: 1})
	if err != nil {
		return err
	}
	invoices := int64(0)
	if len(issued) > 0 {
		invoices = issued[0].Number
	}
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]any{
			"api": s.endpoint.API, "gateway": s.endpoint.Gateway, "token": s.endpoint.Token, "dir": s.dir,
			"keys": map[string]string{"free": "demo_free", "pro": "demo_pro"}, "invoices": invoices, "difference": b.Difference.String(),
		})
	}
	link, _, err := s.portalLink("acme", session.LinkTTL)
	if err != nil {
		return err
	}
	dir := ""
	if e.Dir != "" {
		dir = " --dir " + e.Dir
	}
	where := s.dir + " (embedded)"
	if s.shared() {
		where = "PostgreSQL"
	}
	_, err = fmt.Fprintf(e.Stdout, `  store     %s
  gateway   %s → demo API %s
  catalog   version %d: free 100 calls a day, hard · pro $20.00 a month, 10000 calls included, then $0.0004
  history   %d customers, %d days of usage, %d invoices issued    %.1f s
  books     admitted %s + reported %s − voided %s = metered %s = rated %s + unpriced %s, difference %s
  demo      keys, money and clock are for trying out; the clock can be advanced

  Console   %s            token %s
  Portal    %s

  Next, in another shell:
    bin/tally burst demo_free 101%s
    bin/tally explain DECISION_ID%s
    bin/tally burst demo_pro 1000%s
    bin/tally clock advance --to period-end%s
    bin/tally invoices list%s
  Stop with Ctrl-C; start again and it goes on where it was.
`, where, s.endpoint.Gateway, s.upstream, s.govern.Current().Version, len(demoCustomers()), historyDays, invoices, took.Seconds(),
		b.Admitted, b.Reported, b.Voided, b.Metered, b.Rated, b.Unpriced, b.Difference, s.endpoint.API, s.endpoint.Token, link, dir, dir, dir, dir, dir)
	return err
}

type demoResetCmd struct{}

// Run deletes a demo's folder and nothing else.
func (demoResetCmd) Run(e *cli.Env) error {
	if _, err := os.Stat(e.DataDir()); err != nil { // opening would make one
		return fmt.Errorf("%s is not a demo's folder: %w", e.DataDir(), err)
	}
	f, err := openFolder(e.DataDir())
	if err != nil {
		return err
	}
	defer f.close() //nolint:errcheck // the folder is gone or the error is reported already
	demo, err := isDemo(e.Ctx, f)
	if err != nil {
		return err
	}
	if !demo {
		return fmt.Errorf("%s is not a demo's folder and is left alone", f.dir)
	}
	if err := f.remove(); err != nil {
		return err
	}
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]any{"reset": true, "dir": f.dir})
	}
	_, err = fmt.Fprintf(e.Stdout, "Deleted %s. Start anew with: tally demo\n", f.dir)
	return err
}

// upstream is the demo API in a process of its own.
type upstream struct {
	url  string
	stop func()
}

// startUpstream runs the demo API as a child. The child reads its standard input, which only this process holds open, so
// that it ends when this process does, even after kill -9.
func startUpstream(ctx context.Context, stderr io.Writer) (*upstream, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "demo-upstream")
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the demo API: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the demo API did not start: %w", err), cmd.Wait())
	}
	return &upstream{url: strings.TrimSpace(line), stop: func() {
		_ = in.Close() // tells the child to end
		_ = cmd.Wait() // it was told to; its exit code says nothing
	}}, nil
}

type upstreamCmd struct {
	Listen string `default:"127.0.0.1:9000"`
}

// Run serves the demo API until standard input ends.
func (c *upstreamCmd) Run(e *cli.Env) error {
	var lc net.ListenConfig
	l, err := lc.Listen(e.Ctx, "tcp", c.Listen)
	if err != nil { // taken, perhaps by another demo
		if l, err = lc.Listen(e.Ctx, "tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	srv := gateway.NewServer(demoAPI(), slog.New(slog.DiscardHandler))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		_ = srv.Close()                      // ends the process
	}()
	if _, err := fmt.Fprintf(e.Stdout, "http://%s\n", l.Addr()); err != nil {
		return err
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
