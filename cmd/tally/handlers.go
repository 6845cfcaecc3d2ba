package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/store/sqlite"
	"github.com/tallystick/tallystick/internal/web/console"
	"github.com/tallystick/tallystick/internal/web/forward"
	"github.com/tallystick/tallystick/internal/web/gateway"
	"github.com/tallystick/tallystick/internal/web/httpapi"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/portal"
	"github.com/tallystick/tallystick/internal/web/session"
)

// servers builds the two HTTP servers over the services.
func (s *server) servers() (api, gw *http.Server, err error) {
	h, proxy, err := s.handlers()
	if err != nil {
		return nil, nil, err
	}
	gw = gateway.NewServer(proxy, s.log)
	gw.RegisterOnShutdown(proxy.Close)
	api = gateway.NewServer(h, s.log)
	api.RegisterOnShutdown(s.hub.Close)
	return api, gw, s.apartTLS(api)
}

// handlers are what answers at the two ports.
func (s *server) handlers() (api http.Handler, proxy *gateway.Gateway, err error) {
	proxy, err = s.openProxy(s.enforce, s.govern.Current)
	if err != nil {
		return nil, nil, err
	}
	held := node.Reservations{Server: s.hub, Own: s.node, Local: s.enforce.Call, Operator: s.signer.IsOperator, Away: forward.Elsewhere}
	rest, err := httpapi.New(httpapi.Config{
		Govern: s.govern, Enforce: s.enforce, Held: held.Call, Flush: s.flush, Receive: s.receive, Ingest: s.ingest, Bill: s.bill, Correct: s.correct, Inbox: s.inbox,
		Collect: s.collect, Credits: s.credits, WhatIf: s.whatIf,
		BillingRuns: s.billrun,
		Seal:        s.seal, Erasures: s.journal, Usage: s.usage, Recount: s.recount, Clock: s.clock, Replays: s.replays, Notify: s.notify, Exports: s.exports, Examine: s.examine,
		Signer: s.signer, PortalLink: s.portalLink, Version: version, Ready: s.serving.Load, Metrics: s.metrics.handler(), Log: s.log,
		Real: realNow, Gateways: s.gateways(), GatewayCount: s.gatewayCount, Refunds: s.refunds.List,
	})
	if err != nil {
		return nil, nil, err
	}
	pages, err := console.New(console.Config{
		Govern: s.govern, Credits: s.credits, Enforce: s.enforce, Bill: s.bill, Notify: s.notify, Ship: s.flush, Ingest: s.ingest, Correct: s.correct, Inbox: s.inbox, Clock: s.clock, Signer: s.signer, PortalLink: s.portalLink,
		Version: version, Demo: s.demo, Log: s.log, Gateways: s.hub.List,
		Collect: s.collect, Exports: s.exports.Stats,
	})
	if err != nil {
		return nil, nil, err
	}
	theirs, err := portal.New(portal.Config{
		Govern: s.govern, Credits: s.credits, Enforce: s.enforce, Bill: s.bill, Notify: s.notify, Ship: s.flush, Clock: s.clock, Signer: s.signer, Demo: s.demo, Log: s.log,
		Collect: s.collect,
	})
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	for _, p := range []string{"/v1/", "/errors", "/errors/", "/openapi.json", "/openapi.yaml", "/healthz", "/readyz", "/startupz", "/metrics"} {
		mux.Handle(p, rest)
	}
	mux.Handle("/v1/nodes/", s.hub)
	mux.Handle("/v1/reservations/{id}", held.There(rest))
	mux.Handle("/v1/reservations/{id}/", held.There(rest))
	mux.Handle("/portal", theirs)
	mux.Handle("/portal/", theirs)
	mux.Handle("/", pages)
	return s.withDoors(mux), proxy, nil
}

// portalLink is a signed link to a customer's portal.
func (s *server) portalLink(customerRef string, ttl time.Duration) (string, time.Time, error) {
	cust, ok := s.govern.Customer(customerRef)
	if !ok {
		return "", time.Time{}, fmt.Errorf("there is no customer %q", customerRef)
	}
	base := s.PublicURL
	if base == "" {
		base = s.endpoint.API
	}
	token, expires := s.signer.Sign(session.PortalLink, cust.ID, ttl)
	return strings.TrimSuffix(base, "/") + "/portal/open?token=" + token, expires, nil
}

// isDemo says whether a folder was made by the demo.
func isDemo(ctx context.Context, f *folder) (demo bool, err error) {
	if _, err := os.Stat(f.path("records.db")); os.IsNotExist(err) {
		return false, nil
	}
	records, err := sqlite.Open(ctx, f.path("records.db"))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	kind, err := records.Setting(ctx, deploymentKind)
	return kind == kindDemo, err
}
