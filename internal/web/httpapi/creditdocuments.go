package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/document"
)

// creditNoteDocuments are the forms of a credit note, and itself.
func (a *api) creditNoteDocuments() {
	const tag = "payments"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/credit-notes/{id}", id: "get-credit-note", tag: tag, summary: "Show a credit note",
	}, func(ctx context.Context, in *struct {
		ID string `path:"id"`
	},
	) (CreditNoteBody, error) {
		n, err := a.cfg.Collect.NoteByID(ctx, in.ID)
		if err != nil {
			return CreditNoteBody{}, notFoundAs(err, "credit note")
		}
		return a.creditNoteOf(n), nil
	})
	for _, f := range document.Forms() {
		summary := map[string]string{"pdf": "A credit note as PDF, for people", "ubl": "A credit note as UBL 2.1 with the fields of EN 16931"}[f.Name]
		if summary == "" {
			continue
		}
		a.file(operation{
			method: http.MethodGet, path: "/v1/credit-notes/{id}/" + f.Name, id: "get-credit-note-" + f.Name, tag: tag, summary: summary,
		}, f.ContentType, []*huma.Param{inPath("id")}, func(w http.ResponseWriter, r *http.Request) error {
			if err := known(r); err != nil {
				return err
			}
			d, err := a.cfg.Collect.NoteDocument(r.Context(), r.PathValue("id"))
			if err != nil {
				return notFoundAs(err, "credit note")
			}
			return a.send(w, &d, f)
		})
	}
}
