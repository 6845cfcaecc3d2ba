package statement

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
)

// File is an invoice as a file to take away.
type File struct {
	name, contentType string
	body              []byte
}

// File makes one; account.ErrNotFound for a form that is not among the allowed ones, document.ErrIncomplete.
func (s Sources) File(ctx context.Context, inv invoice.Invoice, form string, allowed ...string) (*File, error) {
	d, err := s.Document(ctx, inv)
	if err != nil {
		return nil, err
	}
	return FileOf(&d, form, allowed...)
}

// FileOf makes one of a document. Errors as File's.
func FileOf(d *document.Document, form string, allowed ...string) (*File, error) {
	forms := document.Forms()
	at := slices.IndexFunc(forms, func(f document.Form) bool { return f.Name == form })
	if at < 0 || !slices.Contains(allowed, form) {
		return nil, fmt.Errorf("invoice as %q: %w", form, account.ErrNotFound)
	}
	b, err := d.As(form)
	if err != nil {
		return nil, err
	}
	return &File{d.FileName() + "." + forms[at].Extension, forms[at].ContentType, b}, nil
}

// Send writes the file.
func (f *File) Send(w http.ResponseWriter) {
	w.Header().Set("Content-Type", f.contentType)
	w.Header().Set("Content-Disposition", `attachment; filename="`+f.name+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(f.body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(f.body) // the reader may be gone
}
