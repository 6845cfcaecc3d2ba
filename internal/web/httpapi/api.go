// Package httpapi is the REST API: /v1, its OpenAPI document, the pages of the error codes, and the probes.
package httpapi

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/web/session"
)

// Config of the API. All fields are required.
type Config struct {
	Govern  *govern.Service
	Enforce *enforce.Enforcer
	Ingest  *ingest.Service
	Bill    *bill.Service
	Clock   *clock.Clock
	Replays *govern.Replays
	Signer  *session.Signer
	// PortalLink makes a signed link to a customer's portal.
	PortalLink func(ref string, ttl time.Duration) (string, time.Time, error)
	Version    string
	Ready      func() bool  // whether the process takes traffic
	Metrics    http.Handler // answers /metrics
	Log        *slog.Logger
	Real       func() time.Time // the machine's clock
}

// New checks the configuration and starts nothing.
func New(cfg Config) (http.Handler, error) {
	return nil, errors.New("httpapi: not assembled")
}
