package httpapi

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of a part of an export.
const (
	partUsual    = 200 // invoices
	partMax      = 1000
	exportPage   = 50             // invoices held at once
	zoneFarthest = 24 * time.Hour // a local month begins less than that before or after the UTC one
)

// manifest is the last file of an archive: what is in it, and where the next part begins.
type manifest struct {
	Items []manifestItem `json:"items"`
	Next  *string        `json:"next"`
}

type manifestItem struct {
	File      string `json:"file,omitempty"` // absent where there is an error
	InvoiceID string `json:"invoice_id"`
	Number    string `json:"number"`
	Format    string `json:"format"`
	Bytes     int    `json:"bytes,omitempty"`
	SHA256    string `json:"sha256,omitempty"`
	Error     string `json:"error,omitempty"`
}

func (a *api) exports() {
	a.stream(operation{
		method: http.MethodGet, path: "/v1/exports/invoices", id: "export-invoices", tag: "invoices", summary: "Issued invoices as a zip archive, newest first",
		description: "The archive is sent while it is made. Its last file, manifest.json, lists all others with their SHA-256, and names the cursor of the next " +
			"part, null on the last one. An invoice that lacks what a form demands stands there with an error instead of a file. An archive without a manifest is incomplete.",
	}, "application/zip", []*huma.Param{
		inQuery("customer", "Only this customer's; id or key"),
		inQuery("period", "YYYY-MM: only invoices whose billing period begins in this month of the customer's zone"),
		inQuery("from", "RFC 3339: only invoices issued at or after it"), inQuery("to", "RFC 3339: only invoices issued before it"),
		inQuery("format", "pdf, ubl, csv, json; several with commas between them. Default: pdf"),
		inQuery("cursor", "From the manifest of the part before"),
		{Name: "limit", In: "query", Description: "Invoices in a part", Schema: &huma.Schema{Type: huma.TypeInteger, Default: partUsual}},
	}, a.export)
}

// exported is what an export is asked for.
type exported struct {
	customer string
	month    time.Time // first instant of it in UTC; zero: all
	from, to time.Time
	forms    []document.Form
	cursor   string
	limit    int
}

func (a *api) export(w http.ResponseWriter, r *http.Request) error {
	in, err := a.exportOf(r)
	if err != nil {
		return err
	}
	attach(w, "invoices.zip", "application/zip")
	archive := zip.NewWriter(w)
	list := manifest{Items: []manifestItem{}}
	wanted, last := 0, ""
	err = a.eachInvoice(r.Context(), in, func(i invoice.Invoice) (bool, error) {
		if wanted++; wanted > in.limit {
			list.Next = new(cursor("export", last))
			return false, nil
		}
		last = i.ID
		return true, a.pack(r.Context(), archive, &list, i, in.forms)
	})
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	if err := add(archive, "manifest.json", a.cfg.Clock.Now(), append(text, '\n')); err != nil {
		return err
	}
	return archive.Close()
}

// exportOf reads the question.
func (a *api) exportOf(r *http.Request) (in exported, err error) {
	if err := known(r, "customer", "period", "from", "to", "format", "cursor", "limit"); err != nil {
		return in, err
	}
	q := r.URL.Query()
	if in.customer, err = a.filter(q.Get("customer")); err != nil {
		return in, err
	}
	if in.cursor, err = placeOfID("export", "inv_", q.Get("cursor")); err != nil {
		return in, err
	}
	if text := q.Get("period"); text != "" {
		if in.month, err = time.Parse("2006-01", text); err != nil {
			return in, invalid("period", "must be YYYY-MM", "for example 2026-10")
		}
	}
	for name, at := range map[string]*time.Time{"from": &in.from, "to": &in.to} {
		if text := q.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return in, invalid(name, "must be an instant in RFC 3339", "for example 2026-10-01T00:00:00Z")
			}
		}
	}
	in.limit = partUsual
	if text := q.Get("limit"); text != "" {
		if in.limit, err = strconv.Atoi(text); err != nil || in.limit < 1 || in.limit > partMax {
			return in, invalid("limit", "must be 1 to "+strconv.Itoa(partMax), "leave it out for "+strconv.Itoa(partUsual))
		}
	}
	for name := range strings.SplitSeq(firstOf(q.Get("format"), "pdf"), ",") {
		at := slices.IndexFunc(formats(), func(f document.Form) bool { return f.Name == name })
		if at < 0 {
			return in, invalid("format", "must be pdf, ubl, csv or json, with commas between several", "leave it out for pdf")
		}
		if f := formats()[at]; !slices.Contains(in.forms, f) {
			in.forms = append(in.forms, f)
		}
	}
	return in, nil
}

// eachInvoice hands out the invoices that are asked for, newest first, while use says more. It holds a page of them at a time, and
// ends where all others are older than what is asked for.
func (a *api) eachInvoice(ctx context.Context, in exported, use func(invoice.Invoice) (more bool, err error)) error {
	for at := in.cursor; ; {
		page, err := a.cfg.Bill.Invoices(ctx, store.Query{Cursor: at, Limit: exportPage, CustomerID: in.customer})
		if at != "" && (errors.Is(err, account.ErrInvalid) || errors.Is(err, account.ErrNotFound)) {
			return newProblem(codeCursorInvalid, "")
		}
		if err != nil {
			return err
		}
		for _, i := range page {
			if in.past(&i) {
				return nil
			}
			if !in.wants(a, &i) {
				continue
			}
			if more, err := use(i); err != nil || !more {
				return err
			}
		}
		if len(page) < exportPage {
			return nil
		}
		at = page[len(page)-1].ID
	}
}

// past says that this invoice and all before it are older than what is asked for: numbers are given in the order of time, and no
// invoice is issued before its period begins.
func (in *exported) past(i *invoice.Invoice) bool {
	return i.FinalizedAt.Before(in.from) || i.FinalizedAt.Before(in.month.Add(-zoneFarthest))
}

// wants says whether an invoice is asked for.
func (in *exported) wants(a *api, i *invoice.Invoice) bool {
	if i.FinalizedAt.Before(in.from) || !in.to.IsZero() && !i.FinalizedAt.Before(in.to) {
		return false
	}
	if in.month.IsZero() {
		return true
	}
	c, _ := a.cfg.Govern.Customer(i.CustomerID)
	y, m, _ := c.Zone.Date(i.Period.Start)
	return y == in.month.Year() && m == in.month.Month()
}

// pack adds an invoice's files to the archive.
func (a *api) pack(ctx context.Context, archive *zip.Writer, list *manifest, i invoice.Invoice, forms []document.Form) error {
	d, err := a.documentOf(ctx, i)
	if err != nil {
		return err
	}
	for _, f := range forms {
		item := manifestItem{InvoiceID: i.ID, Number: document.Number(i.Series, i.Number), Format: f.Name}
		b, err := a.render(&d, f)
		switch {
		case errors.Is(err, document.ErrIncomplete):
			item.Error = err.Error()
		case err != nil:
			return err
		default:
			sum := sha256.Sum256(b)
			item.File, item.Bytes, item.SHA256 = d.FileName()+"."+f.Extension, len(b), hex.EncodeToString(sum[:])
			if err := add(archive, item.File, i.FinalizedAt, b); err != nil {
				return err
			}
		}
		list.Items = append(list.Items, item)
	}
	return ctx.Err()
}

// add writes one file; PDF is compressed already.
func add(archive *zip.Writer, name string, at time.Time, b []byte) error {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: at.UTC()}
	if strings.HasSuffix(name, ".pdf") {
		h.Method = zip.Store
	}
	out, err := archive.CreateHeader(h)
	if err != nil {
		return err
	}
	if _, err := out.Write(b); err != nil {
		return err
	}
	return archive.Flush()
}
