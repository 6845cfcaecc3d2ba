package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/web/forward"
	"github.com/tallystick/tallystick/internal/web/node/remote"
)

const (
	settleAgain = 2 * time.Second // between attempts
	heldLook    = 200 * time.Millisecond
)

// settle brings to its end what this folder's last run as the leader left: as a gateway does with what it finds in its spool, at
// the server that leads. Reservations that are open go on, and are ended through it. ctx ends it when this process leads itself,
// which does the same.
func (m *member) settle(ctx context.Context) {
	id, have, err := m.s.folder.identity()
	if err != nil || !have {
		return // promote tells of a damaged file
	}
	for ctx.Err() == nil {
		st, changed := m.lead.State()
		if at := st.Lead.Address; at != "" && at != m.s.Advertise && !st.Leading {
			err := m.settleRun(ctx, id)
			switch {
			case err == nil || ctx.Err() != nil:
				return
			case errors.Is(err, remote.ErrDenied):
				m.s.log.WarnContext(ctx, "what this folder left as the leader is not ended: the leader does not let it in", slog.Any("error", err))
				return
			}
			m.s.log.WarnContext(ctx, "what this folder left as the leader is not ended yet; tried again", slog.Any("error", err))
		}
		again, cancel := context.WithTimeout(ctx, settleAgain)
		select {
		case <-changed:
		case <-again.Done():
		}
		cancel()
	}
}

// settleRun takes up what the last run left, and ends when no reservation is open any more.
func (m *member) settleRun(ctx context.Context, id identity) (err error) {
	s := m.s
	transport, err := s.between()
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	g := &gatewayRole{ports: ports{listen: s.listen, log: s.log}, apart: s.apart, folder: s.folder}
	g.SpoolSync, g.metrics = s.SpoolSync, s.metrics
	if g.client, err = remote.NewClient(remote.Config{
		Server: "http://the-leader.invalid", Token: id.Token, HTTP: &http.Client{Transport: forward.ToLeader(m.leader, s.Advertise, transport)}, Real: realNow, DrawTimeout: s.DrawTimeout,
		Anew: g.anew,
	}); err != nil {
		return err
	}
	g.report = remote.NewReporter(g.client)
	nothing := func() (st clock.State, err error) { return st, nil }
	if g.clock, err = clock.New(clock.Config{Real: realNow, Load: nothing, Save: func(clock.State) error { return nil }}); err != nil {
		return err
	}
	if g.spool, err = spool.Open(spool.Config{Dir: s.folder.path("spool")}); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer func() { err = errors.Join(err, g.spool.Close()) }()
	joined, sender, follower, err := g.meet(ctx, func(_ context.Context, _ string, once func() error) error { return once() })
	if err != nil || ctx.Err() != nil {
		return err
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	group, following := errgroup.WithContext(following)
	group.Go(func() error { return follower.Run(following) })
	select {
	case <-follower.Complete():
		err = m.endHeld(following, g, joined.Node, sender)
	case <-following.Done():
		err = following.Err()
	}
	stop()
	return errors.Join(err, group.Wait())
}

// endHeld begins a run of the folder's node, and ends it when no reservation is open any more. How they ended is known for as long as
// anywhere. While the leader is away calls wait.
func (m *member) endHeld(ctx context.Context, g *gatewayRole, node uint16, sender *receive.Sender) error {
	e, err := g.begin(ctx, node, sender)
	if err != nil {
		return err
	}
	g.enforce.Store(e)
	had := e.Stats().Held > 0
	if had {
		if err := m.whileHeld(ctx, g, e); err != nil || ctx.Err() != nil {
			return err // whoever begins the next run takes them up
		}
	}
	if err := errors.Join(e.Close(ctx), g.reports(ctx, e)); err != nil {
		return err
	}
	m.s.log.InfoContext(ctx, "what this folder left as the leader has ended: its spool is shipped, its leases are closed", slog.Int("node", int(node)))
	if had {
		_ = wait(ctx, enforce.EndedKept) // ctx may end it
	}
	return nil
}

// whileHeld works as a gateway does until no reservation is open.
func (m *member) whileHeld(ctx context.Context, g *gatewayRole, e *enforce.Enforcer) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	loops, running := errgroup.WithContext(running)
	g.loops(running, loops, e)
	for e.Stats().Held > 0 && wait(running, heldLook) == nil {
	}
	stop()
	if err := loops.Wait(); err != nil || ctx.Err() == nil || !m.leaving.Load() {
		return err
	}
	last, done := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer done()
	if e.Flush(last) != nil {
		m.s.log.WarnContext(ctx, "usage of reservations stays in the spool until a server is started with this folder again")
	}
	return nil
}
