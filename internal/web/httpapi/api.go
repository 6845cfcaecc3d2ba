// Package httpapi is the REST API: /v1, its OpenAPI document, the pages of the problem codes, and the probes.
//
// One layer around all handlers sets Request-Id, checks the operator's token, reads the body within its bound and answers
// repeated calls. What huma binds and what is bound by hand go through it alike.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/billrun"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/export"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/inbox"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/app/recount"
	"github.com/tallystick/tallystick/internal/app/replay"
	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/app/whatif"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/session"
)

// Config of the API. All fields are required unless one says what nil stands for.
type Config struct {
	Govern  *govern.Service
	Credits *credits.Service
	Enforce *enforce.Enforcer
	// Held makes a call about an explicit reservation; nil: Enforce.Call.
	Held func(ctx context.Context, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error)
	// Flush brings what was decided into the journal, that of gateways in other processes too; nil: Enforce.Flush.
	Flush       func(ctx context.Context) error
	Receive     *receive.Receiver
	Ingest      *ingest.Service
	Bill        *bill.Service
	WhatIf      *whatif.Service // nil: catalogs are planned without their money
	Collect     *collect.Service
	BillingRuns *billrun.Service
	Usage       *usage.Service
	Recount     *recount.Service
	Correct     *correct.Service
	Inbox       *inbox.Service
	Seal        *seal.Service
	// Erasures takes a person's content away; nil: it is refused.
	Erasures Erasures
	// Gateways are those in processes of their own; the zero value: there can be none, and their calls fail.
	Gateways Gateways
	Clock    *clock.Clock
	Replays  *replay.Replays
	Notify   *notify.Service
	Exports  *export.Service
	// Examine looks at the journal; nil: there is nothing to look at.
	Examine func(ctx context.Context) []store.Check
	Signer  *session.Signer
	// PortalLink makes a signed link to a customer's portal.
	PortalLink func(ref string, ttl time.Duration) (string, time.Time, error)
	Version    string
	// GatewayCount is how many gateways ask this deployment; nil: one.
	GatewayCount func(ctx context.Context) (int, error)
	// Refunds lists what was given back; nil: nothing.
	Refunds func(ctx context.Context, q store.Query) ([]store.Refund, error)
	Ready   func() bool      // whether the process takes traffic
	Metrics http.Handler     // answers /metrics
	Log     *slog.Logger     // one line for each 500
	Real    func() time.Time // the machine's clock
}

// operator is the actor of all calls with the operator's token; producer is where events that it reports come from.
const (
	operator = "operator"
	producer = "api/operator"
)

// api holds what the handlers share.
type api struct {
	cfg    Config
	routes *routes
	huma   huma.API
	spec   struct{ json, yaml []byte }

	metered meters

	refs refs
}

// New checks the configuration and starts nothing.
func New(cfg Config) (http.Handler, error) {
	switch {
	case cfg.Govern == nil, cfg.Credits == nil, cfg.Enforce == nil, cfg.Receive == nil, cfg.Ingest == nil, cfg.Bill == nil, cfg.Collect == nil, cfg.Correct == nil, cfg.Inbox == nil,
		cfg.Seal == nil, cfg.Usage == nil, cfg.Recount == nil, cfg.Clock == nil, cfg.Replays == nil, cfg.Notify == nil,
		cfg.BillingRuns == nil, cfg.Exports == nil,
		cfg.Signer == nil, cfg.PortalLink == nil, cfg.Ready == nil, cfg.Metrics == nil, cfg.Log == nil, cfg.Real == nil:
		return nil, errors.New("httpapi: incomplete configuration")
	}
	if cfg.Flush == nil {
		cfg.Flush = cfg.Enforce.Flush
	}
	return assemble(cfg)
}

// Spec is the OpenAPI 3.1 document in YAML. It needs no running services and does not depend on the program's version.
func Spec() ([]byte, error) {
	a, err := assemble(Config{Metrics: http.NotFoundHandler()})
	if err != nil {
		return nil, err
	}
	return a.spec.yaml, nil
}

func assemble(cfg Config) (*api, error) {
	a := &api{cfg: cfg, routes: &routes{mux: http.NewServeMux(), bounds: map[string]int64{}, streams: map[string]bool{}}}
	a.huma = newHuma(a.routes)
	a.customers()
	a.keys()
	a.producers()
	a.gateways()
	a.subscriptions()
	a.subscriptionChanges()
	a.invoices()
	a.billingRuns()
	a.collections()
	a.documents()
	a.events()
	a.revisions()
	a.backfills()
	a.inbox()
	a.late()
	a.usage()
	a.recounts()
	a.books()
	a.clock()
	a.catalogs()
	a.decisions()
	a.limits()
	a.allowances()
	a.credits()
	a.coupons()
	a.notices()
	a.exportStreams()
	a.checks()
	a.reservations()
	a.refunds()
	a.operations()
	a.sealRoutes()
	a.erasures()
	a.calc()
	if err := a.writeSpec(); err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	a.probes()
	a.errorPages()
	return a, nil
}

// routes is the mux and what is known of its patterns; humago registers through it. It is complete before the first request.
type routes struct {
	mux    *http.ServeMux
	bounds map[string]int64 // of a request's body in bytes, by pattern

	streams map[string]bool // patterns whose answers are sent while they are made
}

// bodyMax bounds a request's body where nothing else is said.
const bodyMax = 1 << 20

// HandleFunc registers a handler with the usual bound.
func (t *routes) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	t.handle(pattern, bodyMax, h)
}

func (t *routes) handle(pattern string, bound int64, h http.HandlerFunc) {
	t.bounds[pattern] = bound
	t.mux.Handle(pattern, h)
}

// ServeHTTP is here for humago, which does not call it.
func (t *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) { t.mux.ServeHTTP(w, r) }

// guard is who may call a route.
type guard uint8

const (
	operators guard = iota
	gatewayKeys
	everyone
)

// guardOf is operators for all of /v1 but what customers ask with their own key, found or not.
func guardOf(path string) guard {
	switch {
	case path == "/v1/limits/me":
		return gatewayKeys
	case strings.HasPrefix(path, "/v1/"):
		return operators
	}
	return everyone
}

func (a *api) probes() {
	a.routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") })
	a.routes.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !a.cfg.Ready() {
			plain(w, http.StatusServiceUnavailable, "not ready\n")
			return
		}
		plain(w, http.StatusOK, "ok\n")
	})
	var started atomic.Bool
	a.routes.HandleFunc("GET /startupz", func(w http.ResponseWriter, _ *http.Request) {
		if !started.Load() && !a.cfg.Ready() {
			plain(w, http.StatusServiceUnavailable, "starting\n")
			return
		}
		started.Store(true)
		plain(w, http.StatusOK, "ok\n")
	})
	a.routes.HandleFunc("GET /metrics", a.cfg.Metrics.ServeHTTP)
	a.routes.HandleFunc("GET /openapi.json", fixed("application/openapi+json", a.spec.json))
	a.routes.HandleFunc("GET /openapi.yaml", fixed("application/openapi+yaml", a.spec.yaml))
}

func fixed(contentType string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(b) // the client may be gone
	}
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client may be gone
}
