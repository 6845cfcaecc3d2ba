package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

// scanPage is how many events are read at once.
const scanPage = 1000

// documentsMost bounds the bytes of the documents that are appended together, but for the last one of them; partsMost the records
// that they commit to.
const (
	documentsMost = 1 << 20
	partsMost     = 50_000
)

// SealCloses appends the documents of closes to the journal, each once: what was used up to its position, and the invoice that
// follows from it (no lines: none is due). The next Tick signs a checkpoint over them. bill calls it between the two steps of
// closes; after a crash it is called again and changes nothing.
func (s *Service) SealCloses(ctx context.Context, list []store.Sealing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.sealCloses(ctx, list); err != nil {
		return fmt.Errorf("seal close: %w", err)
	}
	return nil
}

// closeDocument is one on its way: its series have no roots yet.
type closeDocument struct {
	seal.Close
	parts [][]uint64 // positions, by series
}

func (s *Service) sealCloses(ctx context.Context, list []store.Sealing) error {
	var together []closeDocument
	parts := 0
	for i := range list {
		c := &list[i]
		_, err := s.cfg.Seals.SealedClose(ctx, store.SealedClose{SubscriptionID: c.SubscriptionID, Period: c.Period})
		if err == nil {
			continue
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		doc, err := s.document(ctx, c)
		if err != nil {
			return err
		}
		for _, p := range doc.parts {
			parts += len(p)
		}
		if together = append(together, doc); parts >= partsMost {
			if err := s.sealTogether(ctx, together); err != nil {
				return err
			}
			together, parts = nil, 0
		}
	}
	return s.sealTogether(ctx, together)
}

// document is what a close commits to.
func (s *Service) document(ctx context.Context, c *store.Sealing) (closeDocument, error) {
	doc := closeDocument{Close: seal.Close{Subscription: c.SubscriptionID, Customer: c.Draft.CustomerID, Period: c.Period, Position: c.Position}}
	if len(c.Draft.Lines) > 0 {
		doc.Invoice, doc.Lines = c.Draft.ID, c.Draft.Lines
	}
	for _, u := range c.Usage {
		parts, count, err := s.contributions(ctx, store.SeriesKey{CustomerID: c.Draft.CustomerID, Meter: u.Meter}, c.Period, c.Position, true)
		if err != nil {
			return doc, fmt.Errorf("meter %s: %w", u.Meter, err)
		}
		doc.Series = append(doc.Series, seal.Series{Meter: u.Meter, Value: u.Quantity, Count: count})
		doc.parts = append(doc.parts, parts)
	}
	return doc, nil
}

// sealTogether reads the records that closes commit to in the order of the log, once, and appends the documents.
func (s *Service) sealTogether(ctx context.Context, list []closeDocument) error {
	var positions []uint64
	for i := range list {
		for _, p := range list[i].parts {
			positions = append(positions, p...)
		}
	}
	slices.Sort(positions)
	positions = slices.Compact(positions)
	all, err := s.hashesOf(ctx, positions)
	if err != nil {
		return err
	}
	var documents [][]byte
	var at []store.SealedClose
	size := 0
	for i := range list {
		doc := &list[i]
		for k, parts := range doc.parts {
			hashes := make([]tlog.Hash, len(parts))
			for n, p := range parts {
				found, _ := slices.BinarySearch(positions, p)
				hashes[n] = all[found]
			}
			doc.Series[k].Root = seal.RootOf(hashes)
		}
		b, err := doc.Encode()
		if err != nil {
			return err
		}
		documents, size = append(documents, b), size+len(b)
		at = append(at, store.SealedClose{SubscriptionID: doc.Subscription, Period: doc.Period, InvoiceID: doc.Invoice})
		if size >= documentsMost {
			if err := s.appendDocuments(ctx, documents, at); err != nil {
				return err
			}
			documents, at, size = nil, nil, 0
		}
	}
	return s.appendDocuments(ctx, documents, at)
}

func (s *Service) appendDocuments(ctx context.Context, documents [][]byte, at []store.SealedClose) error {
	if len(documents) == 0 {
		return nil
	}
	first, err := s.cfg.Journal.Seal(ctx, documents...)
	if err != nil {
		return err
	}
	for i := range at {
		at[i].Position = first + uint64(i) //nolint:gosec // counts up
	}
	if err := s.cfg.Seals.PutSealedCloses(ctx, s.fence, at); err != nil {
		return fencedAs(err)
	}
	s.due = true
	return nil
}

// contributions lists the positions of the records that made up a series in an interval when the journal was at a position:
// events, and the revisions that stood. count is the events. Without thorough, an event is missed that counted then and was
// voided or moved to another series since.
func (s *Service) contributions(ctx context.Context, k store.SeriesKey, in period.Interval, upTo uint64, thorough bool) (parts []uint64, count int64, err error) {
	seen := map[uint64]bool{}
	add := func(r store.Record) error {
		if r.Position > upTo || seen[r.Position] {
			return nil
		}
		revision, counts := r.Revision, true
		if revision > upTo {
			var err error
			if revision, counts, err = s.then(ctx, r, k, upTo); err != nil {
				return err
			}
		}
		if !counts {
			return nil
		}
		seen[r.Position] = true
		parts = append(parts, r.Position)
		if revision > 0 {
			parts = append(parts, revision)
		}
		count++
		return nil
	}
	if in.Empty() {
		return nil, 0, nil
	}
	err = s.scan(ctx, store.Scan{SeriesKey: k, In: in, Limit: scanPage}, add)
	if err == nil && thorough {
		err = s.scan(ctx, store.Scan{In: in, Limit: scanPage, After: upTo}, add)
	}
	slices.Sort(parts)
	return parts, count, err
}

func (s *Service) scan(ctx context.Context, q store.Scan, each func(store.Record) error) error {
	for {
		page, err := s.cfg.Journal.Scan(ctx, q)
		if err != nil {
			return err
		}
		for _, r := range page.Records {
			if err := each(r); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Cursor = page.Next
	}
}

// then says how an event that was revised later counted when the journal was at a position, and by which revision (0: none).
func (s *Service) then(ctx context.Context, r store.Record, k store.SeriesKey, upTo uint64) (revision uint64, counts bool, err error) {
	history, err := s.cfg.Journal.History(ctx, r.Event.Source, r.Event.ID)
	if err != nil {
		return 0, false, err
	}
	for _, v := range history {
		if v.Position > upTo {
			break
		}
		if v.Kind != 0 {
			revision = v.Position
		}
		counts = false
		for _, res := range v.Resolutions {
			counts = counts || res.CustomerID == k.CustomerID && res.Meter == k.Meter
		}
	}
	return revision, counts, nil
}

// gapMax is how many records between two wanted ones are rather hashed than sought again.
const gapMax = 64

// hashesOf computes the leaf hashes of records, ascending by position.
func (s *Service) hashesOf(ctx context.Context, positions []uint64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, 0, len(positions))
	for len(positions) > 0 {
		run := 1
		for run < len(positions) && positions[run]-positions[run-1] <= gapMax && positions[run]-positions[0] < leavesMax {
			run++
		}
		from := positions[0]
		n := int(positions[run-1]-from) + 1
		hashes, err := s.hasher.read(ctx, s.cfg.Journal, from, n)
		if err != nil {
			return nil, err
		}
		if len(hashes) < n {
			return nil, fmt.Errorf("the journal ends before record %d: %w", positions[run-1], store.ErrCorrupt)
		}
		for _, p := range positions[:run] {
			out = append(out, hashes[p-from])
		}
		positions = positions[run:]
	}
	return out, nil
}
