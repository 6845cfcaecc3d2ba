package seal

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

// eventsMax bounds the leaf hashes in one bundle.
const eventsMax = 1_000_000

// absent is account.ErrNotFound with what is not there, for the layers above, which do not know the stores.
func absent(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, account.ErrNotFound)...)
}

// ProveEvent makes the bundle of a stored event. It signs a checkpoint first where none covers it yet. account.ErrNotFound.
func (s *Service) ProveEvent(ctx context.Context, source, id string) ([]byte, error) {
	r, err := s.cfg.Journal.Event(ctx, source, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, absent("there is no event %q of source %q", id, source)
	}
	if err != nil {
		return nil, fmt.Errorf("prove event: %w", err)
	}
	b, head, err := s.prove(ctx, r.Position)
	if err != nil {
		return nil, fmt.Errorf("prove event: %w", err)
	}
	b.Proof = seal.EventProof
	if b.Event, err = seal.EventOf(head, b.Leaf); err != nil {
		return nil, fmt.Errorf("prove event: %w", err)
	}
	return s.finished(b)
}

// ProveLine makes the bundle of a line of a finalized invoice, by number from 1 or id; with events it shows the leaf hashes that
// make up the line's rollup. account.ErrNotFound; account.ErrInvalid for a line without events.
func (s *Service) ProveLine(ctx context.Context, invoiceID, line string, events bool) ([]byte, error) {
	at, err := s.cfg.Seals.SealedClose(ctx, store.SealedClose{InvoiceID: invoiceID})
	if invoiceID == "" || errors.Is(err, store.ErrNotFound) {
		return nil, absent("invoice %q is not sealed", invoiceID)
	}
	if err != nil {
		return nil, fmt.Errorf("prove line: %w", err)
	}
	b, head, err := s.prove(ctx, at.Position)
	if err != nil {
		return nil, fmt.Errorf("prove line: %w", err)
	}
	b.Proof = seal.LineProof
	c, err := seal.ParseClose(head.Document)
	if err != nil {
		return nil, fmt.Errorf("prove line: %w", err)
	}
	for _, l := range c.Lines {
		if l.ID == line || strconv.Itoa(l.Number) == line {
			b.Line, err = seal.LineOf(c, l.ID)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("prove line: %w", err)
	}
	if b.Line == nil {
		return nil, absent("invoice %s has no line %q", invoiceID, line)
	}
	if events {
		if b.Line.Events, err = s.parts(ctx, c, b.Line.Line); err != nil {
			return nil, fmt.Errorf("prove line: %w", err)
		}
	}
	return s.finished(b)
}

// parts are the records that make up a line's series, found so that they make the sealed root.
func (s *Service) parts(ctx context.Context, c seal.Close, l invoice.Line) ([]seal.Part, error) {
	if l.Kind != invoice.UsageLine {
		return nil, fmt.Errorf("line %d has no usage, so no events: %w", l.Number, account.ErrInvalid)
	}
	var want tlog.Hash
	for _, one := range c.Series {
		if one.Meter == l.Meter {
			want = one.Root
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, thorough := range []bool{false, true} {
		positions, _, err := s.contributions(ctx, store.SeriesKey{CustomerID: c.Customer, Meter: l.Meter}, c.Period, c.Position, thorough)
		if err != nil {
			return nil, err
		}
		if len(positions) > eventsMax {
			return nil, fmt.Errorf("the line has %d records, a bundle shows at most %d: prove it without them: %w", len(positions), eventsMax, account.ErrInvalid)
		}
		hashes, err := s.hashesOf(ctx, positions)
		if err != nil {
			return nil, err
		}
		if seal.RootOf(hashes) != want {
			continue
		}
		parts := make([]seal.Part, len(hashes))
		for i, h := range hashes {
			parts[i] = seal.Part{Position: positions[i], Hash: h}
		}
		return parts, nil
	}
	return nil, fmt.Errorf("the records of meter %s do not make the sealed root any more; run `tally audit`: %w", l.Meter, store.ErrCorrupt)
}

// prove fills in the leaf of a record and its way to a checkpoint.
func (s *Service) prove(ctx context.Context, position uint64) (seal.Bundle, seal.Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.cfg.Seals.CheckpointOver(ctx, position)
	if errors.Is(err, store.ErrNotFound) {
		if err = s.checkpoint(ctx); err == nil {
			c, err = s.cfg.Seals.CheckpointOver(ctx, position)
		}
	} else if err == nil && uint64(s.size) < c.Size { // the first Tick has not been here
		err = s.grow(ctx, 0)
	}
	if err != nil {
		return seal.Bundle{}, seal.Head{}, err
	}
	b := seal.Bundle{Checkpoint: string(c.Note)}
	var head seal.Head
	_, err = s.hasher.each(ctx, s.cfg.Journal, position, 1, func(l store.Leaf) (err error) {
		b.Leaf, head, err = s.show(ctx, l)
		return err
	})
	if err != nil {
		return seal.Bundle{}, seal.Head{}, err
	}
	if b.Path, err = tlog.ProveRecord(int64(c.Size), int64(position)-1, s.source(ctx)); err != nil {
		return seal.Bundle{}, seal.Head{}, err
	}
	if b.Path == nil {
		b.Path = []tlog.Hash{}
	}
	return b, head, nil
}

// show copies a leaf for a bundle, with the salt of its payload. The key is in memory or made by then.
func (s *Service) show(ctx context.Context, l store.Leaf) (seal.LeafPart, seal.Head, error) {
	head := append([]byte(nil), l.Head...)
	var payload []byte
	var salt *seal.Commitment
	commitment := l.Commitment
	if commitment != nil {
		c := *commitment
		commitment = &c
	} else if l.Payload != nil {
		payload = append([]byte(nil), l.Payload...)
		keys, err := s.hasher.make(ctx, []string{l.Subject})
		if err != nil {
			return seal.LeafPart{}, seal.Head{}, err
		}
		v := seal.Salt(&keys[0], l.Position)
		salt = &v
	}
	part, err := seal.LeafOf(l.Position, head, payload, salt, commitment)
	if err != nil {
		return seal.LeafPart{}, seal.Head{}, err
	}
	h, err := seal.ParseHead(part.Head)
	return part, h, err
}

// finished verifies a bundle as its reader will, before anybody gets it.
func (s *Service) finished(b seal.Bundle) ([]byte, error) {
	out, err := b.Encode()
	if err != nil {
		return nil, err
	}
	if _, _, err := seal.Verify(out, s.cfg.Verifier); err != nil {
		return nil, fmt.Errorf("the proof does not hold, which says that the journal was changed; run `tally audit`: %w: %w", store.ErrCorrupt, err)
	}
	return out, nil
}

// Over is the checkpoint that covers the seal of an invoice. account.ErrNotFound while there is none.
func (s *Service) Over(ctx context.Context, invoiceID string) (store.Checkpoint, error) {
	at, err := s.cfg.Seals.SealedClose(ctx, store.SealedClose{InvoiceID: invoiceID})
	var c store.Checkpoint
	if err == nil {
		c, err = s.cfg.Seals.CheckpointOver(ctx, at.Position)
	}
	if invoiceID == "" || errors.Is(err, store.ErrNotFound) {
		return c, absent("no checkpoint covers invoice %q", invoiceID)
	}
	if err != nil {
		return c, fmt.Errorf("checkpoint over an invoice: %w", err)
	}
	return c, nil
}

// Forget deletes a subject's key: nobody can test guesses of its erased payloads any more. Erase the payloads first, with their
// commitments in the log.
func (s *Service) Forget(ctx context.Context, subject string) error {
	return s.ForgetUnless(ctx, subject, func() (bool, error) { return false, nil })
}

// ForgetUnless is Forget, unless a payload of the subject came meanwhile. It asks while no leaf can be computed: what comes behind
// that is salted under a new key.
func (s *Service) ForgetUnless(ctx context.Context, subject string, came func() (bool, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept, err := came(); kept || err != nil {
		return err
	}
	s.hasher.forget()
	if err := s.cfg.Keys.ForgetSubject(ctx, subject); err != nil {
		return fmt.Errorf("forget a subject: %w", err)
	}
	return nil
}
