package record

import (
	"math"
	"reflect"
	"testing"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

func full() Reservation {
	return Reservation{
		Key: Key{7, 9}, Time: 1_700_000_000_000_000, PeriodStart: -5, CatalogVersion: 3, Scale: 9, Cost: 12, CustomerID: "cus_1", KeyID: "key_1", Meter: "m",
		Event: "request", Route: "GET /", Method: "GET", Receipt: []byte{1, 2}, Capped: true, Cap: 20, Project: "p", User: "u",
		Held: Key{6, 2}, Expires: 99, OnExpiry: 1, Leases: []uint32{1, 300, math.MaxUint32},
	}
}

func TestReservationRoundTrip(t *testing.T) {
	t.Parallel()
	plain := full()
	plain.Capped, plain.Cap, plain.Project, plain.User, plain.Held, plain.Expires, plain.OnExpiry, plain.Leases = false, 0, "", "", Key{}, 0, 0, nil
	for _, r := range []Reservation{full(), plain} {
		for _, b := range [][]byte{r.Append(nil), r.Carry(nil)} {
			got, err := ReadReservation(b, Names{})
			if err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("%+v, %v; want %+v", got, err, r)
			}
			for n := 1; n < len(b); n++ {
				if _, err := ReadReservation(b[:n], Names{}); err == nil {
					t.Errorf("the first %d bytes of %d are a record", n, len(b))
				}
			}
		}
	}
}

// The ends of a reservation fit into the room that is set aside for them, whatever they say.
func TestEndsFitTheirRoom(t *testing.T) {
	t.Parallel()
	k := Key{math.MaxUint32, maxSeq}
	s := Settlement{Key: k, TotalEpoch: math.MaxUint32, Total: math.MinInt64, Status: 999, Flags: math.MaxUint16, Actual: true, Cost: math.MinInt64}
	if n := len(s.Append(nil)); n > EndRoom {
		t.Errorf("a settlement takes %d bytes", n)
	}
	if n := len(AppendRelease(nil, k, math.MaxUint8)); n > EndRoom {
		t.Errorf("a release takes %d bytes", n)
	}
	if got, err := ReadSettlement(s.Append(nil)); err != nil || got != s {
		t.Errorf("%+v, %v", got, err)
	}
	got, reason, err := ReadRelease(AppendRelease(nil, k, 3))
	if err != nil || got != k || reason != 3 {
		t.Errorf("%+v %d, %v", got, reason, err)
	}
}

// What version 1 wrote is read.
func TestVersion1(t *testing.T) {
	t.Parallel()
	reserve := []byte("\x01\x07\x09\x02\x04\x06\x00\x0c\x01c\x01k\x01m\x01e\x01r\x01G\x02\xaa\xbb")
	want := Reservation{
		Key: Key{7, 9}, Time: 1, PeriodStart: 2, CatalogVersion: 3, Cost: 6, CustomerID: "c", KeyID: "k", Meter: "m", Event: "e", Route: "r", Method: "G",
		Receipt: []byte{0xaa, 0xbb},
	}
	for kind, as := range map[byte]Kind{1: Reserve, 5: Carry} {
		reserve[0] = kind
		got, err := ReadReservation(reserve, Names{})
		if err != nil || !reflect.DeepEqual(got, want) || KindOf(reserve) != as {
			t.Errorf("kind %d: %+v, %v; want %+v", kind, got, err, want)
		}
	}
	settle := []byte{2, 7, 9, 8, 20, 200, 1, 3}
	st, err := ReadSettlement(settle)
	if wanted := (Settlement{Key: Key{7, 9}, TotalEpoch: 8, Total: 10, Status: 200, Flags: 3}); err != nil || st != wanted || st.Charge(6) != 6 || KindOf(settle) != Settle {
		t.Errorf("%+v, %v", st, err)
	}
	release := []byte{3, 7, 9}
	if k, reason, err := ReadRelease(release); err != nil || k != (Key{7, 9}) || reason != 0 || KindOf(release) != Release {
		t.Errorf("%+v %d, %v", k, reason, err)
	}
}

func declaration() Declaration {
	return Declaration{
		LeaseID: LeaseID{7, 3}, WindowEnd: 100, Spent: 5, UpTo: 77,
		Counter: store.CounterKey{CustomerID: "cus_1", Meter: "m", Scope: "user=a", Window: period.Day, Length: 60, Start: -1},
	}
}

func TestLeaseRecordsRoundTrip(t *testing.T) {
	t.Parallel()
	d := declaration()
	if got, err := ReadDeclaration(d.Append(nil)); err != nil || got != d {
		t.Errorf("%+v, %v", got, err)
	}
	sums := []Sum{{1, 5}, {9, math.MaxInt64}}
	epoch, upTo, got, err := ReadSpent(AppendSpent(nil, 7, 88, sums))
	if err != nil || epoch != 7 || upTo != 88 || !reflect.DeepEqual(got, sums) {
		t.Errorf("%d %d %v, %v", epoch, upTo, got, err)
	}
	if id, err := ReadClosed(AppendClosed(nil, d.LeaseID)); err != nil || id != d.LeaseID {
		t.Errorf("%+v, %v", id, err)
	}
	if k, expires, err := ReadExtend(AppendExtend(nil, Key{7, 9}, 12)); err != nil || k != (Key{7, 9}) || expires != 12 {
		t.Errorf("%+v %d, %v", k, expires, err)
	}
}

// TestBook: the last snapshot counts, and what ended behind its offset.
func TestBook(t *testing.T) {
	t.Parallel()
	d := declaration()
	b := NewBook(0)
	for i, payload := range [][]byte{d.Append(nil), AppendSpent(nil, 7, 200, []Sum{{3, 40}}), AppendSpent(nil, 7, 90, []Sum{{3, 1}})} {
		if err := b.Survey(payload, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	b.Ended(7, []uint32{3, 4}, 1, 199)
	b.Ended(7, []uint32{3}, 2, 200)
	b.Ended(8, []uint32{3}, 4, 300)
	key := Counter{d.Counter, 7}
	if got := b.Spent(); len(got) != 1 || got[key] != 42 {
		t.Fatalf("spent %v, want 42", got)
	}
	if err := b.Declare([]byte{Void}, 400); err != nil || b.Len() != 0 || b.SnapshotBytes() != 0 {
		t.Errorf("%d leases after a void, %d bytes, %v", b.Len(), b.SnapshotBytes(), err)
	}
	if err := b.Declare(d.Append(nil), 399); err != nil || b.Len() != 0 {
		t.Errorf("declared before the void, %v", err)
	}
	if err := b.Declare(d.Append(nil), 401); err != nil || b.Len() != 1 {
		t.Errorf("declared behind the void, %v", err)
	}
	if err := b.Declare(AppendClosed(nil, d.LeaseID), 402); err != nil || b.Len() != 0 {
		t.Errorf("closed, %v", err)
	}
}

// FuzzRead: whatever the bytes are, no reader fails hard, and what is read is written and read again as the same.
func FuzzRead(f *testing.F) {
	r, d := full(), declaration()
	st := Settlement{Key: Key{1, 2}, Total: 5, Actual: true, Cost: 9}
	for _, b := range [][]byte{
		r.Append(nil), r.Carry(nil), st.Append(nil), AppendRelease(nil, Key{1, 2}, 1), AppendMark(nil, Key{1, 2}, 2), AppendExtend(nil, Key{1, 2}, 3),
		d.Append(nil), AppendSpent(nil, 1, 2, []Sum{{1, 2}}), AppendClosed(nil, LeaseID{1, 2}),
		{Void},
		{2, 7, 9, 8, 20, 200, 1, 3},
		{3, 7, 9},
		{},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		var err error
		var first, second any
		read := func(b []byte) (v any, out []byte, err error) {
			switch KindOf(b) {
			case Reserve, Carry:
				r, err := ReadReservation(b, Names{})
				return r, r.Append(nil), err
			case Settle:
				s, err := ReadSettlement(b)
				return s, s.Append(nil), err
			case Release:
				k, reason, err := ReadRelease(b)
				return [2]any{k, reason}, AppendRelease(nil, k, reason), err
			case Mark:
				k, flags, err := ReadMark(b)
				return [2]any{k, flags}, AppendMark(nil, k, flags), err
			case Extend:
				k, expires, err := ReadExtend(b)
				return [2]any{k, expires}, AppendExtend(nil, k, expires), err
			case Lease:
				d, err := ReadDeclaration(b)
				return d, d.Append(nil), err
			case Spent:
				epoch, upTo, sums, err := ReadSpent(b)
				return [3]any{epoch, upTo, sums}, AppendSpent(nil, epoch, upTo, sums), err
			case Closed:
				id, err := ReadClosed(b)
				return id, AppendClosed(nil, id), err
			default:
				return nil, nil, ErrMalformed
			}
		}
		if first, again, err = read(b); err != nil {
			return
		}
		if second, _, err = read(again); err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%x reads as %+v, written and read again as %+v, %v", b, first, second, err)
		}
		book := NewBook(0)
		_ = book.Survey(b, 1)
	})
}

// TestSnapshot: a lease that is declared behind the cut is written by its number alone, and only when it was spent from; another
// one is declared again. A fresh book that surveys what was written knows the same.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	b := NewBook(7)
	var log [][]byte
	appendTo := func(fill func([]byte) []byte) (int64, error) { //nolint:unparam // the form that Snapshot takes
		log = append(log, fill(nil))
		return int64(len(log)-1) * 100, nil
	}
	declare := func(d Declaration) {
		at, err := appendTo(d.Append)
		if err == nil {
			err = b.Declare(log[len(log)-1], at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint32(4) {
		d := declaration()
		d.Number, d.Counter.Start, d.Spent, d.UpTo = n+1, int64(n), 0, 0
		declare(d) // at 0, 100, 200, 300
	}
	other := declaration()
	other.Epoch = 6
	declare(other) // of no interest
	b.Ended(7, []uint32{1, 3}, 5, 350)
	want := b.Spent()
	if err := b.Snapshot(150, 400, appendTo); err != nil {
		t.Fatal(err)
	}
	var kinds []Kind
	fresh := NewBook(7)
	for i, payload := range log[2:] { // what lay before is truncated
		if i >= 3 {
			kinds = append(kinds, KindOf(payload))
		}
		if err := fresh.Survey(payload, int64(i+2)*100); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(kinds, []Kind{Lease, Lease, Spent}) {
		t.Errorf("wrote %v", kinds)
	}
	if got := fresh.Spent(); !reflect.DeepEqual(got, want) || len(got) != 4 {
		t.Errorf("%v, want %v", got, want)
	}
	n := len(log)
	if err := b.Snapshot(150, 500, appendTo); err != nil || len(log) != n {
		t.Errorf("nothing has changed, and %d records were written, %v", len(log)-n, err)
	}
}
