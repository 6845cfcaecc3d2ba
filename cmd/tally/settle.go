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
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/web/node/remote"
)

const settleAgain = 2 * time.Second // between attempts

// settle brings to its end what this folder's last run as the leader left: as a gateway does with what it finds in its spool, at
// the server that leads now. ctx ends it when this process leads itself, which does the same.
func (m *member) settle(ctx context.Context) {
	id, have, err := m.s.folder.identity()
	if err != nil || !have {
		return // promote tells of a damaged file
	}
	for {
		st, changed := m.lead.State()
		if at := st.Lead.Address; at != "" && at != m.s.Advertise && !st.Leading {
			err := m.settleAt(ctx, at, id)
			switch {
			case err == nil || ctx.Err() != nil:
				return
			case errors.Is(err, remote.ErrDenied):
				m.s.log.WarnContext(ctx, "what this folder left as the leader is not ended: the leader does not let it in", slog.Any("error", err))
				return
			}
			m.s.log.WarnContext(ctx, "what this folder left as the leader is not ended yet; tried again", slog.Any("error", err))
		}
		again := time.NewTimer(settleAgain)
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
		again.Stop()
	}
}

// settleAt does it at one server.
func (m *member) settleAt(ctx context.Context, at string, id identity) (err error) {
	s := m.s
	transport, err := s.between()
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	g := &gatewayRole{ports: ports{listen: s.listen, log: s.log}, apart: s.apart, folder: s.folder}
	if g.client, err = remote.NewClient(remote.Config{
		Server: at, Token: id.Token, HTTP: &http.Client{Transport: transport}, Real: realNow, DrawTimeout: s.DrawTimeout,
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
	seed, err := s.folder.own("gateway.key")
	if err != nil {
		return err
	}
	signer, err := receive.NewSigner(seed)
	if err != nil {
		return err
	}
	joined, err := g.client.Join(ctx, signer.Public(), version)
	if err != nil {
		return err
	}
	g.clock.Raise(time.UnixMicro(joined.Now))
	if g.mirror, err = govern.NewMirror(govern.MirrorConfig{Pepper: joined.Pepper, Mode: account.Mode(joined.Mode), Fetch: g.client.Catalog}); err != nil {
		return err
	}
	follower, err := g.follow()
	if err != nil {
		return err
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return follower.Run(following) })
	select {
	case <-follower.Complete():
		err = m.settleRun(ctx, g, joined.Node, receive.NewSender(joined.Node, signer, g.client))
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", authority.ErrUnreachable, ctx.Err())
	}
	stop()
	return errors.Join(err, group.Wait())
}

// settleRun begins a run, which takes up what the last one left, and ends it when no reservation is open any more.
func (m *member) settleRun(ctx context.Context, g *gatewayRole, node uint16, sender *receive.Sender) error {
	e, err := g.begin(ctx, node, sender)
	if err != nil {
		return err
	}
	g.enforce.Store(e)
	for e.Stats().Held > 0 { // explicit ones, until they expire
		if _, err := e.Tick(ctx); err != nil {
			return err
		}
		if err := e.SyncTick(ctx); err != nil {
			return err
		}
		if wait(ctx, time.Second) != nil {
			return nil //nolint:nilerr // whoever ends it takes them up again
		}
	}
	err = errors.Join(e.Close(ctx), g.reports(ctx, e))
	if err == nil {
		m.s.log.InfoContext(ctx, "what this folder left as the leader has ended: its spool is shipped, its leases are closed", slog.Int("node", int(node)))
	}
	return err
}
