package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/invoice"
)

// formats are the forms of an invoice as a file, in the order in which they stand in an archive.
func formats() []document.Form {
	return append(document.Forms(), document.Form{Name: "json", Extension: "json", ContentType: jsonType})
}

func (a *api) documents() {
	const tag = "invoices"
	for _, f := range document.Forms() {
		summary := map[string]string{
			"pdf": "An invoice as PDF, for people", "ubl": "An invoice as UBL 2.1 with the fields of EN 16931", "csv": "An invoice's lines and taxes as a table",
		}[f.Name]
		a.file(operation{
			method: http.MethodGet, path: "/v1/invoices/{id}/" + f.Name, id: "get-invoice-" + f.Name, tag: tag, summary: summary,
		}, f.ContentType, []*huma.Param{inPath("id")}, func(w http.ResponseWriter, r *http.Request) error {
			if err := known(r); err != nil {
				return err
			}
			i, err := a.cfg.Bill.Invoice(r.Context(), r.PathValue("id"))
			if err != nil {
				return notFoundAs(err, "finalized invoice")
			}
			return a.sendDocument(w, r, i, f)
		})
	}
	a.file(operation{
		method: http.MethodGet, path: "/v1/customers/{ref}/preview/pdf", id: "preview-customer-invoice-pdf", tag: tag,
		summary: "The next invoice as if the period closed now, as PDF",
	}, "application/pdf", []*huma.Param{inPath("ref")}, func(w http.ResponseWriter, r *http.Request) error {
		if err := known(r); err != nil {
			return err
		}
		if _, err := a.customer(r.PathValue("ref")); err != nil {
			return err
		}
		if err := a.cfg.Flush(r.Context()); err != nil {
			return err
		}
		i, err := a.cfg.Bill.Preview(r.Context(), r.PathValue("ref"))
		if err != nil {
			return notFoundAs(err, "active subscription of a customer")
		}
		return a.sendDocument(w, r, i, formats()[0])
	})
	a.creditNoteDocuments()
	a.usageTables()
	a.exports()
}

// inPath is a parameter in the path.
func inPath(name string) *huma.Param {
	return &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}
}

// inQuery is an optional text in the query.
func inQuery(name, doc string) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
}

// known refuses query parameters that a route does not have.
func known(r *http.Request, names ...string) error {
	for name := range r.URL.Query() {
		if !slices.Contains(names, name) {
			return invalid("", "unknown query parameter", "leave it out")
		}
	}
	return nil
}

// file registers a GET that writes a file of its own type.
func (a *api) file(o operation, contentType string, params []*huma.Param, h func(http.ResponseWriter, *http.Request) error) {
	a.describeFile(o, contentType, params)
	a.routes.HandleFunc(o.method+" "+o.path, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.fail(w, r, err)
		}
	})
}

func (a *api) describeFile(o operation, contentType string, params []*huma.Param) {
	op := a.describe(o)
	op.Parameters = append(op.Parameters, params...)
	op.Responses["200"] = &huma.Response{Description: "The file", Content: map[string]*huma.MediaType{
		contentType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}}
	a.huma.OpenAPI().AddOperation(&op)
}

// documentOf is an invoice with what stands beside it.
func (a *api) documentOf(ctx context.Context, i invoice.Invoice) (document.Document, error) {
	d := document.Document{Invoice: i}
	if c, ok := a.cfg.Govern.Customer(i.CustomerID); ok {
		d.Zone = c.Zone
	}
	if i.Number == 0 {
		return d, nil
	}
	if err := a.cfg.Collect.Beside(ctx, &d); err != nil {
		return d, fmt.Errorf("standing of invoice %s: %w", i.ID, err)
	}
	return d, nil
}

// render makes one form of a document.
func (a *api) render(d *document.Document, f document.Form) ([]byte, error) {
	if f.ContentType == jsonType {
		return json.MarshalIndent(a.invoiceOf(d.Invoice), "", "  ")
	}
	return d.As(f.Name)
}

func (a *api) sendDocument(w http.ResponseWriter, r *http.Request, i invoice.Invoice, f document.Form) error {
	d, err := a.documentOf(r.Context(), i)
	if err != nil {
		return err
	}
	return a.send(w, &d, f)
}

func (a *api) send(w http.ResponseWriter, d *document.Document, f document.Form) error {
	b, err := a.render(d, f)
	if errors.Is(err, document.ErrIncomplete) {
		return newProblem(codeDocumentIncomplete, err.Error()+".")
	}
	if err != nil {
		return err
	}
	attach(w, d.FileName()+"."+f.Extension, f.ContentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(b) // the client may be gone
	return nil
}

// attach names the file that an answer is; the name is ASCII.
func attach(w http.ResponseWriter, name, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}

// stream registers a GET that sends its answer while it makes it. What fails before the first byte is a problem; what fails later
// breaks the connection off, so that nobody takes a part for the whole.
func (a *api) stream(o operation, contentType string, params []*huma.Param, h func(http.ResponseWriter, *http.Request) error) {
	a.describeFile(o, contentType, params)
	pattern := o.method + " " + o.path
	a.routes.streams[pattern] = true
	a.routes.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out := &begun{ResponseWriter: w}
		err := h(out, r)
		switch {
		case err == nil:
		case !out.yes:
			w.Header().Del("Content-Disposition")
			a.fail(w, r, err)
		default:
			if r.Context().Err() == nil {
				a.cfg.Log.ErrorContext(r.Context(), "an answer broke off", slog.String("request_id", callOf(r.Context()).id), slog.Any("error", err))
			}
			panic(http.ErrAbortHandler)
		}
	})
}

// begun knows whether something was sent.
type begun struct {
	http.ResponseWriter
	yes bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.ResponseWriter.Write(p)
}

// streamed answers a route of stream, and says whether it was one.
func (a *api) streamed(w http.ResponseWriter, r *http.Request, c *call) bool {
	_, pattern := a.routes.mux.Handler(r)
	if !a.routes.streams[pattern] {
		return false
	}
	if p := a.authenticate(r, c); p != nil {
		a.fail(w, r, p)
		return true
	}
	a.routes.mux.ServeHTTP(w, r)
	return true
}
