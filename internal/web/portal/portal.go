// Package portal serves the customers' pages.
package portal

import (
	"log/slog"
	"net/http"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/web/session"
)

// Config is what the portal needs.
type Config struct {
	Govern  *govern.Service
	Enforce *enforce.Enforcer
	Bill    *bill.Service
	Clock   *clock.Clock
	Signer  *session.Signer
	Demo    bool
	Log     *slog.Logger
}

// New builds the portal's handler.
func New(_ Config) (http.Handler, error) { return http.NotFoundHandler(), nil }
