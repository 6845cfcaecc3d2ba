package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/web/httpapi"
	"github.com/tallystick/tallystick/internal/web/node"
)

// Waits for gateways in other processes.
const (
	shipAllMax    = 2 * time.Second // before figures are read: what is not there then is spooled usage
	advanceAllMax = 5 * time.Second // a gateway that does not follow the clock by then is named in the log
)

// openNodes readies what gateways of other processes talk to.
func (s *server) openNodes(pepper []byte) error {
	ring, err := s.folder.keyring()
	if err != nil {
		return err
	}
	s.hub, err = node.New(node.Config{
		Nodes: s.nodes, Authority: s.authority, Directory: s.govern, Batches: s.receive, Past: enforce.JournalPast{Journal: s.journal},
		Attach: func(n uint16, _ uint32, h authority.Holder) { s.authority.Register(n, h) },
		Subkey: func(n uint16, epoch uint32) (byte, []byte, error) {
			k, err := ring.Subkey(n, epoch)
			return k.Number, k.Key, err
		},
		Pepper: pepper, Mode: s.mode, Now: s.clock.Now, Real: realNow, Certificates: s.GatewayCA != "", Log: s.log,
		Clock: s.authority.ReadClock, Run: s.authority.Run(),
		Reports: node.Reports{Notice: s.notify.Passed, Refunds: s.refunds.Take},
	})
	return err
}

// leasing is how many gateways may hold leases now: those that are registered and not revoked, and this process's own if it has one.
func (s *server) leasing() int {
	n := 0
	if s.Role != roleServer {
		n++
	}
	for _, g := range s.nodes.List() {
		if g.RevokedAt.IsZero() {
			n++
		}
	}
	return max(1, n)
}

// gateways is what operators see of them.
func (s *server) gateways() httpapi.Gateways {
	return httpapi.Gateways{Nodes: s.nodes, List: s.hub.List}
}

// apartTLS has a server's port check the certificates of gateways.
func (s *server) apartTLS(api *http.Server) error {
	if s.GatewayCA == "" {
		return nil
	}
	if s.TLSCert == "" {
		return errors.New("--gateway-ca needs --tls-cert and --tls-key")
	}
	pool, err := certPool(s.GatewayCA)
	if err != nil {
		return fmt.Errorf("--gateway-ca: %w", err)
	}
	api.TLSConfig = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	return nil
}

// flush ships what was decided in this process, and in the gateways that are connected. One that does not answer in time holds
// nothing up: what it decided is spooled usage, and listed so.
func (s *server) flush(ctx context.Context) error {
	if err := s.enforce.Flush(ctx); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, shipAllMax)
	defer cancel()
	if err := s.hub.Ship(short); err != nil && ctx.Err() == nil {
		s.log.DebugContext(ctx, "not all gateways handed over what they decided", slog.Any("error", err))
	}
	return ctx.Err()
}

// advanced tells connected gateways the new business time and waits until they go by it. Others learn it when they are connected
// again, before they are told anything else.
func (s *server) advanced(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, advanceAllMax)
	defer cancel()
	if err := s.hub.Advance(short, s.clock.Now()); err != nil {
		s.log.WarnContext(ctx, "not all gateways follow the clock yet", slog.Any("error", err))
	}
}

// counted tells all gateways that usage of these customers was reported from outside.
func (s *server) counted(customerIDs []string) {
	s.enforce.Counted(customerIDs)
	s.hub.Counted(customerIDs)
}

// lag is how many bytes of spools are not in the journal yet, as far as is known.
func (s *server) lag() int64 {
	n := s.enforce.Stats().SpoolLag
	for _, st := range s.hub.List() {
		n += st.Lag
	}
	return n
}

// gatewayCount is how many gateways may draw on the limits; a bound is stated for one at least.
func (s *server) gatewayCount(context.Context) (int, error) { return max(1, s.leasing()), nil }
