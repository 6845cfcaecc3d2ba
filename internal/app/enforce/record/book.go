package record

import (
	"cmp"
	"math"
	"slices"

	"github.com/tallystick/tallystick/internal/store"
)

// Book is what the leases of a node were spent on by requests that have ended, counted from its spool. It is not safe for
// concurrent use.
//
// The spool is read in order, and from its start on after a crash. What was truncated by then is in the last snapshot of each
// lease (a Lease or a Spent), which counts all requests that ended before the offset UpTo. A snapshot may lie behind ends that
// it does not count, since requests end while it is written. So a spool with a past is read twice: Survey finds the last
// snapshots, then Declare and Ended count on from there.
type Book struct {
	epoch  uint32 // leases of other epochs are of no interest; 0: all are
	leases map[LeaseID]*account
	void   int64 // declarations before this offset mean nothing
	size   int64 // bytes of the declarations of all leases, about
	dirty  int64 // leases that were spent from since their last snapshot
}

// account is one lease.
type account struct {
	Declaration
	at      int64 // offset of its newest declaration
	changed bool
}

// NewBook is a book of the leases of one epoch, or of all epochs for 0, that knows none yet.
func NewBook(epoch uint32) *Book { return &Book{epoch: epoch, leases: map[LeaseID]*account{}} }

// Survey takes a record of the first reading in.
func (b *Book) Survey(payload []byte, offset int64) error {
	switch KindOf(payload) {
	case Lease, Closed, Void:
		return b.Declare(payload, offset)
	case Spent:
		epoch, upTo, sums, err := ReadSpent(payload)
		if err != nil {
			return err
		}
		for _, s := range sums {
			if a := b.leases[LeaseID{epoch, s.Number}]; a != nil && upTo >= a.UpTo {
				a.Spent, a.UpTo = s.Spent, upTo
			}
		}
	default:
	}
	return nil
}

// Declare takes a Lease, Closed or Void in, in the order of the spool.
func (b *Book) Declare(payload []byte, offset int64) error {
	switch KindOf(payload) {
	case Lease:
		d, err := ReadDeclaration(payload)
		if err != nil || offset < b.void || b.epoch != 0 && d.Epoch != b.epoch {
			return err
		}
		a := b.leases[d.LeaseID]
		if a == nil {
			b.leases[d.LeaseID] = &account{Declaration: d, at: offset}
			b.size += sizeOf(&d.Counter)
			return nil
		}
		if a.at = max(a.at, offset); d.UpTo > a.UpTo && !a.changed {
			a.Spent, a.UpTo = d.Spent, d.UpTo
		}
	case Closed:
		id, err := ReadClosed(payload)
		if err != nil {
			return err
		}
		b.forget(id)
	case Void:
		b.Void(offset)
	default:
	}
	return nil
}

// Void forgets all leases that were declared before an offset, for good.
func (b *Book) Void(offset int64) {
	b.void = max(b.void, offset)
	for id, a := range b.leases {
		if a.at < b.void {
			b.forget(id)
		}
	}
}

func (b *Book) forget(id LeaseID) {
	a := b.leases[id]
	if a == nil {
		return
	}
	delete(b.leases, id)
	b.size -= sizeOf(&a.Counter)
	if a.changed {
		b.dirty--
	}
}

// Ended counts an amount on the leases of a request whose end lies at an offset. An unknown lease is closed, or void.
func (b *Book) Ended(epoch uint32, numbers []uint32, amount, offset int64) {
	for _, n := range numbers {
		a := b.leases[LeaseID{epoch, n}]
		if a == nil || offset < a.UpTo || amount == 0 {
			continue
		}
		if a.Spent > math.MaxInt64-amount {
			a.Spent = math.MaxInt64
		} else {
			a.Spent += amount
		}
		if !a.changed {
			a.changed = true
			b.dirty++
		}
	}
}

// Spent is what a node's lease of a counter in an epoch was spent on since it was opened last: where it was opened again, under
// another number, it is the newest. A lease that was never declared is not known.
func (b *Book) Spent() map[Counter]int64 {
	out, newest := make(map[Counter]int64, len(b.leases)), make(map[Counter]uint32, len(b.leases))
	for id, a := range b.leases {
		if k := (Counter{a.Counter, id.Epoch}); id.Number > newest[k] {
			out[k], newest[k] = a.Spent, id.Number
		}
	}
	return out
}

// Whole says that every lease of an epoch that was used is known: another one was never spent from.
func (b *Book) Whole(epoch uint32) bool { return b.leases[LeaseID{Epoch: epoch}] != nil }

// Counter is a counter's lease in an epoch.
type Counter struct {
	store.CounterKey
	Epoch uint32
}

// Bytes is about what the declarations of all leases take in the spool.
func (b *Book) Bytes() int64 { return b.size }

// Len is how many leases are known.
func (b *Book) Len() int { return len(b.leases) }

// sumBytes is what a lease takes in a Spent, frame included, about.
const sumBytes = 14

// SnapshotBytes is about the most that a snapshot takes in the spool now.
func (b *Book) SnapshotBytes() int64 { return b.size + sumBytes*b.dirty }

func sizeOf(k *store.CounterKey) int64 {
	return int64(len(k.CustomerID)+len(k.Meter)+len(k.Scope)) + 64
}

// Snapshot appends what must be known when the spool is cut before an offset: leases that are declared there, and those that
// were spent from since their last snapshot. All ends before upTo have been counted. An error of append ends it, and what was
// appended by then stays right.
func (b *Book) Snapshot(before, upTo int64, appendTo func(fill func([]byte) []byte) (offset int64, err error)) error {
	sums := map[uint32][]*account{}
	for id, a := range b.leases {
		if a.at >= before {
			if a.changed {
				sums[id.Epoch] = append(sums[id.Epoch], a)
			}
			continue
		}
		d := a.Declaration
		d.UpTo = upTo
		at, err := appendTo(d.Append)
		if err != nil {
			return err
		}
		a.at = at
		b.written(a, upTo)
	}
	for epoch, list := range sums {
		slices.SortFunc(list, func(a, b *account) int { return cmp.Compare(a.Number, b.Number) })
		for part := range slices.Chunk(list, MaxLeases) {
			line := make([]Sum, len(part))
			for i, a := range part {
				line[i] = Sum{a.Number, a.Spent}
			}
			if _, err := appendTo(func(dst []byte) []byte { return AppendSpent(dst, epoch, upTo, line) }); err != nil {
				return err
			}
			for _, a := range part {
				b.written(a, upTo)
			}
		}
	}
	return nil
}

func (b *Book) written(a *account, upTo int64) {
	if a.UpTo = upTo; a.changed {
		a.changed = false
		b.dirty--
	}
}
