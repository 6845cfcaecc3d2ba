package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	previewCustomers = 1000
	previews         = 2000
)

// preview asks for customers' next invoices, one after the other, with many events stored.
func (c *config) preview(ctx context.Context, out io.Writer) (rows []row, err error) {
	dir := filepath.Join(c.dir, "preview")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintf(out, "previews: storing %d events\n", c.events)
	if err := seed(ctx, filepath.Join(dir, "records.db"), previewCustomers); err != nil {
		return nil, err
	}
	w, err := open(ctx, dir, func() time.Time { return end().Add(-time.Hour) })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := use(ctx, w.journal, previewCustomers, c.events); err != nil {
		return nil, err
	}
	took := make([]time.Duration, previews)
	for i := range took {
		began := time.Now()
		inv, err := w.bill.Preview(ctx, customerID(i*7%previewCustomers))
		if err != nil {
			return nil, err
		}
		if took[i] = time.Since(began); len(inv.Lines) != lines {
			return nil, fmt.Errorf("a preview has %d lines", len(inv.Lines))
		}
	}
	slices.Sort(took)
	what := fmt.Sprintf("preview of one customer, %d events stored: ", c.events)
	return []row{
		{what + "median", took[previews/2].Round(10 * time.Microsecond).String(), ""},
		{what + "p99", took[previews*99/100].Round(10 * time.Microsecond).String(), "20ms"},
	}, nil
}
