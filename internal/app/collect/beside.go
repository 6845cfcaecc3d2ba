package collect

import (
	"context"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
)

// NoteSeries stands before the number of a credit note.
const NoteSeries = "CN"

// besideMax bounds the payments and the credit notes that stand on a document: the newest ones.
const besideMax = 1000

// Beside fills in what became of an issued invoice: its present status, and what paid it, oldest first.
func (s *Service) Beside(ctx context.Context, d *document.Document) error {
	views, err := s.Views(ctx, []invoice.Invoice{d.Invoice})
	if err != nil {
		return err
	}
	q := store.RecordQuery{Query: store.Query{Limit: besideMax}, InvoiceID: d.ID}
	payments, err := s.cfg.Records.Payments(ctx, q)
	if err != nil {
		return fmt.Errorf("payments of invoice %s: %w", d.ID, err)
	}
	notes, err := s.cfg.Records.CreditNotes(ctx, q)
	if err != nil {
		return fmt.Errorf("credit notes of invoice %s: %w", d.ID, err)
	}
	d.Status = views[0].Status
	for _, p := range payments {
		if p.Applied.Minor() != 0 {
			d.Payments = append(d.Payments, document.Payment{At: p.ReceivedAt, Method: p.Method, Amount: p.Applied})
		}
	}
	for _, n := range notes {
		if n.Off.Minor() != 0 {
			d.Payments = append(d.Payments, document.Payment{At: n.CreatedAt, Method: "credit note " + document.Number(NoteSeries, n.Number), Amount: n.Off})
		}
	}
	slices.SortStableFunc(d.Payments, func(a, b document.Payment) int { return a.At.Compare(b.At) })
	return nil
}

// NoteByID reads a credit note. account.ErrNotFound.
func (s *Service) NoteByID(ctx context.Context, id string) (store.CreditNote, error) {
	if id != "" {
		list, err := s.cfg.Records.CreditNotes(ctx, store.RecordQuery{Query: store.Query{Limit: 1}, ID: id})
		if err != nil {
			return store.CreditNote{}, err
		}
		if len(list) == 1 {
			return list[0], nil
		}
	}
	return store.CreditNote{}, fmt.Errorf("there is no credit note %q; `tally credit-notes list` shows all: %w", id, account.ErrNotFound)
}

// NoteDocument is a credit note as a document. account.ErrNotFound.
func (s *Service) NoteDocument(ctx context.Context, id string) (document.Document, error) {
	n, err := s.NoteByID(ctx, id)
	if err != nil {
		return document.Document{}, err
	}
	inv, err := s.invoice(ctx, n.InvoiceID)
	if err != nil {
		return document.Document{}, err
	}
	of := document.Document{Invoice: inv}
	if c, ok := s.cfg.Directory.Customer(n.CustomerID); ok {
		of.Zone = c.Zone
	}
	lines := make([]document.Credited, len(n.Lines))
	for i, l := range n.Lines {
		lines[i] = document.Credited(l)
	}
	return document.Credit(of, document.CreditNote{ID: n.ID, Series: NoteSeries, Number: n.Number, IssuedAt: n.CreatedAt, Reason: n.Reason}, lines)
}
