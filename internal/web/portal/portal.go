// Package portal serves the customers' pages. Who somebody is comes from the signed session alone: no address names a
// customer, and what belongs to another one is not found.
package portal

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/a-h/templ"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/web/session"
	"github.com/tallystick/tallystick/internal/web/statement"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// root is where a customer's pages stand.
const root = statement.Root("/portal")

const cookieName = "tally_portal"

// Config is what the portal needs; all but Credits, Demo and Collect are required.
type Config struct {
	Govern  *govern.Service
	Credits *credits.Service // nil: no page tells of credits
	Enforce *enforce.Enforcer
	Bill    *bill.Service
	Clock   *clock.Clock
	Signer  *session.Signer
	Demo    bool                            // say on every page that nothing here is real
	Notify  *notify.Service                 // nil: no reminders
	Ship    func(ctx context.Context) error // see statement.Sources
	Log     *slog.Logger
	Collect *collect.Service // see statement.Sources
}

type portal struct {
	cfg Config
	statement.Sources
	assets *ui.Assets
}

// New checks the configuration and starts nothing. The handler answers /portal and all below it; its pages need the
// console's assets.
func New(cfg Config) (http.Handler, error) {
	p := &portal{cfg: cfg, Sources: statement.Sources{
		Govern: cfg.Govern, Enforce: cfg.Enforce, Bill: cfg.Bill, Clock: cfg.Clock, Notify: cfg.Notify, Ship: cfg.Ship, Log: cfg.Log,
		Collect: cfg.Collect,
	}}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	if cfg.Signer == nil {
		return nil, fmt.Errorf("portal: signer is required: %w", account.ErrInvalid)
	}
	var err error
	if p.assets, err = ui.LoadAssets(); err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /portal/open", p.open)
	mux.HandleFunc("POST /portal/leave", p.leave)
	for pattern, page := range map[string]func(*http.Request, account.Customer) (templ.Component, error){
		"GET /portal":                         p.home,
		"GET /portal/{$}":                     p.home,
		"GET /portal/live":                    p.live,
		"GET /portal/decisions/{id}":          p.decision,
		"GET /portal/invoices/{id}":           p.invoice,
		"GET /portal/invoices/{id}/lines/{n}": p.line,
		"/portal/":                            p.nothing,
	} {
		mux.Handle(pattern, p.signedIn(page))
	}
	mux.Handle("GET /portal/invoices/{id}/{form}", p.download())
	return ui.Harden(http.NewCrossOriginProtection().Handler(mux)), nil
}

// open takes a signed link and redirects at once, so that its token is in no page's address.
func (p *portal) open(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	id, _, ok := p.cfg.Signer.Verify(session.PortalLink, r.URL.Query().Get("token"))
	if _, known := p.Govern.Customer(id); !ok || !known {
		p.write(w, r, http.StatusForbidden, p.shut("This link does not open the portal",
			"It has expired or is not complete. Ask whoever sent it for a new one."))
		return
	}
	token, expires := p.cfg.Signer.Sign(session.Portal, id, session.PortalTTL)
	// Not strict: the link is followed from a mail or a chat, and what it opens only shows figures.
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: token, Path: "/portal", Expires: expires, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil,
	})
	http.Redirect(w, r, "/portal", http.StatusSeeOther)
}

func (p *portal) leave(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Path: "/portal", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil,
	})
	p.write(w, r, http.StatusOK, p.shut("You have left the portal", "Your link opens it again while it is valid."))
}

// customer is who the session speaks for.
func (p *portal) customer(r *http.Request) (account.Customer, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return account.Customer{}, false
	}
	id, _, ok := p.cfg.Signer.Verify(session.Portal, cookie.Value)
	if !ok {
		return account.Customer{}, false
	}
	return p.Govern.Customer(id)
}

func (p *portal) signedIn(page func(*http.Request, account.Customer) (templ.Component, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cust, ok := p.customer(r)
		if !ok {
			if ui.Live(r) {
				w.Header().Set("HX-Redirect", "/portal")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			p.write(w, r, http.StatusUnauthorized, p.shut("Open the portal with your link",
				"You are not signed in here, or your visit has ended. The link that was sent to you opens the portal; if it has expired, ask for a new one."))
			return
		}
		c, err := page(r, cust)
		if err != nil && r.Context().Err() != nil {
			return // the reader left
		}
		status := http.StatusOK
		if err != nil {
			fault := ui.ProblemOf(err)
			if fault.Ours {
				p.Log.ErrorContext(r.Context(), "portal page", slog.String("path", r.URL.Path), slog.Any("error", err))
			}
			status, c = fault.Status, ui.Notice(p.frame(fault.Title, cust), fault.Text, "/portal", "To your overview")
		}
		p.write(w, r, status, c)
	})
}

// download sends a file, or the page of what went wrong.
func (p *portal) download() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var f *statement.File
		if cust, ok := p.customer(r); ok {
			var err error
			if f, err = p.file(r, cust); err == nil {
				f.Send(w)
				return
			}
			p.signedIn(func(*http.Request, account.Customer) (templ.Component, error) { return nil, err }).ServeHTTP(w, r)
			return
		}
		p.signedIn(p.nothing).ServeHTTP(w, r)
	})
}

func (p *portal) write(w http.ResponseWriter, r *http.Request, status int, page templ.Component) {
	if err := ui.Render(r.Context(), w, status, page); err != nil {
		p.Log.DebugContext(r.Context(), "portal page", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
}

func (p *portal) frame(title string, cust account.Customer) ui.Frame {
	name := cust.Name
	if name == "" {
		name = cust.Key
	}
	return ui.Frame{
		Title: title, Area: name, Home: "/portal", SignOut: "/portal/leave", Demo: p.cfg.Demo, Assets: p.assets,
		Foot: "Figures are exact and at most seconds old.",
	}
}

// shut is a page for somebody who is not signed in.
func (p *portal) shut(title, text string) templ.Component {
	f := ui.Frame{Title: title, Area: "Portal", Home: "/portal", Demo: p.cfg.Demo, Assets: p.assets}
	return ui.Notice(f, text, "", "")
}

func (p *portal) nothing(*http.Request, account.Customer) (templ.Component, error) {
	return nil, account.ErrNotFound
}

func (p *portal) home(r *http.Request, cust account.Customer) (templ.Component, error) {
	s, err := p.Read(r.Context(), cust.ID, true)
	if err != nil {
		return nil, err
	}
	list, err := p.Invoices(r.Context(), cust.ID)
	if err != nil {
		return nil, err
	}
	m, err := p.means(r.Context(), cust)
	if err != nil {
		return nil, err
	}
	return homePage(p.frame("Usage and bill", cust), s, m, list), nil
}

// live is the part of the overview that asks for itself.
func (p *portal) live(r *http.Request, cust account.Customer) (templ.Component, error) {
	s, err := p.Read(r.Context(), cust.ID, true)
	if err != nil {
		return nil, err
	}
	return homeLive(s), nil
}

// decision explains a decision of this customer; one that names nobody (an unknown key) is not theirs to see.
func (p *portal) decision(r *http.Request, cust account.Customer) (templ.Component, error) {
	id := r.PathValue("id")
	about, err := p.Enforce.Explain(id)
	if err != nil {
		return nil, err
	}
	if about.CustomerID != cust.ID {
		return nil, receipt.ErrToken
	}
	e, err := p.Explain(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return decisionPage(p.frame("Decision", cust), e), nil
}

// own finds an invoice of this customer.
func (p *portal) own(r *http.Request, cust account.Customer) (invoice.Invoice, error) {
	inv, err := p.Bill.Invoice(r.Context(), r.PathValue("id"))
	if err != nil {
		return invoice.Invoice{}, err
	}
	if inv.CustomerID != cust.ID {
		return invoice.Invoice{}, account.ErrNotFound
	}
	return inv, nil
}

func (p *portal) invoice(r *http.Request, cust account.Customer) (templ.Component, error) {
	inv, err := p.own(r, cust)
	if err != nil {
		return nil, err
	}
	d, err := p.Document(r.Context(), inv)
	if err != nil {
		return nil, err
	}
	return invoicePage(p.frame("Invoice "+strconv.FormatInt(inv.Number, 10), cust), d, p.Clock.Now()), nil
}

// file is an invoice of this customer to take away.
func (p *portal) file(r *http.Request, cust account.Customer) (*statement.File, error) {
	inv, err := p.own(r, cust)
	if err != nil {
		return nil, err
	}
	return p.File(r.Context(), inv, r.PathValue("form"), "pdf", "csv")
}

func (p *portal) line(r *http.Request, cust account.Customer) (templ.Component, error) {
	inv, err := p.own(r, cust)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		return nil, fmt.Errorf("line number: %w", account.ErrNotFound)
	}
	t, err := p.Trace(r.Context(), inv.ID, n, r.URL.Query().Get("cursor"))
	if err != nil {
		return nil, err
	}
	return linePage(p.frame("Line "+strconv.Itoa(n), cust), t), nil
}
