package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/cli/intake"
	"github.com/tallystick/tallystick/internal/core/account"
)

// listen is where and how the two ports are served; both commands that serve share it.
type listen struct {
	API            string        `help:"Address of API and console." default:"127.0.0.1:8080" env:"TALLY_API"`
	Gateway        string        `help:"Address of the gateway." default:"127.0.0.1:8081" env:"TALLY_GATEWAY"`
	TLSCert        string        `help:"Certificate file (PEM) for both ports." type:"path" env:"TALLY_TLS_CERT"`
	TLSKey         string        `help:"Key file (PEM) for both ports." type:"path" env:"TALLY_TLS_KEY"`
	TrustedProxies []string      `help:"Networks (CIDR) whose X-Forwarded-For is passed on." env:"TALLY_TRUSTED_PROXIES" placeholder:"CIDR"`
	AccessLog      string        `help:"File for one line a request, - for stdout; off by default." env:"TALLY_ACCESS_LOG" placeholder:"FILE"`
	MaxBody        int64         `help:"Largest request body through the gateway, in bytes." default:"33554432" env:"TALLY_MAX_BODY"`
	MaxConnections int           `help:"Connections of each port at once; one too many is closed." default:"10000" env:"TALLY_MAX_CONNECTIONS"`
	SpoolSync      string        `help:"interval: sync reservations every few ms; strict: before forwarding." enum:"interval,strict" default:"interval" env:"TALLY_SPOOL_SYNC"`
	DrainDelay     time.Duration `help:"How long to go on at shutdown after /readyz said no, for a load balancer to notice." default:"0s" env:"TALLY_DRAIN_DELAY"`
	DrainTimeout   time.Duration `help:"How long to wait for running requests at shutdown." default:"20s" env:"TALLY_DRAIN_TIMEOUT"`
	PublicURL      string        `help:"Where customers reach the portal, if not at the API address." env:"TALLY_PUBLIC_URL" placeholder:"URL"`
	grpcListen
	doorFlags
}

type serveCmd struct {
	Catalog string        `help:"Catalog file (YAML), applied at start if it differs from the newest version; of several servers, while there is none." type:"path" env:"TALLY_CATALOG"`
	Mode    string        `help:"live, or test: keys of another prefix and a clock that can be advanced." enum:"live,test" default:"live" env:"TALLY_MODE"`
	Grace   time.Duration `help:"How long after its end a period stays open for late usage." default:"1h" env:"TALLY_GRACE"`
	// Erasing by age; receipts carry business time.
	KeepEvents time.Duration `help:"Erase the content of events received longer ago than this, such as 9600h; what they count for stays. 0: keep it for ever." default:"0" env:"TALLY_KEEP_EVENTS"`
	listen
	apart
	storage
}

func (c *serveCmd) Run(e *cli.Env) error {
	if c.Role == roleGateway {
		g := &gatewayRole{ports: ports{listen: c.listen, log: logger(e.Stderr)}, apart: c.apart, dir: e.DataDir()}
		if e.JSON {
			g.json = func(v any) error { return cli.PrintJSON(e.Stdout, v) }
		}
		return g.run(e.Ctx)
	}
	s := &server{ports: ports{listen: c.listen, log: logger(e.Stderr)}, apart: c.apart, storage: c.storage, dir: e.DataDir(), mode: account.Mode(c.Mode), grace: c.Grace, keepEvents: c.KeepEvents, catalog: c.Catalog}
	if c.shared() {
		return s.runMember(e.Ctx, func(ctx context.Context) error { return s.announceMember(ctx, e) })
	}
	return s.run(e.Ctx, func(ctx context.Context) error {
		if c.Catalog != "" {
			if err := s.applyFile(ctx, c.Catalog); err != nil {
				return err
			}
		}
		s.log.InfoContext(ctx, "ready", slog.String("api", s.endpoint.API), slog.String("gateway", s.endpoint.Gateway), slog.String("dir", s.dir),
			slog.Int64("catalog_version", s.govern.Current().Version))
		if e.JSON {
			return cli.PrintJSON(e.Stdout, map[string]any{
				"api": s.endpoint.API, "gateway": s.endpoint.Gateway, "token": s.endpoint.Token, "dir": s.dir,
				"catalog_version": s.govern.Current().Version,
			})
		}
		s.sayWhere(e)
		return nil
	})
}

// sayWhere tells a person where the console is. The token is shown on a terminal only: elsewhere it would stay in a log.
func (s *server) sayWhere(e *cli.Env) {
	token := "in " + s.dir + "/client.json"
	if intake.Terminal(e.Stderr) {
		token = s.endpoint.Token + "   (also " + token + ")"
	}
	fmt.Fprintf(e.Stderr, "Console  %s\nToken    %s\n", s.endpoint.API, token)
}

func logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// applyFile makes a catalog file the newest version if it differs.
func (s *server) applyFile(ctx context.Context, path string) error {
	source, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	_, _, err = s.govern.ApplyCatalog(ctx, "start", path, source)
	return err
}

// heapFloor is allocated and never touched, so it takes no memory; it lets the garbage of small requests gather before the
// collector runs, also while the journal's index is still small.
const heapFloor = 128 << 20

// run serves until ctx ends, then drains. ready runs when both ports answer; an error from it stops the server.
func (s *server) run(ctx context.Context, ready func(context.Context) error) (err error) {
	f, err := openFolder(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.useSecrets(s.Secrets); err != nil {
		return err
	}
	s.folder = f
	apiL, gwL, err := s.listeners(ctx, s.Role != roleServer)
	if err != nil {
		return err
	}
	defer func() {
		_ = apiL.Close() // the servers close them first
		if gwL != nil {
			_ = gwL.Close()
		}
	}()
	if err := s.open(ctx); err != nil {
		return errors.Join(err, s.close(context.WithoutCancel(ctx)))
	}
	api, gw, err := s.servers()
	if err != nil {
		return errors.Join(err, s.close(context.WithoutCancel(ctx)))
	}
	envoys, err := s.openGRPC(ctx, s.enforce, s.govern.Current)
	if err != nil {
		return errors.Join(err, s.close(context.WithoutCancel(ctx)))
	}
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	g, gctx := errgroup.WithContext(loops)
	g.Go(func() error { return serveOn(api, apiL, s.TLSCert, s.TLSKey) })
	if s.Role != roleServer {
		g.Go(func() error { return serveOn(gw, gwL, s.TLSCert, s.TLSKey) })
	}
	g.Go(func() error {
		if err := ready(gctx); err != nil {
			return err
		}
		s.serving.Store(true)
		return nil
	})
	s.loops(gctx, g)
	envoys.serve(gctx, &s.ports, g)
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-gctx.Done():
		}
		err := errors.Join(envoys.drain(context.WithoutCancel(ctx), s.DrainTimeout), s.drain(api, gw))
		stopLoops()
		return err
	})
	err = errors.Join(g.Wait(), s.close(context.WithoutCancel(ctx)))
	if err == nil {
		s.log.InfoContext(ctx, "stopped: requests ended, the spool is shipped, the leases are closed")
	}
	return err
}

// drain lets running requests end: not ready first, then no new connections, then a bounded wait.
func (s *server) drain(api, gw *http.Server) error {
	s.serving.Store(false)
	_ = wait(context.Background(), s.DrainDelay) // nothing ends it early
	return s.shutdown(api, gw)
}

func serveOn(srv *http.Server, l net.Listener, cert, key string) error {
	var err error
	if cert != "" {
		err = srv.ServeTLS(l, cert, key)
	} else {
		err = srv.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
