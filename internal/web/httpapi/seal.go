package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/core/account"
	core "github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

type checkpointBody struct {
	Size uint64    `json:"size" doc:"Records in the tree; the last one's position in the journal. It names the checkpoint"`
	Root string    `json:"root" doc:"RFC 6962 root, base64"`
	Time time.Time `json:"time"`
	Note string    `json:"note" doc:"The signed text"`
	Key  string    `json:"key" doc:"The public key that verifies it"`
}

type noteKeyBody struct {
	Key string `json:"key" doc:"In note form: name, hash, key"`
}

type coveredBody struct {
	ID   string `json:"id" doc:"Its size, as in /v1/checkpoints"`
	Size uint64 `json:"size"`
	Root string `json:"root"`
}

func (a *api) checkpointOf(c store.Checkpoint) checkpointBody {
	return checkpointBody{c.Size, tlog.Hash(c.Root).String(), instant(c.Time), string(c.Note), a.cfg.Seal.Key()}
}

// coveredBy is the checkpoint over an invoice's seal; nil while there is none.
func (a *api) coveredBy(ctx context.Context, invoiceID string) (*coveredBody, error) {
	c, err := a.cfg.Seal.Over(ctx, invoiceID)
	if errors.Is(err, account.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &coveredBody{strconv.FormatUint(c.Size, 10), c.Size, tlog.Hash(c.Root).String()}, nil
}

type auditInput struct {
	Body struct {
		Against string `json:"against,omitempty" maxLength:"4096" doc:"A checkpoint that was kept elsewhere, as signed text"`
		Key     string `json:"key,omitempty" maxLength:"1024" doc:"The public key for it; default: this deployment's"`
	}
}

func (a *api) sealRoutes() {
	const tag = "proof"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/checkpoints", id: "list-checkpoints", tag: tag, summary: "List signed checkpoints of the journal, newest first",
	}, a.listCheckpoints)
	a.document(operation{
		method: http.MethodGet, path: "/v1/checkpoints/latest", id: "get-latest-checkpoint", tag: tag,
		summary: "The newest signed checkpoint; as text/plain the signed text alone",
	}, nil, a.latestCheckpoint)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/checkpoints/key", id: "get-checkpoint-key", tag: tag,
		summary: "The public key that verifies checkpoints and bundles",
	}, func(context.Context, *struct{}) (noteKeyBody, error) { return noteKeyBody{a.cfg.Seal.Key()}, nil })
	a.document(operation{
		method: http.MethodGet, path: "/v1/events/{id}/proof", id: "prove-event", tag: tag,
		summary: "A bundle that proves an event to whoever has the public key; tally verify checks it without a server",
	}, []*huma.Param{
		{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}},
		{Name: "source", In: "query", Description: "Of the event. Default: that of the gateway that made the id", Schema: &huma.Schema{Type: huma.TypeString}},
	}, a.proveEvent)
	a.document(operation{
		method: http.MethodGet, path: "/v1/invoices/{id}/lines/{line}/proof", id: "prove-invoice-line", tag: tag,
		summary: "A bundle that proves an invoice line to whoever has the public key",
	}, []*huma.Param{
		{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}},
		{Name: "line", In: "path", Required: true, Description: "A number from 1, or an iln_ id", Schema: &huma.Schema{Type: huma.TypeString}},
		{Name: "events", In: "query", Description: "true: with the leaf hashes of the line's events", Schema: &huma.Schema{Type: huma.TypeBoolean, Default: false}},
	}, a.proveLine)
	handle(a, operation{
		method: http.MethodPost, path: "/v1/audit", id: "audit-journal", tag: tag,
		summary: "Read the whole log again and compare rollups, tree, checkpoints and invoices with it",
	}, func(ctx context.Context, in *auditInput) (seal.Report, error) {
		if err := a.cfg.Flush(ctx); err != nil {
			return seal.Report{}, err
		}
		var against []byte
		if in.Body.Against != "" {
			against = []byte(in.Body.Against)
		}
		report, err := a.cfg.Seal.Audit(ctx, against, in.Body.Key)
		if errors.Is(err, core.ErrProof) {
			return report, invalid("against", err.Error(), "give a checkpoint as `tally checkpoint` prints it, and the key of its deployment")
		}
		return report, err
	})
}

// document registers a GET that writes its answer itself.
func (a *api) document(o operation, params []*huma.Param, h func(http.ResponseWriter, *http.Request) error) {
	op := a.describe(o)
	op.Parameters = append(op.Parameters, params...)
	op.Responses["200"] = &huma.Response{Description: "Done", Content: map[string]*huma.MediaType{jsonType: {Schema: &huma.Schema{Type: huma.TypeObject}}}}
	a.huma.OpenAPI().AddOperation(&op)
	a.routes.HandleFunc(o.method+" "+o.path, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.fail(w, r, err)
		}
	})
}

func (a *api) listCheckpoints(ctx context.Context, in *Paging) (listBody[checkpointBody], error) {
	const kind = "checkpoints"
	from, err := place(kind, in.Cursor)
	if err != nil {
		return listBody[checkpointBody]{}, err
	}
	before, err := strconv.ParseUint(from, 10, 63)
	if from != "" && (err != nil || before == 0) {
		return listBody[checkpointBody]{}, newProblem(codeCursorInvalid, "")
	}
	rows, err := a.cfg.Seal.Checkpoints(ctx, before, in.fetch())
	return listOf(*in, kind, rows, func(c store.Checkpoint) string { return strconv.FormatUint(c.Size, 10) }, a.checkpointOf), err
}

func (a *api) latestCheckpoint(w http.ResponseWriter, r *http.Request) error {
	c, err := a.cfg.Seal.Latest(r.Context())
	if errors.Is(err, store.ErrNotFound) {
		return newProblem(codeNotFound, "There is no checkpoint yet: the first one is signed a minute after the first event.")
	}
	if err != nil {
		return err
	}
	if strings.Contains(r.Header.Get("Accept"), "text/plain") {
		plain(w, http.StatusOK, string(c.Note))
		return nil
	}
	writeJSON(w, http.StatusOK, jsonType, a.checkpointOf(c))
	return nil
}

// parameters refuses query parameters that a route does not have.
func parameters(r *http.Request, known string) error {
	for name := range r.URL.Query() {
		if name != known {
			return invalid("", "unknown query parameter", "this route takes "+known+" alone")
		}
	}
	return nil
}

func (a *api) proveEvent(w http.ResponseWriter, r *http.Request) error {
	if err := parameters(r, "source"); err != nil {
		return err
	}
	if err := a.cfg.Flush(r.Context()); err != nil {
		return err
	}
	b, err := a.cfg.Seal.ProveEvent(r.Context(), sourceOf(r.URL.Query().Get("source"), r.PathValue("id")), r.PathValue("id"))
	return bundle(w, b, notFoundAs(err, "event of this source"))
}

func (a *api) proveLine(w http.ResponseWriter, r *http.Request) error {
	if err := parameters(r, "events"); err != nil {
		return err
	}
	events := r.URL.Query().Get("events")
	if events != "" && events != "true" && events != "false" {
		return invalid("events", "must be true or false", "leave it out for a bundle without events")
	}
	b, err := a.cfg.Seal.ProveLine(r.Context(), r.PathValue("id"), r.PathValue("line"), events == "true")
	switch {
	case errors.Is(err, account.ErrNotFound):
		return newProblem(codeNotFound, "There is no such line of a finalized and sealed invoice.")
	case errors.Is(err, account.ErrInvalid):
		return invalid("events", err.Error(), "leave it out")
	}
	return bundle(w, b, err)
}

// bundle writes a proof byte by byte as it was made: it has one form only.
func bundle(w http.ResponseWriter, b []byte, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(b) // the client may be gone
	return nil
}
