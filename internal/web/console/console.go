// Package console serves the operators' pages.
package console

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/web/session"
)

// Config is what the console needs.
type Config struct {
	Govern     *govern.Service
	Enforce    *enforce.Enforcer
	Bill       *bill.Service
	Clock      *clock.Clock
	Signer     *session.Signer
	PortalLink func(ref string, ttl time.Duration) (string, time.Time, error)
	Version    string
	Demo       bool
	Log        *slog.Logger
}

// New builds the console's handler.
func New(_ Config) (http.Handler, error) { return http.NotFoundHandler(), nil }
