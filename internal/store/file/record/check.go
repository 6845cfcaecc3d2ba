package record

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of what is appended; every driver has the same.
const (
	MaxBatchEntries = 16384    // entries, totals and marks each
	MaxBatchBytes   = 32 << 20 // encoded
	MaxText         = 4 << 10  // source, id, type, subject, trace, names, receipt
	MaxData         = 1 << 20
	MaxResolutions  = 64 // of an event, and dimensions of each
	MaxDistinct     = 256
	MaxRevisions    = 16384 // of one call
	MaxDocument     = 1 << 20
	MaxDocuments    = 4 << 20 // of one call together
)

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, store.ErrInvalid)...)
}

// CheckBatch refuses what could not be read back or is no usage event. store.ErrInvalid.
func CheckBatch(b *store.Batch) error {
	if len(b.Entries) > MaxBatchEntries || len(b.Totals) > MaxBatchEntries || len(b.Marks) > MaxBatchEntries {
		return invalid("a batch has at most %d entries, totals and marks each: send it in parts", MaxBatchEntries)
	}
	for i := range b.Entries {
		if err := checkEntry(&b.Entries[i]); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	if !Text(b.Producer, 0) {
		return invalid("producer: not a text of at most %d bytes", MaxText)
	}
	for i := range b.Totals {
		t := &b.Totals[i]
		if !Text(t.CustomerID, 1) || !Text(t.Meter, 1) || t.Total.Sign() < 0 {
			return invalid("admitted total %d: customer, meter and a total of at least 0 are needed", i)
		}
	}
	if len(b.Signature) > MaxText || !Text(b.KeyID, 0) {
		return invalid("a signature and its key's id have at most %d bytes", MaxText)
	}
	for i := range b.Marks {
		m := &b.Marks[i]
		if !Text(m.Source, 1) || !Text(m.ID, 1) || m.Flags == 0 || m.Flags.Uncounted() {
			return invalid("mark %d: source, id and flags are needed, other ones than Held and Filtered", i)
		}
	}
	return nil
}

func checkEntry(e *store.Entry) error {
	v := &e.Event
	switch {
	case !Text(v.Source, 1) || !Text(v.ID, 1):
		return invalid("source and id must be texts of 1 to %d bytes", MaxText)
	case !Text(v.TraceParent, 0) || !Text(e.KeyID, 0) || !Text(e.Unit, 0):
		return invalid("trace, key id and unit must be texts of at most %d bytes", MaxText)
	case len(e.Receipt) > MaxText:
		return invalid("a receipt has at most %d bytes", MaxText)
	case !Instant(v.Time):
		return invalid("the event time is missing or out of range")
	case e.Origin != meter.Admitted && e.Origin != meter.Reported:
		return invalid("unknown origin %d", e.Origin)
	case e.Flags.Uncounted() && len(e.Resolutions) > 0:
		return invalid("an event that is held or filtered has no resolutions")
	}
	if err := checkContent(v); err != nil {
		return err
	}
	return checkResolutions(e.Resolutions)
}

func checkContent(v *meter.Event) error {
	switch {
	case !Text(v.Type, 1):
		return invalid("the type must be a text of 1 to %d bytes", MaxText)
	case !Text(v.Subject, 0):
		return invalid("the subject must be a text of at most %d bytes", MaxText)
	case len(v.Data) > MaxData || !utf8.Valid(v.Data):
		return invalid("data must be JSON of at most %d bytes", MaxData)
	}
	return nil
}

func checkResolutions(all []meter.Resolution) error {
	if len(all) > MaxResolutions {
		return invalid("an event has at most %d resolutions", MaxResolutions)
	}
	for i := range all {
		r := &all[i]
		if !Text(r.CustomerID, 1) || !Text(r.Meter, 1) || len(r.Dimensions) > MaxResolutions {
			return invalid("resolution %d: customer, meter and at most %d dimensions are needed", i, MaxResolutions)
		}
		if !Text(r.Distinct, 0) || len(r.Distinct) > MaxDistinct {
			return invalid("resolution %d: a distinct text has at most %d bytes", i, MaxDistinct)
		}
		for _, d := range r.Dimensions {
			if !Text(d.Name, 1) || !Text(d.Value, 0) {
				return invalid("resolution %d: a dimension's name or value is not a text of at most %d bytes", i, MaxText)
			}
		}
		for k := range i {
			if all[k].Meter == r.Meter && all[k].CustomerID == r.CustomerID {
				return invalid("meter %s reads the event twice", r.Meter)
			}
		}
	}
	return nil
}

// CheckRevisions refuses revisions that could not be read back. store.ErrInvalid.
func CheckRevisions(r *store.Revisions) error {
	switch {
	case !Text(r.Actor, 1) || !Text(r.Reason, 1):
		return invalid("an actor and a reason are needed, texts of 1 to %d bytes", MaxText)
	case !Instant(r.At):
		return invalid("the instant of the revision is missing or out of range")
	case len(r.List) > MaxRevisions:
		return invalid("at most %d revisions go together: send them in parts", MaxRevisions)
	}
	for i := range r.List {
		if err := checkRevision(&r.List[i]); err != nil {
			return fmt.Errorf("revision %d: %w", i, err)
		}
	}
	return nil
}

func checkRevision(v *store.Revision) error {
	if !Text(v.Source, 1) || !Text(v.ID, 1) || RevisionKind(v.Kind) == 0 {
		return invalid("source, id and a kind are needed")
	}
	if v.Kind == store.Void && len(v.Resolutions) > 0 {
		return invalid("a void has no resolutions")
	}
	if v.Kind == store.Amend {
		if err := checkContent(&v.Event); err != nil {
			return err
		}
	}
	return checkResolutions(v.Resolutions)
}

// RevisionKind is the kind of record that a revision is; 0: none.
func RevisionKind(k store.RevisionKind) Kind {
	switch k {
	case store.Amend:
		return KindAmend
	case store.Void:
		return KindVoid
	case store.Resolve:
		return KindResolve
	}
	return 0
}

// Text says whether s is a text of at least so many bytes and at most MaxText.
func Text(s string, atLeast int) bool {
	return len(s) >= atLeast && len(s) <= MaxText && utf8.ValidString(s)
}

// Instant is any time in the years 1 to 9999 but the zero time.
func Instant(t time.Time) bool { return InRange(t.UnixMicro()) }

// InRange says so of microseconds since 1970.
func InRange(micros int64) bool {
	const first, last = -62_135_596_800_000_000, 253_402_300_800_000_000
	return micros > first && micros < last
}
