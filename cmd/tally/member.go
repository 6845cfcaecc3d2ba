package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/lead"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/kafka"
	"github.com/tallystick/tallystick/internal/store/postgres"
	"github.com/tallystick/tallystick/internal/web/forward"
	"github.com/tallystick/tallystick/internal/web/gateway"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// Intervals and bounds of a server among several, in real time.
const (
	leadEvery  = time.Second
	leadCall   = 2 * time.Second  // to ask the records who leads
	graceMax   = 15 * time.Second // how long a server stays ready without a leader, or without the records
	listenBack = time.Second      // between attempts to hear of changes
	yieldMax   = 5 * time.Second
)

// fenced are the records to a leader: each write fails once another one leads. They are closed with the process.
type fenced struct{ *postgres.Records }

// Close implements store.Records.
func (fenced) Close() error { return nil }

// member is a server of a deployment with several. It leads, or passes on what comes to the one that does.
type member struct {
	s       *server
	db      *postgres.Records // what is not written as the leader
	lead    *lead.Service
	front   *forward.Front
	started time.Time
	nudge   chan struct{} // somebody told of a change of who leads

	gateway atomic.Pointer[http.Handler]  // of the gateway's port while this process leads
	replica atomic.Pointer[kafka.Journal] // where the journal is in a topic; nil: it is not open
	since   atomic.Int64                  // monotonic nanoseconds: this process leads since
	leaving atomic.Bool
	was     atomic.Bool // ready once
	lost    atomic.Bool // the lead; nothing may be written any more

	unsettle func() // ends settling; owner: leadOnce, then who ends the process
}

// runMember serves as one of several servers until ctx ends, then hands over and drains.
func (s *server) runMember(ctx context.Context, ready func(context.Context) error) (err error) {
	f, err := openFolder(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.useSecrets(s.Secrets); err != nil {
		return err
	}
	s.folder = f
	if _, err := os.Stat(f.path("records.db")); err == nil {
		return fmt.Errorf("%s has records of its own: move them, or name another folder with --dir", s.dir)
	}
	apiL, gwL, err := s.listeners(ctx, s.Role != roleServer)
	if err != nil {
		return err
	}
	defer closeListeners(apiL, gwL)
	m, err := openMember(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.db.Close()) }()
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	return m.run(ctx, apiL, gwL, ready)
}

func closeListeners(list ...net.Listener) {
	for _, l := range list {
		if l != nil {
			_ = l.Close() // the servers close them first
		}
	}
}

// openMember readies what a server has that does not lead.
func openMember(ctx context.Context, s *server) (*member, error) {
	pepper, err := s.folder.secret("pepper")
	if err != nil {
		return nil, err
	}
	if err := s.openToken(); err != nil {
		return nil, err
	}
	if s.Advertise == "" {
		s.Advertise = s.endpoint.API
	}
	if u, err := url.Parse(s.Advertise); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("--advertise: %q is no URL such as http://10.0.0.1:8080", s.Advertise)
	}
	m := &member{s: s, started: realNow(), nudge: make(chan struct{}, 1)}
	mono := func() time.Duration { return realNow().Sub(m.started) }
	if m.db, err = postgres.Open(ctx, s.Records); err != nil {
		return nil, err
	}
	if m.lead, err = lead.New(lead.Config{Leaders: m.db, Holder: rand.Text(), Address: s.Advertise, Mono: mono}); err != nil {
		return nil, errors.Join(err, m.db.Close())
	}
	transport, err := s.between()
	if err == nil {
		m.front, err = forward.New(forward.Config{
			Leader: m.leader, Valid: m.lead.Valid, Self: s.Advertise, Secret: pepper, Transport: transport, Stream: wire.PathStream, Log: s.log,
		})
	}
	if err != nil {
		return nil, errors.Join(err, m.db.Close())
	}
	s.member, s.metrics = m, newMemberMetrics(m)
	return m, s.folder.saveEndpoint(s.endpoint)
}

// between speaks to other servers.
func (s *server) between() (*http.Transport, error) {
	t := &http.Transport{
		MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 3 * time.Second, ExpectContinueTimeout: 30 * time.Second,
		DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext, DisableCompression: true,
		Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	t.Protocols.SetHTTP1(true)
	if s.ServerCA != "" {
		pool, err := certPool(s.ServerCA)
		if err != nil {
			return nil, fmt.Errorf("--server-ca: %w", err)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}

// leader is where requests are passed on to.
func (m *member) leader() (forward.Leader, <-chan struct{}) {
	st, changed := m.lead.State()
	if st.Leading {
		return forward.Leader{Fence: st.Lead.Fence}, changed
	}
	return forward.Leader{Fence: st.Lead.Fence, Address: st.Lead.Address}, changed
}

// records are those that this process may write to as the leader.
func (m *member) records() store.Records {
	st, _ := m.lead.State()
	return fenced{m.db.Fenced(st.Lead.Fence)}
}

// journalFence is the lead that the journal asks for at each change: only where it is in the database that knows who leads.
func (s *server) journalFence() uint64 {
	if s.member == nil || s.Journal != s.Records {
		return 0
	}
	st, _ := s.member.lead.State()
	return st.Lead.Fence
}

// run has the ports served, asks who leads, leads when it is this process's turn, and drains when ctx ends.
func (m *member) run(ctx context.Context, apiL, gwL net.Listener, ready func(context.Context) error) error {
	s := m.s
	api := gateway.NewServer(m.handler(), s.log)
	if err := s.apartTLS(api); err != nil {
		return err
	}
	gw := gateway.NewServer(http.HandlerFunc(m.serveGateway), s.log)
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	g, gctx := errgroup.WithContext(loops)
	g.Go(func() error { return serveOn(api, apiL, s.TLSCert, s.TLSKey) })
	if gwL != nil {
		g.Go(func() error { return serveOn(gw, gwL, s.TLSCert, s.TLSKey) })
	}
	g.Go(func() error { return m.ask(gctx) })
	g.Go(func() error { m.hear(gctx); return nil })
	ending, end := context.WithCancel(gctx)
	defer end()
	over := make(chan struct{})
	g.Go(func() error { return m.announce(ending, ready) })
	g.Go(func() error {
		defer close(over)
		return m.leadOnce(ending, gctx, gw)
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-gctx.Done():
		}
		m.leaving.Store(true)
		m.front.Leave()
		end()
		<-over // handed over, or never led
		if gctx.Err() == nil {
			_ = wait(gctx, s.DrainDelay) // or a failure ends it
		}
		err := s.shutdown(api, gw)
		m.unsettle() // calls that came to this port may have been about what this folder has
		stopLoops()
		return err
	})
	err := g.Wait()
	if err == nil {
		s.log.InfoContext(ctx, "stopped")
	}
	return err
}

// ask finds out who leads, at an interval and when a change was told.
func (m *member) ask(ctx context.Context) error {
	t := time.NewTicker(leadEvery)
	defer t.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, leadCall)
		err := m.lead.Tick(call)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, lead.ErrLost):
			m.lost.Store(true)
			return err
		case err != nil:
			m.s.log.WarnContext(ctx, "the records did not say who leads; asked again", slog.Any("error", err))
			m.s.metrics.failed("lead")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-m.nudge:
		}
	}
}

// hear listens for changes of who leads. What is not heard is found out by asking.
func (m *member) hear(ctx context.Context) {
	for ctx.Err() == nil {
		err := m.db.Listen(ctx, func(topic store.Topic, _ string) {
			if topic != store.TopicLead {
				return
			}
			select {
			case m.nudge <- struct{}{}:
			default: // it is to be asked already
			}
		})
		if ctx.Err() != nil {
			return
		}
		m.s.log.WarnContext(ctx, "the line on which changes are told broke; opened again", slog.Any("error", err))
		if wait(ctx, listenBack) != nil {
			return
		}
	}
}

// announce says that the server is there when it is ready for the first time.
func (m *member) announce(ctx context.Context, ready func(context.Context) error) error {
	for !m.ready() {
		if wait(ctx, readyLook) != nil {
			return nil //nolint:nilerr // it ends before it was ready
		}
	}
	return ready(ctx)
}

const readyLook = 20 * time.Millisecond

// leadOnce waits until this process leads, leads until ending, and hands over. ctx ends when something failed.
func (m *member) leadOnce(ending, ctx context.Context, gw *http.Server) error {
	m.unsettle = m.settling(ctx)
	if !m.follow(ending) {
		err := m.retire()
		if j := m.replica.Load(); j != nil {
			err = errors.Join(err, j.Close())
		}
		return err
	}
	m.unsettle()
	s := m.s
	m.since.Store(int64(realNow().Sub(m.started)))
	st, _ := m.lead.State()
	s.log.InfoContext(ctx, "this server leads", slog.Uint64("fence", st.Lead.Fence), slog.String("advertise", s.Advertise))
	began := realNow()
	lctx, stop := context.WithCancel(ctx)
	defer stop()
	g, lctx := errgroup.WithContext(lctx)
	envoys, err := m.promote(lctx, g, gw)
	if err == nil {
		s.log.InfoContext(ctx, "requests are answered here", slog.Uint64("fence", st.Lead.Fence), slog.Duration("took", realNow().Sub(began)),
			slog.Int64("catalog_version", s.govern.Current().Version), slog.Int("node", int(s.node)))
		select {
		case <-ending.Done():
		case <-lctx.Done():
		}
	}
	if m.lost.Load() { // nothing that this process knows may be written any more
		stop()
		return errors.Join(err, g.Wait())
	}
	err = errors.Join(err, m.handOver(context.WithoutCancel(ctx), stop, g, envoys))
	m.unsettle = m.settling(ctx)
	return err
}

// settling settles in the background until it is told to stop.
func (m *member) settling(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); m.settle(ctx) }()
	return func() { cancel(); <-ended }
}

// follow waits until this process leads; false: it ends before. Meanwhile it keeps up with the journal.
func (m *member) follow(ending context.Context) bool {
	keeping, stop := context.WithCancel(ending)
	kept := make(chan struct{})
	go func() { defer close(kept); m.keepUp(keeping) }()
	defer func() { stop(); <-kept }()
	for {
		st, changed := m.lead.State()
		if st.Leading {
			return true
		}
		select {
		case <-changed:
		case <-ending.Done():
			return false
		}
	}
}

// promote opens all services and takes requests.
func (m *member) promote(ctx context.Context, g *errgroup.Group, gw *http.Server) (*grpcPort, error) {
	s := m.s
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	if s.catalog != "" && s.govern.Current().Version == 0 { // a file that one server has must not undo what was applied since
		if err := s.applyFile(ctx, s.catalog); err != nil {
			return nil, err
		}
	}
	api, door, err := s.handlers()
	if err != nil {
		return nil, err
	}
	gw.RegisterOnShutdown(door.Close)
	envoys, err := s.openGRPC(ctx, s.enforce, s.govern.Current)
	if err != nil {
		return nil, err
	}
	s.loops(ctx, g)
	if s.demo {
		if err := s.seed(ctx); err != nil {
			return nil, err
		}
	}
	envoys.serve(ctx, &s.ports, g)
	var h http.Handler = door
	m.gateway.Store(&h)
	s.serving.Store(true)
	m.front.Lead(api)
	return envoys, nil
}

// handOver lets what runs end, closes all that this process has of the deployment, and yields the lead. Meanwhile requests wait,
// and are passed on to the next leader.
func (m *member) handOver(ctx context.Context, stop func(), g *errgroup.Group, envoys *grpcPort) error {
	s := m.s
	s.serving.Store(false)
	m.gateway.Store(nil)
	var errs []error
	if s.hub != nil {
		s.hub.HandOver()
	}
	patient, cancel := context.WithTimeout(ctx, s.DrainTimeout)
	if err := m.front.Retire(patient); err != nil {
		s.log.WarnContext(ctx, "requests were still running when the lead was handed over, and are cut off")
	}
	cancel()
	errs = append(errs, envoys.drain(ctx, s.DrainTimeout))
	m.awaitDoor(ctx)
	stop()
	errs = append(errs, g.Wait(), s.close(ctx))
	s.log.InfoContext(ctx, "handed over: requests ended, the spool is shipped, the leases are closed")
	return errors.Join(append(errs, m.retire())...)
}

// doorMax bounds how long requests at this process's own gateway port keep the lead here. What they hold of leases is with them then,
// and is not given back.
const doorMax = 3 * time.Second

// awaitDoor waits for requests at this process's own gateway port, so that its leases can be given back.
func (m *member) awaitDoor(ctx context.Context) {
	s := m.s
	if s.Role == roleServer || s.enforce == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(doorMax, s.DrainTimeout))
	defer cancel()
	if err := s.enforce.Settled(ctx, s.clock.Now()); err != nil {
		s.log.WarnContext(ctx, "requests still run at the gateway port while the lead is handed over; what they hold of leases is not given back", slog.Any("error", err))
	}
}

// retire never leads again.
func (m *member) retire() error {
	ctx, cancel := context.WithTimeout(context.Background(), yieldMax)
	defer cancel()
	err := m.lead.Yield(ctx)
	select {
	case m.nudge <- struct{}{}: // who leads now?
	default:
	}
	return err
}
