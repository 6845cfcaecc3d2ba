package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/web/answer"
	"github.com/tallystick/tallystick/internal/web/gateway"
	"github.com/tallystick/tallystick/internal/web/node/remote"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// The roles of a process.
const (
	roleAll     = "all"
	roleServer  = "server"
	roleGateway = "gateway"
)

// apart is what a gateway in a process of its own is told, and what its server is told of it.
type apart struct {
	Role            string        `help:"all: server and gateway; server: no gateway port; gateway: a gateway of the server at --server." enum:"all,server,gateway" default:"all" env:"TALLY_ROLE"`
	Server          string        `help:"Gateway: URL of its server." env:"TALLY_SERVER" placeholder:"URL"`
	ServerToken     string        `help:"Gateway: token that tally gateway token NAME made." env:"TALLY_SERVER_TOKEN" placeholder:"TOKEN"`
	ServerTokenFile string        `help:"Gateway: file with the token." type:"path" env:"TALLY_SERVER_TOKEN_FILE" placeholder:"FILE"`
	ServerCA        string        `help:"Certificates (PEM) that sign the server's; at one of several servers those of the others." type:"path" env:"TALLY_SERVER_CA" placeholder:"FILE"`
	ClientCert      string        `help:"Gateway: certificate (PEM) to show to the server." type:"path" env:"TALLY_CLIENT_CERT" placeholder:"FILE"`
	ClientKey       string        `help:"Gateway: its key (PEM)." type:"path" env:"TALLY_CLIENT_KEY" placeholder:"FILE"`
	DrawTimeout     time.Duration `help:"Gateway: how long a request may wait for a lease." default:"300ms" env:"TALLY_DRAW_TIMEOUT"`
	GatewayCA       string        `help:"Server: gateways must show a client certificate that one of these (PEM) signed." type:"path" env:"TALLY_GATEWAY_CA" placeholder:"FILE"`
}

// Bounds of a gateway apart.
const (
	joinFirst = 100 * time.Millisecond // between attempts to join
	joinMax   = 2 * time.Second
	// reportEvery is how often the server is told what was noticed, in real time.
	reportEvery = 250 * time.Millisecond
	farewell    = 5 * time.Second // for the last batch and the leases at shutdown
)

// gatewayRole is a gateway in a process of its own. It owns a folder with a spool and its own secrets, and nothing of the server's.
type gatewayRole struct {
	ports
	apart
	dir  string
	json func(v any) error // prints when ready; nil: nothing

	folder *folder
	spool  *spool.Spool
	clock  *clock.Clock
	client *remote.Client
	report *remote.Reporter
	mirror *govern.Mirror
	envoys *grpcPort // owner: start until it has ended, then drain

	following atomic.Pointer[remote.Follower]  // nil until the gateway has joined
	enforce   atomic.Pointer[enforce.Enforcer] // nil until the gateway has begun
	door      atomic.Pointer[gateway.Gateway]  // nil until it takes traffic
	serving   atomic.Bool
}

// run serves until ctx ends, then drains.
func (s *gatewayRole) run(ctx context.Context) (err error) {
	if s.folder, err = openFolder(s.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.folder.close()) }()
	if s.folder.isServers() {
		return fmt.Errorf("%s is a server's data folder; a gateway needs one of its own: name it with --dir", s.dir)
	}
	if err := s.open(); err != nil {
		return errors.Join(err, s.close())
	}
	apiL, gwL, err := s.listeners(ctx, true)
	if err != nil {
		return errors.Join(err, s.close())
	}
	defer func() { _ = apiL.Close(); _ = gwL.Close() }() // the servers close them first
	api, gw := gateway.NewServer(s.withDoors(s.api()), s.log), gateway.NewServer(http.HandlerFunc(s.serve), s.log)
	gw.RegisterOnShutdown(func() {
		if door := s.door.Load(); door != nil {
			door.Close()
		}
	})
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	g, gctx := errgroup.WithContext(loops)
	g.Go(func() error { return serveOn(api, apiL, s.TLSCert, s.TLSKey) })
	g.Go(func() error { return serveOn(gw, gwL, s.TLSCert, s.TLSKey) })
	begun := make(chan struct{})
	starting, stopStarting := context.WithCancel(gctx)
	defer stopStarting()
	g.Go(func() error {
		defer close(begun)
		return s.start(starting, gctx, g)
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-gctx.Done():
		}
		stopStarting()
		<-begun
		err := s.drain(api, gw)
		stopLoops()
		return err
	})
	err = errors.Join(g.Wait(), s.close())
	if err == nil {
		s.log.InfoContext(ctx, "stopped")
	}
	return err
}

// open readies what needs no server.
func (s *gatewayRole) open() error {
	transport, err := s.transport()
	if err != nil {
		return err
	}
	token, err := s.token()
	if err != nil {
		return err
	}
	s.warnClear()
	if s.client, err = remote.NewClient(remote.Config{
		Server: s.Server, Token: token, HTTP: &http.Client{Transport: transport}, Real: realNow, DrawTimeout: s.DrawTimeout,
		Anew: s.anew,
	}); err != nil {
		return err
	}
	s.report = remote.NewReporter(s.client)
	if s.clock, err = clock.New(clock.Config{Real: realNow, Load: s.folder.clockState, Save: s.folder.saveClock}); err != nil {
		return err
	}
	if s.spool, err = spool.Open(spool.Config{Dir: s.folder.path("spool")}); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if err := s.openAccess(); err != nil {
		return err
	}
	s.metrics = newGatewayMetrics(s)
	return s.check()
}

// anew says that another run of the authority answers.
func (s *gatewayRole) anew() {
	if e := s.enforce.Load(); e != nil {
		e.Anew()
	}
}

// check refuses wrong flags of what is opened only when the gateway has joined.
func (s *gatewayRole) check() error {
	_, peers := s.doorPeers()
	_, trusted := s.trusted()
	_, creds := s.grpcCredentials()
	return errors.Join(peers, trusted, creds)
}

// start joins, learns what there is, begins an epoch and takes traffic. While the server is away it tries again: a run needs an
// epoch that is durable there. starting ends it; loops go on in ctx.
func (s *gatewayRole) start(starting, ctx context.Context, g *errgroup.Group) error {
	joined, sender, follower, err := s.meet(starting, s.insist)
	if err != nil || starting.Err() != nil {
		return err
	}
	s.following.Store(follower)
	g.Go(func() error { return follower.Run(ctx) })
	select {
	case <-follower.Complete():
	case <-starting.Done():
		return nil
	}
	var e *enforce.Enforcer
	if err := s.insist(starting, "begin", func() (err error) {
		e, err = s.begin(starting, joined.Node, sender)
		return err
	}); err != nil || starting.Err() != nil {
		return err
	}
	s.clock.Raise(e.LastSeen())
	s.enforce.Store(e)
	if err := s.openWays(ctx, g, e); err != nil {
		return err
	}
	s.loops(ctx, g, e)
	s.serving.Store(true)
	s.log.InfoContext(ctx, "ready", slog.String("gateway", s.endpoint.Gateway), slog.String("api", s.endpoint.API), slog.String("name", joined.Name),
		slog.Int("node", int(joined.Node)), slog.Int64("catalog_version", s.mirror.Current().Version))
	if s.json != nil {
		return s.json(map[string]any{"api": s.endpoint.API, "gateway": s.endpoint.Gateway, "dir": s.dir, "node": joined.Node, "name": joined.Name})
	}
	return nil
}

// meet joins the server, by way of try, and readies what follows it. When ctx ended nothing is there.
func (s *gatewayRole) meet(ctx context.Context, try func(ctx context.Context, what string, once func() error) error) (joined wire.Joined, sender *receive.Sender, f *remote.Follower, err error) {
	seed, err := s.folder.own("gateway.key")
	if err != nil {
		return joined, nil, nil, err
	}
	signer, err := receive.NewSigner(seed)
	if err != nil {
		return joined, nil, nil, err
	}
	if err := try(ctx, "join the server", func() (err error) {
		joined, err = s.client.Join(ctx, signer.Public(), version)
		return err
	}); err != nil || ctx.Err() != nil {
		return joined, nil, nil, err
	}
	s.clock.Raise(time.UnixMicro(joined.Now))
	if s.mirror, err = govern.NewMirror(govern.MirrorConfig{Pepper: joined.Pepper, Mode: account.Mode(joined.Mode), Fetch: s.client.Catalog}); err != nil {
		return joined, nil, nil, err
	}
	f, err = s.follow()
	return joined, receive.NewSender(joined.Node, signer, s.client), f, err
}

// insist tries until it works, until ctx ends, or until it is clear that it never will.
func (s *gatewayRole) insist(ctx context.Context, what string, try func() error) error {
	pause := joinFirst
	for {
		err := try()
		if err == nil || ctx.Err() != nil {
			return nil //nolint:nilerr // the process ends
		}
		if !errors.Is(err, authority.ErrUnreachable) {
			return fmt.Errorf("%s: %w", what, err)
		}
		s.log.WarnContext(ctx, "the server cannot be reached, trying again", slog.String("to", what), slog.Any("error", err))
		if wait(ctx, pause) != nil {
			return nil //nolint:nilerr // the process ends
		}
		pause = min(2*pause, joinMax)
	}
}

// begin takes an epoch and brings the earlier one to its end.
func (s *gatewayRole) begin(ctx context.Context, node uint16, sender *receive.Sender) (*enforce.Enforcer, error) {
	ring := receipt.SubkeyRing(func(n uint16, epoch uint32) (receipt.Subkey, bool) {
		k := s.client.Subkey()
		if k == nil || n != node || epoch != k.Epoch {
			return receipt.Subkey{}, false
		}
		return receipt.Subkey{Number: k.Number, Key: k.Key}, true
	})
	return enforce.Open(ctx, enforce.Config{
		Directory: s.mirror, Spool: s.spool, Authority: s.client, Past: s.client, Keyring: ring, Node: node, Boot: bootID(), Now: s.clock.Now, Real: realNow,
		Torn: s.spool.Recovery().Torn(), Strict: s.SpoolSync == "strict", Log: s.log, Deliver: sender.Deliver, Notice: s.report.Notice,
	})
}

// follow readies the stream.
func (s *gatewayRole) follow() (*remote.Follower, error) {
	return remote.NewFollower(remote.FollowConfig{
		Client: s.client, Mirror: s.mirror, Hello: s.clock.Raise, Log: s.log,
		Advance: func(ctx context.Context, to time.Time) error {
			s.clock.Raise(to)
			return s.ship(ctx)
		},
		Settle: func(ctx context.Context, before time.Time) error {
			if e := s.enforce.Load(); e != nil {
				if err := e.Settled(ctx, before); err != nil {
					return err
				}
			}
			return s.ship(ctx)
		},
		Counted: func(customerIDs []string) {
			if e := s.enforce.Load(); e != nil {
				e.Counted(customerIDs)
			}
		},
		Holder: func() authority.Holder {
			if e := s.enforce.Load(); e != nil {
				return e
			}
			return nil
		},
		Held: func(ctx context.Context, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
			if e := s.enforce.Load(); e != nil {
				return e.Call(ctx, c)
			}
			return nil, nil, enforce.ErrReservationAway
		},
		State: func() wire.State {
			st := wire.State{Now: s.clock.Now().UnixMicro(), Version: version}
			if e := s.enforce.Load(); e != nil {
				n := e.Stats()
				st.Epoch, st.Spool, st.Lag, st.Open = s.client.Subkey().Epoch, n.SpoolBytes, n.SpoolLag, n.Open
			}
			return st
		},
	})
}

func (s *gatewayRole) ship(ctx context.Context) error {
	if e := s.enforce.Load(); e != nil {
		return e.Flush(ctx)
	}
	return nil
}

// openWays opens all ways in: the gateway itself, the doors of other proxies on the API's port, and those of Envoy.
func (s *gatewayRole) openWays(ctx context.Context, g *errgroup.Group, e *enforce.Enforcer) (err error) {
	door, err := s.openProxy(e, s.mirror.Current)
	if err != nil {
		return err
	}
	if err := s.openDoors(e, s.mirror.Current); err != nil {
		return err
	}
	if s.envoys, err = s.openGRPC(ctx, e, s.mirror.Current); err != nil {
		return err
	}
	s.door.Store(door)
	s.doorLoops(ctx, g)
	s.envoys.serve(ctx, &s.ports, g)
	return nil
}

// serve is the gateway's port. Before the gateway has begun, nothing is let through.
func (s *gatewayRole) serve(w http.ResponseWriter, r *http.Request) {
	if door := s.door.Load(); door != nil {
		door.ServeHTTP(w, r)
		return
	}
	notBegun(w)
}

// notBegun answers what came before the gateway has reached its server.
func notBegun(w http.ResponseWriter) {
	answer.Write(w, answer.Problem{
		Code: "authority_unreachable", Status: http.StatusServiceUnavailable, Detail: "This gateway has not reached its server since it was started.",
		Fix: "Try again soon; the operator must see to the server if it lasts.", Retryable: true, RetryAfter: 1,
	})
}

// api is the other port: probes, metrics, and a caller's own limits, which the server tells.
func (s *gatewayRole) api() http.Handler {
	mux := http.NewServeMux()
	plain := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprintln(w, text)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.serving.Load() {
			plain(w, http.StatusServiceUnavailable, "not ready")
			return
		}
		plain(w, http.StatusOK, "ok")
	})
	var started atomic.Bool
	mux.HandleFunc("GET /startupz", func(w http.ResponseWriter, _ *http.Request) {
		if !started.Load() && !s.serving.Load() {
			plain(w, http.StatusServiceUnavailable, "starting")
			return
		}
		started.Store(true)
		plain(w, http.StatusOK, "ok")
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	to, err := url.Parse(s.Server)
	if err == nil {
		transport, terr := s.transport()
		if terr == nil {
			pass := &httputil.ReverseProxy{
				Transport: transport, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
				Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.SetXForwarded() },
				ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
					answer.Write(w, answer.Problem{
						Code: "authority_unreachable", Status: http.StatusServiceUnavailable, Detail: "The server, which knows all limits, cannot be reached.",
						Fix: "Try again soon.", Retryable: true, RetryAfter: 1,
					})
				},
			}
			mux.Handle("GET /v1/limits/me", pass)
		}
	}
	return mux
}

// loops are the gateway's tickers.
func (s *gatewayRole) loops(ctx context.Context, g *errgroup.Group, e *enforce.Enforcer) {
	s.every(ctx, g, "ship", shipEvery, func(ctx context.Context) error {
		for {
			more, err := e.Tick(ctx)
			if err != nil || !more {
				return err
			}
		}
	})
	s.every(ctx, g, "sync", syncEvery, e.SyncTick)
	s.every(ctx, g, "reports", reportEvery, func(ctx context.Context) error { return s.reports(ctx, e) })
	s.every(ctx, g, "clock", clockEvery, func(context.Context) error { return s.clock.Persist() })
}

// reports tells the server what was noticed, while it can be reached.
func (s *gatewayRole) reports(ctx context.Context, e *enforce.Enforcer) error {
	for {
		more, err := s.report.Tick(ctx, e.Refunds)
		if errors.Is(err, authority.ErrUnreachable) {
			return nil // it waits
		}
		if err != nil || !more {
			return err
		}
	}
}

// drain lets running requests end, hands over what was decided and gives the leases back. With the server away that stays in the
// spool, for the next run.
func (s *gatewayRole) drain(api, gw *http.Server) error {
	s.serving.Store(false)
	_ = wait(context.Background(), s.DrainDelay) // nothing ends it early
	err := errors.Join(s.envoys.drain(context.Background(), s.DrainTimeout), s.shutdown(api, gw), s.closeDoors())
	if e := s.enforce.Load(); e != nil {
		last, done := context.WithTimeout(context.Background(), farewell)
		defer done()
		if cerr := e.Close(last); errors.Is(cerr, authority.ErrUnreachable) || errors.Is(cerr, context.DeadlineExceeded) {
			s.log.Warn("the server cannot be reached: usage stays in the spool and leases stay charged until this gateway runs again", slog.Any("error", cerr))
		} else if cerr != nil {
			err = errors.Join(err, cerr)
		}
		err = errors.Join(err, s.reports(last, e))
	}
	return err
}

func (s *gatewayRole) close() error {
	var errs []error
	if s.clock != nil {
		errs = append(errs, s.clock.Persist())
	}
	if s.spool != nil {
		errs = append(errs, s.spool.Close())
	}
	if s.access != nil {
		errs = append(errs, s.access.Close())
	}
	return errors.Join(errs...)
}
