package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/store"
)

// documentPage is how many records one read of a list takes.
const documentPage = 200

// writeDocuments writes all issued invoices and credit notes as PDF into a folder, as many at a time as there are processors, and counts
// them.
func (s *server) writeDocuments(ctx context.Context, dir string) (files int, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	write := func(d document.Document) {
		files++
		g.Go(func() error {
			b, err := document.PDF(d)
			if err != nil {
				return fmt.Errorf("%s: %w", d.ID, err)
			}
			return os.WriteFile(filepath.Join(dir, d.FileName()+".pdf"), b, 0o600)
		})
	}
	err = s.eachInvoice(ctx, func(d document.Document) error {
		write(d)
		return s.eachCreditNote(ctx, d, write)
	})
	return files, errors.Join(err, g.Wait())
}

// eachInvoice hands over all issued invoices, newest first, with what stands beside them.
func (s *server) eachInvoice(ctx context.Context, use func(document.Document) error) error {
	q := store.Query{Limit: documentPage}
	for {
		list, err := s.bill.Invoices(ctx, q)
		if err != nil {
			return err
		}
		for _, inv := range list {
			q.Cursor = inv.ID
			d := document.Document{Invoice: inv}
			if c, ok := s.govern.Customer(inv.CustomerID); ok {
				d.Zone = c.Zone
			}
			if err := s.collect.Beside(ctx, &d); err != nil {
				return err
			}
			if err := use(d); err != nil {
				return err
			}
		}
		if len(list) < documentPage {
			return nil
		}
	}
}

// eachCreditNote hands over those of an invoice.
func (s *server) eachCreditNote(ctx context.Context, of document.Document, use func(document.Document)) error {
	list, err := s.collect.CreditNotes(ctx, store.RecordQuery{Query: store.Query{Limit: documentPage}, InvoiceID: of.ID})
	if err != nil {
		return err
	}
	for _, n := range list {
		d, err := s.collect.NoteDocument(ctx, n.ID)
		if err != nil {
			return err
		}
		use(d)
	}
	return nil
}
