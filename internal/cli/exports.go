package cli

import (
	"io"
	"net/http"
	"net/url"
	"strings"
)

type exportsCmd struct {
	Create exportsCreateCmd `cmd:"" help:"Stream usage events and ledger entries to Kafka or NATS JetStream from now on, or from the start."`
	List   exportsListCmd   `cmd:"" help:"List exports."`
	Show   exportsShowCmd   `cmd:"" help:"Show an export: how far it is, what is left, its last error."`
	Pause  exportsPauseCmd  `cmd:"" help:"Send nothing for now."`
	Resume exportsResumeCmd `cmd:"" help:"Go on where it was, at once."`
	Delete exportsDeleteCmd `cmd:"" help:"End an export; what was sent stays where it is."`
}

type exportsCreateCmd struct {
	Name string `arg:"" help:"A short name of your own."`
	To   string `help:"kafka://HOST:PORT/TOPIC or nats://HOST:PORT/SUBJECT with options; credentials by the name of a variable or file of the server." required:"" placeholder:"URL"`
	What string `help:"events, ledger, or both with a comma between them." default:"events,ledger"`
	From string `help:"now, or start: all that is kept." enum:"now,start" default:"now"`
}

func (c *exportsCreateCmd) Run(e *Env) error {
	return send(e, "/v1/exports", put("name", c.Name, "to", c.To, "what", strings.Split(c.What, ","), "from", c.From), exportText)
}

type exportsListCmd struct{ pages }

func (c *exportsListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/exports", nil, table("NAME|TO|WHAT|STATE|BEHIND RECORDS|BEHIND ENTRIES|FAILURES", "name", "to", "what", "state", "behind_records", "behind_entries", "failures"))
}

// namedExport is the argument of the commands about one export.
type namedExport struct {
	Name string `arg:"" help:"Name or exp_…"`
}

func (n namedExport) path() string { return "/v1/exports/" + url.PathEscape(n.Name) }

type exportsShowCmd struct{ namedExport }

func (c *exportsShowCmd) Run(e *Env) error { return ask(e, c.path(), nil, exportText) }

type exportsPauseCmd struct{ namedExport }

func (c *exportsPauseCmd) Run(e *Env) error { return send(e, c.path()+"/pause", put(), exportText) }

type exportsResumeCmd struct{ namedExport }

func (c *exportsResumeCmd) Run(e *Env) error { return send(e, c.path()+"/resume", put(), exportText) }

type exportsDeleteCmd struct{ namedExport }

func (c *exportsDeleteCmd) Run(e *Env) error {
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.do(e.Ctx, http.MethodDelete, c.path(), nil, "", nil)
	if err != nil {
		return err
	}
	return e.print(b, exportText)
}

func exportText(w io.Writer, d doc) error {
	return fields("id", "name", "to", "what", "state", "position", "behind_records", "entry", "behind_entries", "failures", "next_at", "last_error",
		"failed_at", "moved_at", "created_at")(w, d)
}
