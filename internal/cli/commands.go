package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/tallystick/tallystick/internal/cli/problem"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/web/httpapi"
)

// Commands talk to a running server.
type Commands struct {
	Plan          planCmd          `cmd:"" help:"Show what applying a catalog file would change."`
	Apply         applyCmd         `cmd:"" help:"Apply a catalog file as a new version."`
	Catalog       catalogCmd       `cmd:"" help:"Applied catalog versions."`
	Customers     customersCmd     `cmd:"" help:"Customers: create, list, get, update; their money balance: balance, deposit, refund."`
	Keys          keysCmd          `cmd:"" help:"API keys: create, list, get, revoke."`
	Subscriptions subscriptionsCmd `cmd:"" help:"Subscriptions: create, list, get, timeline, change, cancel, pause, resume, revive, migrate."`
	Producers     producersCmd     `cmd:"" help:"Producers of usage: create, list, get, rotate, revoke."`
	Ingest        ingestCmd        `cmd:"" help:"Report usage events from a file."`
	Burst         burstCmd         `cmd:"" help:"Send requests through the gateway and count the answers."`
	Explain       explainCmd       `cmd:"" help:"Say why a request was allowed or denied."`
	Usage         usageCmd         `cmd:"" help:"Metered usage, of one customer or several."`
	Meters        metersCmd        `cmd:"" help:"Apply meters to kept events: recount, recounts, follow, cancel."`
	Limits        limitsCmd        `cmd:"" help:"Every limit of a customer with its present state."`
	Reservations  reservationsCmd  `cmd:"" help:"Quota for work that is no proxied request: create, get, extend, settle, release."`
	Overrides     overridesCmd     `cmd:"" help:"Another number for a limit of one customer or key: create, list, end."`
	Credits       creditsCmd       `cmd:"" help:"Usage credits: grant, void, list, balance, top-up."`
	Coupons       couponsCmd       `cmd:"" help:"Coupons of the catalog that customers use: redeem, end, list."`
	Refunds       refundsCmd       `cmd:"" help:"What was given back: list."`
	Notices       noticesCmd       `cmd:"" help:"What customers should know in time: list, get, redeliver."`
	Webhooks      webhooksCmd      `cmd:"" help:"Where notices are sent: create, list, disable."`
	Exports       exportsCmd       `cmd:"" help:"Usage events and ledger entries streamed to Kafka or NATS JetStream: create, list, show, pause, resume, delete."`
	Bill          billCmd          `cmd:"" help:"Runs of billing: run, runs, show, cancel."`
	Invoices      invoicesCmd      `cmd:"" help:"Invoices: list, show, preview, pay, void, uncollectible, credit, history, download."`
	Payments      paymentsCmd      `cmd:"" help:"Payments: list."`
	CreditNotes   creditNotesCmd   `cmd:"" help:"Credit notes: list."`
	Ledger        ledgerCmd        `cmd:"" help:"The ledger: list, check."`
	Trace         traceCmd         `cmd:"" help:"Lead an invoice line back to its windows, events and decisions."`
	Event         eventCmd         `cmd:"" help:"Show an event and the invoice line that it stands on."`
	Events        eventsCmd        `cmd:"" help:"Events: list, get, void, amend, history."`
	Backfill      backfillCmd      `cmd:"" help:"Usage loaded afterwards, as a unit: open, load, preview, close, revert."`
	Unmatched     unmatchedCmd     `cmd:"" help:"Events that count for nothing: list, show, fix, replay."`
	Aliases       aliasesCmd       `cmd:"" help:"Other names of event types and customers: create, list, delete."`
	Late          lateCmd          `cmd:"" help:"Usage that changed after its period was closed: list."`
	Books         booksCmd         `cmd:"" help:"Check that admitted + reported - voided = metered = rated + unpriced."`
	Calc          calcCmd          `cmd:"" help:"Answer questions about prices, proration, tax, credits and usage, a JSON object on each line of stdin; needs no server."`
	Erase         eraseCmd         `cmd:"" help:"Erase the content of all events of a subject so far; what they count for stays."`
	Clock         clockCmd         `cmd:"" help:"Read the business clock; in test mode, advance it."`
	Portal        portalCmd        `cmd:"" help:"Make a signed link to a customer's portal."`
	Status        statusCmd        `cmd:"" help:"Counters of the running server."`

	SealCommands
}

// ask gets a document and prints it.
func ask(e *Env, path string, q url.Values, text func(io.Writer, doc) error) error {
	c, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := c.get(e.Ctx, path, q)
	if err != nil {
		return err
	}
	return e.print(b, text)
}

// askOfSource is ask about an event of a source.
func askOfSource(e *Env, path, source string, text func(io.Writer, doc) error) error {
	return problem.OfSource(ask(e, path, only("source", source), text), source)
}

// send posts a document and prints the answer.
func send(e *Env, path string, body any, text func(io.Writer, doc) error) error {
	c, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := c.post(e.Ctx, path, body)
	if err != nil {
		return err
	}
	return e.print(b, text)
}

// pages is how long a list may get.
type pages struct {
	Limit int `help:"At most so many, newest first." default:"1000"`
}

func (p pages) ask(e *Env, path string, q url.Values, text func(io.Writer, doc) error) error {
	if p.Limit < 1 {
		return errors.New("--limit must be at least 1")
	}
	c, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := c.all(e.Ctx, path, q, p.Limit)
	if err != nil {
		return err
	}
	return e.print(b, text)
}

func only(key, value string) url.Values {
	q := url.Values{}
	if value != "" {
		q.Set(key, value)
	}
	return q
}

// put is a request body without its empty fields.
func put(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if v := pairs[i+1]; ok && v != "" && v != 0 {
			m[key] = v
		}
	}
	return m
}

type applyCmd struct {
	File string `arg:"" help:"Catalog file (YAML), - for stdin."`
}

func (c *applyCmd) Run(e *Env) error {
	return e.sendCatalog(c.File, "/v1/catalog/versions", nil, func(w io.Writer, d doc) error {
		if err := printChanges(w, d); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "Catalog version %s is in force.\n", d.s("version"))
		return err
	})
}

func (d doc) strings(key string) (out []string) {
	items, _ := d[key].([]any) // absent: none
	for _, it := range items {
		out = append(out, fmt.Sprint(it))
	}
	return out
}

func (e *Env) sendCatalog(file, path string, query url.Values, text func(io.Writer, doc) error) error {
	var source []byte
	var err error
	if file == "-" {
		source, err = io.ReadAll(io.LimitReader(os.Stdin, 2<<20))
	} else {
		source, err = os.ReadFile(file)
	}
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	c, err := newClient(e)
	if err != nil {
		return err
	}
	all := url.Values{"file": {filepath.Base(file)}}
	maps.Copy(all, query)
	b, err := c.do(e.Ctx, http.MethodPost, path, all, "application/yaml", source)
	if err != nil {
		return err
	}
	return e.print(b, text)
}

type catalogCmd struct {
	Get  catalogGetCmd  `cmd:"" help:"Print a version's YAML."`
	List catalogListCmd `cmd:"" help:"List versions."`
}

type catalogGetCmd struct {
	Version string `arg:"" optional:"" default:"latest" help:"Number of the version; default: the newest."`
}

func (c *catalogGetCmd) Run(e *Env) error {
	return ask(e, "/v1/catalog/versions/"+url.PathEscape(c.Version), nil, func(w io.Writer, d doc) error {
		_, err := io.WriteString(w, d.s("source"))
		return err
	})
}

type catalogListCmd struct{ pages }

func (c *catalogListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/catalog/versions", nil, table("VERSION|APPLIED AT|BY", "version", "applied_at", "applied_by"))
}

type explainCmd struct {
	DecisionID string `arg:"" help:"The Decision-Id header of an answer."`
	KeyFile    string `help:"Open it with this key file (secrets/decision.key), without a server." type:"path"`
}

// Run asks the server; without one, the key file of the data folder is enough.
func (c *explainCmd) Run(e *Env) error {
	if c.KeyFile != "" {
		return c.local(e, c.KeyFile)
	}
	cl, err := newClient(e)
	if err == nil {
		var b json.RawMessage
		b, err = cl.post(e.Ctx, "/v1/decisions/explain", put("decision_id", c.DecisionID))
		if err == nil {
			return e.print(b, explainText)
		}
	}
	if _, ok := errors.AsType[*problem.Answer](err); ok {
		return err
	}
	keyFile := filepath.Join(e.DataDir(), "secrets", "decision.key")
	if _, serr := os.Stat(keyFile); serr != nil {
		return err
	}
	return c.local(e, keyFile)
}

func (c *explainCmd) local(e *Env, keyFile string) error {
	b, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("read key file: %w", err)
	}
	ring, err := receipt.ParseKeyring(b)
	if err != nil {
		return fmt.Errorf("%s: %w", keyFile, err)
	}
	r, err := ring.Open(c.DecisionID)
	if err != nil {
		return fmt.Errorf("this decision id was not made with the keys in %s: %w", keyFile, err)
	}
	out, err := json.Marshal(httpapi.Explanation(c.DecisionID, r))
	if err != nil {
		return err
	}
	return e.print(out, explainText)
}

type limitsCmd struct {
	Customer string `arg:"" help:"Id or key."`
}

func (c *limitsCmd) Run(e *Env) error {
	return ask(e, "/v1/customers/"+url.PathEscape(c.Customer)+"/limits", nil, limitsText)
}

type traceCmd struct {
	Line  string `arg:"" help:"INVOICE_ID/LINE; LINE is a number from 1 or an iln_ id."`
	Limit int    `help:"At most so many events." default:"100000"`
}

func (c *traceCmd) Run(e *Env) error {
	id, line := filepath.Split(c.Line)
	if id == "" || line == "" {
		return errors.New("name the line as INVOICE_ID/LINE, for example inv_…/1")
	}
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	path := "/v1/invoices/" + url.PathEscape(filepath.Clean(id)) + "/lines/" + url.PathEscape(line) + "/trace"
	b, err := cl.gather(e.Ctx, path, url.Values{}, "events", c.Limit)
	if err != nil {
		return err
	}
	return e.print(b, traceText)
}

type eventCmd struct {
	ID     string `arg:"" help:"The event's id."`
	Source string `help:"The event's source (default: that of the gateway that made the id)."`
}

func (c *eventCmd) Run(e *Env) error {
	return askOfSource(e, "/v1/events/"+url.PathEscape(c.ID), c.Source, func(w io.Writer, d doc) error {
		if err := fields("id", "source", "type", "subject", "time", "customer", "meter", "value", "origin", "flags", "revision", "voided", "erased", "backfill", "key_id", "decision_id")(w, d); err != nil {
			return err
		}
		for _, x := range d.list("lines") {
			if _, err := fmt.Fprintf(w, "line\t%s/%s\t%s\n", x.s("invoice_id"), x.s("number"), x.s("invoice_status")); err != nil {
				return err
			}
		}
		return nil
	})
}

type booksCmd struct {
	Customer string `help:"Only this customer." placeholder:"CUSTOMER"`
}

func (c *booksCmd) Run(e *Env) error {
	return ask(e, "/v1/books", only("customer", c.Customer), booksText)
}

type eraseCmd struct {
	Subject string `arg:"" help:"The subject of the events, as they were sent."`
	Reason  string `help:"Why; it stays in the journal." required:""`
}

func (c *eraseCmd) Run(e *Env) error {
	return send(e, "/v1/erasures", put("subject", c.Subject, "reason", c.Reason), fields("position", "waiting"))
}

type clockCmd struct {
	Show    clockShowCmd    `cmd:"" default:"1" help:"Read the clock."`
	Advance clockAdvanceCmd `cmd:"" help:"Move a test clock forward and do the work that becomes due."`
}

type clockShowCmd struct{}

func (clockShowCmd) Run(e *Env) error {
	return ask(e, "/v1/clock", nil, fields("now", "real", "offset_s", "test", "period_end"))
}

type clockAdvanceCmd struct {
	By string `help:"How far, for example 24h." placeholder:"DURATION" xor:"target" required:""`
	To string `help:"period-end, or an RFC 3339 instant. One of both is needed." placeholder:"T" xor:"target" required:""`
}

func (c *clockAdvanceCmd) Run(e *Env) error {
	if c.By != "" {
		if _, err := time.ParseDuration(c.By); err != nil {
			return fmt.Errorf("--by: %q is not a duration such as 24h or 90m", c.By)
		}
	}
	return send(e, "/v1/clock/advance", put("by", c.By, "to", c.To), fields("now", "offset_s", "period_end", "invoices_finalized"))
}

type portalCmd struct {
	Customer string        `arg:"" help:"Id or key."`
	TTL      time.Duration `help:"How long the link works." default:"24h"`
}

func (c *portalCmd) Run(e *Env) error {
	return send(e, "/v1/customers/"+url.PathEscape(c.Customer)+"/portal-link", put("ttl_s", int(c.TTL/time.Second)), fields("url", "expires_at"))
}

type statusCmd struct{}

func (statusCmd) Run(e *Env) error {
	return ask(e, "/v1/status", nil, statusText)
}
