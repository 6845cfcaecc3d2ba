package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/clock"
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
// the server that leads. Reservations that are open go on, and calls about them are made here, until ctx ends.
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

// settleRun takes up what the last run left, and answers for it until ctx ends.
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
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return follower.Run(running) })
	select {
	case <-follower.Complete():
		err = m.settled(ctx, running, g, joined.Node, sender)
		last, done := context.WithTimeout(running, farewell)
		_ = follower.Leave(last) // who is away lets nobody in either
		if e := g.enforce.Swap(nil); e != nil && m.leaving.Load() && e.Flush(last) != nil {
			s.log.WarnContext(ctx, "usage of reservations stays in the spool until a server is started with this folder again")
		}
		done()
	case <-ctx.Done():
	case <-running.Done():
	}
	stop()
	return errors.Join(err, group.Wait())
}

// settled begins a run of the folder's node, ends what is open there, and answers for it until ctx ends, or running: the line to the
// leader. While that is away calls wait.
func (m *member) settled(ctx, running context.Context, g *gatewayRole, node uint16, sender *receive.Sender) error {
	e, err := g.begin(ctx, node, sender)
	if err != nil {
		return err
	}
	g.enforce.Store(e)
	looping, stop := context.WithCancel(running)
	defer stop()
	loops, looping := errgroup.WithContext(looping)
	g.loops(looping, loops, e)
	look := time.NewTicker(heldLook)
	defer look.Stop()
	for open := e.Stats().Held > 0; open && ctx.Err() == nil && looping.Err() == nil; open = e.Stats().Held > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
		case <-looping.Done():
		}
	}
	stop()
	if err := loops.Wait(); err != nil {
		return err
	}
	for ctx.Err() == nil && running.Err() == nil {
		err := errors.Join(e.Close(ctx), g.reports(ctx, e))
		if err == nil {
			m.s.log.InfoContext(ctx, "what this folder left as the leader has ended: its spool is shipped, its leases are closed", slog.Int("node", int(node)))
			break
		}
		if !errors.Is(err, authority.ErrUnreachable) {
			return err
		}
		_ = wait(ctx, settleAgain) // ctx's end is looked at
	}
	select {
	case <-ctx.Done():
	case <-running.Done():
	}
	return nil
}
