package sim

import (
	"context"
	"slices"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

// Break is a way in which a part of the product misbehaves.
type Break string

// The ways. Each is a mistake that somebody could make.
const (
	SkipDedup     Break = "skip-dedup"     // a batch that comes again is stored again
	ForgetLease   Break = "forget-lease"   // a grant is not durable before it is used
	EarlyReceipt  Break = "early-receipt"  // usage is acknowledged before it is on disk
	GrantAbove    Break = "grant-above"    // more is granted than the limit has left
	TruncateEarly Break = "truncate-early" // the spool is cut before the journal has it
	RecallMore    Break = "recall-more"    // more is taken back than the holder gave
	ChangeInvoice Break = "change-invoice" // a finalized invoice changes
	LoseEvent     Break = "lose-event"     // an event of a batch is dropped, and acknowledged
)

// Breaks lists them all.
func Breaks() []Break {
	return []Break{SkipDedup, ForgetLease, EarlyReceipt, GrantAbove, TruncateEarly, RecallMore, ChangeInvoice, LoseEvent}
}

// twice gives events that were stored before other names, as a journal would that does not know them again.
func (j *journal) twice(b store.Batch) store.Batch {
	if j.seen == nil {
		j.seen = map[string]bool{}
	}
	b.Entries = slices.Clone(b.Entries)
	for i := range b.Entries {
		e := &b.Entries[i].Event
		if k := e.Source + " " + e.ID; j.seen[k] {
			if id, err := receipt.ParseShortID(e.ID); err == nil {
				id.Seq += 1 << 40
				e.ID = id.String()
			} else {
				e.ID += "-again"
			}
		} else {
			j.seen[k] = true
		}
	}
	return b
}

// grants is the authority, which grants too much when it is broken.
type grants struct {
	authority.Authority
	w *World
}

// Draw implements authority.Authority.
func (a *grants) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	out, err := a.Authority.Draw(ctx, d)
	if a.w.cfg.Break == GrantAbove {
		for i := range out {
			if out[i].Granted > 0 {
				out[i].Granted++
				out[i].Ceiling++
				for k := range out[i].Ceilings {
					out[i].Ceilings[k]++
				}
			}
		}
	}
	return out, err
}
