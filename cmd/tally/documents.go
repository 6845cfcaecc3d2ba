package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/store"
)

// documentPage is how many records one read of a list takes.
const documentPage = 200

// standing puts the payments of an issued invoice on its document.
func (s *server) standing(ctx context.Context, d *document.Document) error {
	if d.Number == 0 {
		return nil
	}
	list, err := s.collect.Payments(ctx, store.RecordQuery{Query: store.Query{Limit: documentPage}, InvoiceID: d.ID})
	if err != nil {
		return err
	}
	for i := range list { // newest first
		p := &list[len(list)-1-i]
		if p.Applied.Minor() != 0 {
			d.Payments = append(d.Payments, document.Payment{At: p.ReceivedAt, Method: p.Method, Amount: p.Applied})
		}
	}
	return nil
}

// written counts the files of writeDocuments.
type written struct {
	Dir   string `json:"dir"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
}

// writeDocuments writes all issued invoices and credit notes as PDF into a folder.
func (s *server) writeDocuments(ctx context.Context, dir string) (written, error) {
	out := written{Dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return out, err
	}
	byID := map[string]document.Document{}
	q := store.Query{Limit: documentPage}
	for more := true; more; {
		list, err := s.bill.Invoices(ctx, q)
		if err != nil {
			return out, err
		}
		for _, inv := range list {
			q.Cursor = inv.ID
			d := document.Document{Invoice: inv}
			if c, ok := s.govern.Customer(inv.CustomerID); ok {
				d.Zone = c.Zone
			}
			if err := s.standing(ctx, &d); err != nil {
				return out, err
			}
			if err := out.write(&d); err != nil {
				return out, fmt.Errorf("invoice %s: %w", inv.ID, err)
			}
			byID[inv.ID] = d
		}
		more = len(list) == documentPage
	}
	return out, s.writeCreditNotes(ctx, &out, byID)
}

func (s *server) writeCreditNotes(ctx context.Context, out *written, invoices map[string]document.Document) error {
	q := store.RecordQuery{Query: store.Query{Limit: documentPage}}
	for {
		list, err := s.collect.CreditNotes(ctx, q)
		if err != nil {
			return err
		}
		for _, n := range list {
			q.Cursor = n.ID
			lines := make([]document.Credited, len(n.Lines))
			for i, l := range n.Lines {
				lines[i] = document.Credited{LineID: l.LineID, Net: l.Net, Tax: l.Tax}
			}
			d, err := document.Credit(invoices[n.InvoiceID], document.CreditNote{
				ID: n.ID, Series: creditNoteSeries, Number: n.Number, IssuedAt: n.CreatedAt, Reason: n.Reason,
			}, lines)
			if err != nil {
				return err
			}
			if err := out.write(&d); err != nil {
				return fmt.Errorf("credit note %s: %w", n.ID, err)
			}
		}
		if len(list) < documentPage {
			return nil
		}
	}
}

// creditNoteSeries is before the numbers of credit notes.
const creditNoteSeries = "CN-"

func (w *written) write(d *document.Document) error {
	b, err := document.PDF(*d)
	if err != nil {
		return err
	}
	w.Files++
	w.Bytes += int64(len(b))
	return os.WriteFile(filepath.Join(w.Dir, d.FileName()+".pdf"), b, 0o600)
}

