package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/cli/problem"
	"github.com/tallystick/tallystick/internal/core/seal"
)

// SealCommands are about proof. Verify needs no server, audit none that runs.
type SealCommands struct {
	Prove      proveCmd      `cmd:"" help:"Write a bundle that proves an event or an invoice line."`
	Verify     verifyCmd     `cmd:"" help:"Check a bundle with the public key alone, without a server."`
	Checkpoint checkpointCmd `cmd:"" help:"Print the newest signed checkpoint of the journal, or the public key."`
	Audit      auditCmd      `cmd:"" help:"Check the journal against its checkpoints; audit log: what operators did."`
}

type proveCmd struct {
	What   string `arg:"" help:"An event's id, or INVOICE_ID/LINE; LINE is a number from 1 or an iln_ id." name:"event-or-line"`
	Source string `help:"The event's source (default: that of the gateway that made the id)."`
	Events bool   `help:"Of a line: with the leaf hashes of its events."`
	Out    string `help:"File to write to; default stdout." placeholder:"FILE"`
}

func (c *proveCmd) Run(e *Env) error {
	path, q := "/v1/events/"+url.PathEscape(c.What)+"/proof", only("source", c.Source)
	if id, line := filepath.Split(c.What); strings.HasPrefix(id, "inv_") && line != "" {
		path, q = "/v1/invoices/"+url.PathEscape(filepath.Clean(id))+"/lines/"+url.PathEscape(line)+"/proof", url.Values{}
		if c.Events {
			q.Set("events", "true")
		}
	} else if c.Events {
		return errors.New("--events is for an invoice line, named as INVOICE_ID/LINE")
	}
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.get(e.Ctx, path, q)
	if err != nil {
		if strings.HasPrefix(path, "/v1/events/") {
			err = problem.OfSource(err, c.Source)
		}
		return err
	}
	if c.Out == "" {
		_, err := e.Stdout.Write(b)
		return err
	}
	if err := os.WriteFile(c.Out, b, 0o600); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if e.JSON {
		return PrintJSON(e.Stdout, map[string]any{"file": c.Out, "bytes": len(b)})
	}
	_, err = fmt.Fprintf(e.Stdout, "%s has %d bytes. Check it anywhere: tally verify %s --key KEY (the key: tally checkpoint --key)\n", c.Out, len(b), filepath.Base(c.Out))
	return err
}

type verifyCmd struct {
	File string `arg:"" help:"The bundle, - for stdin."`
	Key  string `help:"The deployment's public key, or a file with it." required:"" placeholder:"KEY"`
}

func (c *verifyCmd) Run(e *Env) error {
	text, err := readFile(c.File, seal.BundleMax+1)
	if err != nil {
		return fmt.Errorf("read the bundle: %w", err)
	}
	b, at, err := seal.Verify(text, publicKey(c.Key))
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	out, err := json.Marshal(map[string]any{
		"holds": true, "proof": b.Proof, "event": b.Event, "line": b.Line,
		"checkpoint": map[string]any{"origin": at.Origin, "size": at.Size, "root": at.Root, "time": at.Time.UTC().Format(time.RFC3339)},
	})
	if err != nil {
		return err
	}
	return e.print(out, verifiedText)
}

func verifiedText(w io.Writer, d doc) error {
	out := lines{w: w}
	out.put("holds", "signed by "+d.s("checkpoint.origin")+" at "+d.s("checkpoint.time")+" over "+d.s("checkpoint.size")+" records")
	if d.s("proof") == seal.EventProof {
		for _, name := range []string{"position", "id", "source", "type", "time", "received_at", "origin", "subject", "key_id"} {
			if v := d.s("event." + name); v != "" {
				out.put(name, v)
			}
		}
		event, _ := d["event"].(map[string]any) // it is there, or the bundle would not hold
		for _, n := range doc(event).list("counts") {
			out.put("counts", n.s("value")+" of "+n.s("meter")+" for "+n.s("customer"))
		}
		if d.s("event.erased") == "true" {
			out.put("erased", "its payload is gone, the proof stays")
		}
		return out.err
	}
	for _, name := range []string{"invoice", "line.id", "line.price", "line.meter", "line.quantity", "line.exact", "close.customer", "close.period.start", "close.period.end"} {
		if v := d.s("line." + name); v != "" {
			out.put(name, v)
		}
	}
	line, _ := d["line"].(map[string]any) // as above
	closed, _ := line["close"].(map[string]any)
	for _, s := range doc(closed).list("series") {
		out.put("sealed "+s.s("meter"), s.s("value")+" from "+s.s("count")+" events")
	}
	if n := len(doc(line).list("events")); n > 0 {
		out.put("events", fmt.Sprint(n)+" leaf hashes make the sealed root")
	}
	return out.err
}

// readFile reads a file or stdin, at most so much.
func readFile(name string, most int64) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, most))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was read only
	return io.ReadAll(io.LimitReader(f, most))
}

// keyFileMax bounds a file that holds a public key.
const keyFileMax = 4 << 10

// publicKey is the key itself, or what a file of that name holds.
func publicKey(arg string) string {
	if b, err := readFile(arg, keyFileMax); err == nil && arg != "-" {
		return strings.TrimSpace(string(b))
	}
	return strings.TrimSpace(arg)
}

type checkpointCmd struct {
	Key  bool `help:"Print the public key that verifies checkpoints and bundles."`
	List bool `help:"List all, newest first."`
	pages
}

func (c *checkpointCmd) Run(e *Env) error {
	if c.List {
		return c.ask(e, "/v1/checkpoints", nil, table("SIZE|TIME|ROOT", "size", "time", "root"))
	}
	if c.Key {
		cl, err := newClient(e)
		if err != nil {
			return err
		}
		b, err := cl.get(e.Ctx, "/v1/checkpoints/key", nil)
		if err != nil {
			return err
		}
		return e.print(b, func(w io.Writer, d doc) error {
			_, err := fmt.Fprintln(w, d.s("key"))
			return err
		})
	}
	return ask(e, "/v1/checkpoints/latest", nil, func(w io.Writer, d doc) error {
		_, err := io.WriteString(w, d.s("note"))
		return err
	})
}

type auditCmd struct {
	Run auditRunCmd `cmd:"" default:"withargs" help:"Read the whole log again and compare rollups, tree, checkpoints and invoices with it; exit 1 on findings."`
	Log auditLogCmd `cmd:"" help:"What operators did."`
}

type auditRunCmd struct {
	Against string `help:"A checkpoint that was kept elsewhere, as tally checkpoint prints it." type:"path" placeholder:"FILE"`
	Key     string `help:"The public key for it, or a file with it; default: this deployment's." placeholder:"KEY"`
	Stopped bool   `help:"Read the data folder itself, which no server may have open; also done when the server does not answer."`
	Stores
}

// Stores say where a deployment has what is not in its data folder. Empty: in the folder.
type Stores struct {
	Records string `help:"Without a server: URL of the records, as serve has it." env:"TALLY_RECORDS" placeholder:"URL"`
	Journal string `help:"Without a server: URL of the journal." env:"TALLY_JOURNAL" placeholder:"URL"`
	Secrets string `help:"Without a server: folder of the secrets." type:"path" env:"TALLY_SECRETS" placeholder:"DIR"`
}

// AuditFolder audits a data folder that no server has open.
type AuditFolder func(e *Env, at Stores, against []byte, key string) (report any, err error)

func (c *auditRunCmd) Run(e *Env) error {
	var against []byte
	if c.Against != "" {
		var err error
		if against, err = readFile(c.Against, seal.CheckpointMax+1); err != nil {
			return fmt.Errorf("--against: %w", err)
		}
	}
	key := ""
	if c.Key != "" {
		key = publicKey(c.Key)
	}
	b, err := c.report(e, against, key)
	if err != nil {
		return err
	}
	var report struct {
		Findings []json.RawMessage `json:"findings"`
		More     int               `json:"more"`
	}
	if err := decode(b, &report); err != nil {
		return err
	}
	if err := e.print(b, reportText); err != nil {
		return err
	}
	if n := len(report.Findings) + report.More; n > 0 {
		return fmt.Errorf("the audit found something (%d): keep a copy of the data folder, and compare with a backup", n)
	}
	return nil
}

func (c *auditRunCmd) report(e *Env, against []byte, key string) (json.RawMessage, error) {
	if !c.Stopped {
		cl, err := newClient(e)
		if err == nil {
			var b json.RawMessage
			b, err = cl.do(e.Ctx, http.MethodPost, "/v1/audit", nil, "application/json", mustBody(put("against", string(against), "key", key)))
			if err == nil {
				return b, nil
			}
		}
		if _, ok := errors.AsType[*problem.Answer](err); ok || os.Getenv("TALLY_URL") != "" && e.Dir == "" {
			return nil, err
		}
		if _, serr := os.Stat(filepath.Join(e.DataDir(), "VERSION")); serr != nil {
			return nil, err
		}
	}
	report, err := e.AuditFolder(e, c.Stores, against, key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(report)
}

// mustBody encodes a map of texts, which always works.
func mustBody(m map[string]any) []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("cli: texts do not marshal: %v", err))
	}
	return b
}

func reportText(w io.Writer, d doc) error {
	out := lines{w: w}
	for _, name := range []string{"records", "events", "series", "closes", "checkpoints", "root", "against"} {
		if v := d.s(name); v != "" {
			out.put(name, v)
		}
	}
	findings := d.list("findings")
	if len(findings) == 0 {
		out.put("findings", "none")
	}
	for _, f := range findings {
		out.put("FINDING", f.s("what"))
		for _, name := range []string{"where", "position", "expected", "found"} {
			if v := f.s(name); v != "" {
				out.put("  "+name, v)
			}
		}
	}
	if more := d.s("more"); more != "" {
		out.put("…", more+" more")
	}
	return out.err
}

type auditLogCmd struct{ pages }

func (c *auditLogCmd) Run(e *Env) error {
	return c.ask(e, "/v1/audit", nil, table("TIME|ACTOR|ACTION|TARGET", "time", "actor", "action", "target"))
}
