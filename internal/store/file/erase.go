package file

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// maxErasures bounds the erasures that wait for Compact.
const maxErasures = 10_000

// Erase orders that the payloads (subject, data, trace, receipt, key) of all records of a subject so far are taken away, and
// returns the position of the order after fsync. From then on nothing serves them; Compact takes them off the disk, and the
// order's own mention of the subject last. What the events count for, their identities and digests, and the tree stay.
// ErrFull: too many orders wait for Compact.
func (j *Journal) Erase(ctx context.Context, subject, actor, reason string, at time.Time) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return 0, fmt.Errorf("erase: %w", err)
	}
	defer j.leave()
	position, err := j.order(ctx, Order{Subject: subject, Actor: actor, Reason: reason, At: at})
	if err != nil {
		return 0, fmt.Errorf("erase: %w", err)
	}
	return position, nil
}

// order appends an erasure; it holds from when it is durable.
func (j *Journal) order(ctx context.Context, o Order) (position uint64, err error) {
	if err := j.MayErase(); err != nil {
		return 0, err
	}
	c, _ := j.pool.Get().(*call)
	defer j.recycle(c)
	at, err := j.prepareOrder(c, o)
	if err == nil {
		err = j.submit(ctx, c)
	}
	if err != nil {
		return 0, err
	}
	return *at, nil
}

// Order says whose payloads are to go: a subject's, or those of the records First to Last.
type Order struct {
	Subject       string // empty: First to Last
	First, Last   uint64
	Actor, Reason string
	At            time.Time
}

// MayErase says why this journal can take no further order to erase; nil: it can.
func (j *Journal) MayErase() error {
	if j.cfg.Commit == nil {
		return invalid("this journal was opened without a way to commit to what is erased")
	}
	if len(j.erasing()) >= maxErasures {
		return fmt.Errorf("%d erasures wait to be carried out: %w", maxErasures, store.ErrFull)
	}
	return nil
}

func (j *Journal) prepareOrder(c *call, o Order) (position *uint64, err error) {
	if !record.Text(o.Subject, 0) || o.Subject == "" && (o.First == 0 || o.Last < o.First) || !record.Text(o.Actor, 1) || !record.Text(o.Reason, 1) || !record.Instant(o.At) {
		return nil, invalid("a subject, an actor and a reason of 1 to %d bytes and an instant are needed", record.MaxText)
	}
	rec := c.encode(&record.Record{
		Kind: record.KindErasure, ReceivedAt: o.At, Event: meter.Event{Time: time.UnixMicro(0), Subject: o.Subject}, First: o.First, Last: o.Last,
		Reference: &record.Reference{Actor: o.Actor, Reason: o.Reason}, Command: c.command,
	})
	position = new(uint64)
	c.alone = func() (func(), error) {
		j.put(c, rec)
		*position = j.group.Position()
		return func() {
			j.index.Apply(j.group)
			j.changeErasures(func(all []archive.Erasure) []archive.Erasure {
				return append(all, archive.Erasure{Position: *position, Subject: o.Subject, First: o.First, Last: o.Last})
			})
		}, nil
	}
	return position, nil
}

// Retain does one step of a retention policy: it orders that the payloads of a sealed segment are taken away when all in it
// was received before an instant. A segment that is still written to is closed when it began an eighth of the time between
// the instant and now before. Compact carries the order out. more says that there may be another step.
func (j *Journal) Retain(ctx context.Context, before, now time.Time) (more bool, err error) {
	if err := j.enter(ctx); err != nil {
		return false, fmt.Errorf("retain: %w", err)
	}
	defer j.leave()
	o, ok, err := j.expired(ctx, before, now)
	if err == nil && ok {
		_, err = j.order(ctx, o)
	}
	if err != nil {
		return false, fmt.Errorf("retain: %w", err)
	}
	return ok, nil
}

// Expired is the order that Retain would give next; ok is false when there is none.
func (j *Journal) Expired(ctx context.Context, before, now time.Time) (o Order, ok bool, err error) {
	if err := j.enter(ctx); err != nil {
		return Order{}, false, fmt.Errorf("retain: %w", err)
	}
	defer j.leave()
	if o, ok, err = j.expired(ctx, before, now); err != nil {
		return Order{}, false, fmt.Errorf("retain: %w", err)
	}
	return o, ok, nil
}

func (j *Journal) expired(ctx context.Context, before, now time.Time) (o Order, ok bool, err error) {
	oldest := now.Add(-now.Sub(before) / 8)
	if err := j.closeLast(ctx, func(s *segment.Segment) (bool, error) {
		at, err := folder.Received(s)
		return !at.IsZero() && at.Before(oldest), err
	}); err != nil {
		return Order{}, false, err
	}
	erasures := j.erasing()
	for _, s := range *j.segments.Load() {
		r := folder.Sealed(s)
		if r == nil {
			continue
		}
		in := r.Info()
		ordered := slices.ContainsFunc(erasures, func(e archive.Erasure) bool { return e.Subject == "" && e.First <= in.First && in.Last <= e.Last })
		if in.Payloads == 0 || ordered || in.Received >= before.UnixMicro() {
			continue
		}
		return Order{First: in.First, Last: in.Last, Actor: "retention", Reason: "received before " + before.UTC().Format(time.RFC3339), At: now}, true, nil
	}
	return Order{}, false, nil
}

// recoverOrders finds the erasures in the part of a segment that the index holds, up to a position. A sealed one has none that
// waits: Compact seals a segment after it has carried out, in those before, all that is ordered in it.
func (j *Journal) recoverOrders(s *segment.Segment, upTo uint64) error {
	if folder.Sealed(s) != nil || s.First > upTo {
		return nil
	}
	found, err := archive.Orders(s.Name, s.Number, s.File, upTo)
	if err != nil && !unfinished(err) { // replay says what is wrong with the end
		return err
	}
	j.changeErasures(func(all []archive.Erasure) []archive.Erasure { return append(all, found...) })
	return nil
}

// erasing lists the erasures that are not carried out yet.
func (j *Journal) erasing() []archive.Erasure {
	if all := j.erasures.Load(); all != nil {
		return *all
	}
	return nil
}

// Erasing is how many erasures Compact has still to carry out. While there are some, the salts of their subjects are needed.
func (j *Journal) Erasing() int { return len(j.erasing()) }

func (j *Journal) changeErasures(change func(all []archive.Erasure) []archive.Erasure) {
	for {
		old := j.erasures.Load()
		all := change(slices.Clone(j.erasing()))
		if j.erasures.CompareAndSwap(old, &all) {
			return
		}
	}
}

// settleErasures drops those that no segment needs any more, and returns them.
func (j *Journal) settleErasures() (settled []archive.Erasure, err error) {
	erasures := j.erasing()
	if len(erasures) == 0 {
		return nil, nil
	}
	all := *j.segments.Load()
	waits := map[uint64]bool{}
	for i := range all {
		first, last, done, err := j.extent(all, i)
		if err != nil {
			return nil, err
		}
		for _, e := range archive.Due(erasures, first, last, done) {
			waits[e.Position] = true
		}
	}
	for _, e := range erasures {
		if !waits[e.Position] {
			settled = append(settled, e)
		}
	}
	j.changeErasures(func(all []archive.Erasure) []archive.Erasure { // orders that came meanwhile stay
		return slices.DeleteFunc(all, func(e archive.Erasure) bool { return slices.Contains(settled, e) })
	})
	return settled, nil
}

// settleOrders drops the erasures that are carried out, and has the keys of their subjects forgotten. Who sent events meanwhile
// keeps the key, since they are salted under it.
func (j *Journal) settleOrders(ctx context.Context) error {
	settled, err := j.settleErasures()
	if err != nil || j.cfg.Forget == nil {
		return err
	}
	for _, e := range settled {
		if e.Subject == "" {
			continue
		}
		last := j.position()
		left, err := j.holds(ctx, e.Subject)
		if err != nil {
			return err
		}
		if !left {
			came := func() (bool, error) { return j.came(ctx, e.Subject, last) }
			if err := j.cfg.Forget(ctx, e.Subject, came); err != nil {
				return fmt.Errorf("forget a subject: %w", err)
			}
		}
	}
	return nil
}

// holds says whether any record has a payload of the subject. It reads the whole log.
func (j *Journal) holds(ctx context.Context, subject string) (bool, error) {
	all := []archive.Erasure{{Position: math.MaxUint64, Subject: subject}}
	segments := *j.segments.Load()
	for i, s := range segments {
		held, _, release, err := folder.Pin(s, 0, 0)
		if err != nil {
			return false, err
		}
		touched, err := archive.Touches(ctx, held.Name, held.Number, held.File, all)
		release()
		if i == len(segments)-1 && unfinished(err) {
			err = nil // a commit under way
		}
		if touched || err != nil {
			return touched, err
		}
	}
	return false, nil
}

// came says whether a record behind a position has a payload of the subject.
func (j *Journal) came(ctx context.Context, subject string, after uint64) (came bool, err error) {
	_, err = j.leaves(ctx, after+1, math.MaxInt, func(l store.Leaf) error {
		came = came || l.Payload != nil && l.Subject == subject
		return nil
	})
	return came, err
}

// firstOpen is the position that the last segment begins at; 0 when it cannot be read.
func (j *Journal) firstOpen() uint64 {
	all := *j.segments.Load()
	first, err := folder.First(all[len(all)-1])
	if err != nil {
		return 0
	}
	return first
}

// closeFor closes the last segment when an erasure by subject reaches into it.
func (j *Journal) closeFor(ctx context.Context, erasures []archive.Erasure) error {
	if j.cfg.Commit == nil || !slices.ContainsFunc(erasures, func(e archive.Erasure) bool { return e.Subject != "" && e.Position >= j.firstOpen() }) {
		return nil
	}
	return j.closeLast(ctx, func(s *segment.Segment) (bool, error) {
		first, err := folder.First(s)
		return slices.ContainsFunc(erasures, func(e archive.Erasure) bool { return e.Subject != "" && e.Position >= first }), err
	})
}

// mask takes the payload out of a record that is to be erased and still on disk.
func (j *Journal) mask(r *Record) {
	by, ok := archive.Covers(j.erasing(), r.Position, r.Event.Subject)
	if !ok || r.Erased > 0 {
		return
	}
	r.Erased = by
	r.Event.Subject, r.Event.Data, r.Event.TraceParent, r.Receipt, r.KeyID, r.Salt, r.PayloadExt = "", nil, "", nil, "", nil, nil
}

// maskLeaf does the same with a leaf, which commits to the same.
func (j *Journal) maskLeaf(l *store.Leaf) error {
	if l.Payload == nil || j.cfg.Commit == nil {
		return nil
	}
	if _, ok := archive.Covers(j.erasing(), l.Position, l.Subject); ok {
		sum, err := j.cfg.Commit(l.Subject, l.Position, l.Head, l.Payload)
		if err != nil {
			return fmt.Errorf("commit to record %d: %w", l.Position, err)
		}
		l.Commitment, l.Payload, l.Subject = &sum, nil, ""
	}
	return nil
}

func unfinished(err error) bool {
	_, ok := archive.Unfinished(err)
	return ok
}
