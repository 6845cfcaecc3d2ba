// Package console serves the operators' pages: sign-in, the live home page, decisions, customers, invoices.
package console

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/tallystick/tallystick/internal/app/bill"
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
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/session"
	"github.com/tallystick/tallystick/internal/web/statement"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// Config is what the console needs; all but Version and Demo are required.
type Config struct {
	Govern  *govern.Service
	Credits *credits.Service
	Enforce *enforce.Enforcer
	Bill    *bill.Service
	Ingest  *ingest.Service
	Correct *correct.Service
	Inbox   *inbox.Service
	Clock   *clock.Clock
	Signer  *session.Signer
	// PortalLink makes a signed link to a customer's portal.
	PortalLink func(ref string, ttl time.Duration) (string, time.Time, error)
	Version    string
	Demo       bool                            // say on every page that nothing here is real
	Notify     *notify.Service                 // nil: no reminders
	Ship       func(ctx context.Context) error // see statement.Sources
	Collect    *collect.Service                // see statement.Sources
	Log        *slog.Logger
	// Gateways lists those of other processes; nil: there is no page of them.
	Gateways func() []node.Status
	// Exports are the streams to other systems; nil: none is shown.
	Exports func() []export.Counted
}

type console struct {
	cfg Config
	statement.Sources
	assets *ui.Assets
	totals totals
}

// answer is what a page handler makes; the zero status is 200.
type answer struct {
	status int
	page   templ.Component
	to     string          // see other; then page is not used
	file   *statement.File // to take away; then page is not used
}

// New checks the configuration and starts nothing. The handler answers "/" and what no other handler has.
func New(cfg Config) (http.Handler, error) {
	c := &console{cfg: cfg, Sources: statement.Sources{
		Govern: cfg.Govern, Enforce: cfg.Enforce, Bill: cfg.Bill, Clock: cfg.Clock, Notify: cfg.Notify, Ship: cfg.Ship, Log: cfg.Log,
		Collect: cfg.Collect,
	}}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	if cfg.Signer == nil || cfg.PortalLink == nil || cfg.Credits == nil || cfg.Ingest == nil || cfg.Correct == nil || cfg.Inbox == nil || cfg.Collect == nil {
		return nil, fmt.Errorf("console: signer, portal link, credits, ingest, corrections, inbox and collect are required: %w", account.ErrInvalid)
	}
	var err error
	if c.assets, err = ui.LoadAssets(); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+ui.AssetsPath, c.assets)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, c.assets.URL("favicon.svg"), http.StatusSeeOther)
	})
	mux.Handle("GET /login", c.open(c.loginForm))
	mux.Handle("POST /login", c.open(c.login))
	mux.Handle("POST /logout", c.open(c.logout))
	for pattern, page := range map[string]func(*http.Request) (answer, error){
		"GET /{$}":                            c.home,
		"GET /live":                           c.live,
		"GET /decisions":                      c.decisions,
		"GET /decisions/{id}":                 c.decision,
		"GET /customers":                      c.customers,
		"GET /customers/{ref}":                c.customer,
		"GET /customers/{ref}/live":           c.customerLive,
		"POST /customers/{ref}/portal":        c.portalLink,
		"POST /customers/{ref}/overrides":     c.createOverride,
		"POST /customers/{ref}/overrides/end": c.endOverride,
		"POST /customers/{ref}/grants":        c.createGrant,
		"POST /customers/{ref}/grants/void":   c.voidGrant,
		"POST /customers/{ref}/changes":       c.changeSubscription,
		"POST /customers/{ref}/coupons":       c.redeem,
		"POST /customers/{ref}/coupons/end":   c.endRedemption,
		"POST /customers/{ref}/deposits":      c.deposit,
		"POST /customers/{ref}/billing":       c.billTo,
		"POST /invoices/{id}/payments":        c.pay,
		"POST /invoices/{id}/void":            c.voidInvoice,
		"POST /invoices/{id}/uncollectible":   c.giveUp,
		"POST /invoices/{id}/credit-notes":    c.creditInvoice,
		"GET /credit-notes/{id}/{form}":       c.creditNoteFile,
		"GET /notices":                        c.notices,
		"POST /notices/{id}/redeliver":        c.redeliver,
		"GET /invoices":                       c.invoices,
		"GET /invoices/{id}":                  c.invoice,
		"GET /invoices/{id}/lines/{n}":        c.line,
		"GET /invoices/{id}/{form}":           c.invoiceFile,
		"GET /events":                         c.events,
		"GET /events/live":                    c.eventsLive,
		"GET /events/show":                    c.event,
		"POST /events/void":                   c.voidEvent,
		"POST /events/amend":                  c.amendEvent,
		"GET /events/unmatched":               c.unmatched,
		"POST /events/unmatched/fix":          c.fixUnmatched,
		"/":                                   c.nothing,
	} {
		mux.Handle(pattern, c.signedIn(page))
	}
	if cfg.Gateways != nil {
		mux.Handle("GET /gateways", c.signedIn(c.gateways))
		mux.Handle("GET /gateways/live", c.signedIn(c.gatewaysLive))
	}
	return ui.Harden(http.NewCrossOriginProtection().Handler(mux)), nil
}

// nothing answers addresses that have no page.
func (c *console) nothing(*http.Request) (answer, error) { return answer{}, account.ErrNotFound }

// signedIn lets operators through and sends others to sign in, back to where they wanted to go.
func (c *console) signedIn(page func(*http.Request) (answer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !c.isOperator(r) {
			if ui.Live(r) { // a part of a page cannot become the sign-in page
				w.Header().Set("HX-Redirect", "/login")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			http.Redirect(w, r, loginPath(r), http.StatusSeeOther)
			return
		}
		a, err := page(r)
		c.write(w, r, a, err)
	})
}

// write sends what a handler made of a request, or the page of its error.
func (c *console) write(w http.ResponseWriter, r *http.Request, a answer, err error) {
	if err != nil && r.Context().Err() != nil {
		return // the reader left
	}
	if err != nil {
		p := ui.ProblemOf(err)
		if p.Ours {
			c.Log.ErrorContext(r.Context(), "console page", slog.String("path", r.URL.Path), slog.Any("error", err))
		}
		a = answer{status: p.Status, page: ui.Notice(c.frame(r, p.Title), p.Text, "/", "To the home page")}
	}
	if a.to != "" {
		http.Redirect(w, r, a.to, http.StatusSeeOther)
		return
	}
	if a.file != nil {
		a.file.Send(w)
		return
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if err := ui.Render(r.Context(), w, a.status, a.page); err != nil {
		c.Log.DebugContext(r.Context(), "console page", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
}

// frame is the frame of a page; the navigation only for operators.
func (c *console) frame(r *http.Request, title string) ui.Frame {
	f := ui.Frame{Title: title, Area: "Console", Home: "/", Demo: c.cfg.Demo, Foot: "Tallystick " + c.cfg.Version, Assets: c.assets}
	if !c.isOperator(r) {
		return f
	}
	f.SignOut = "/logout"
	for _, item := range []ui.NavItem{
		{Href: "/", Text: "Home"},
		{Href: "/decisions", Text: "Decisions"},
		{Href: "/customers", Text: "Customers"},
		{Href: "/events", Text: "Events"},
		{Href: "/notices", Text: "Notices"},
		{Href: "/invoices", Text: "Invoices"},
		{Href: "/gateways", Text: "Gateways"},
	} {
		if item.Href == "/gateways" && c.cfg.Gateways == nil {
			continue
		}
		item.Here = r.URL.Path == item.Href
		item.Within = item.Href != "/" && strings.HasPrefix(r.URL.Path, item.Href+"/")
		f.Nav = append(f.Nav, item)
	}
	return f
}
