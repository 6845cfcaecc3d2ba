package storetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/store"
)

const (
	maxPayload = 4096
	allBytes   = 1 << 30 // a Read that is bounded by the end only
)

// Spool checks a driver's promises. open opens the spool in a directory, again after it was closed. It should make small
// segments and a tight bound, so that a few hundred records of 4 KiB meet both.
func Spool(t *testing.T, open func(t *testing.T, dir string) store.Spool) {
	for name, test := range map[string]func(*testing.T, func(*testing.T, string) store.Spool){
		"ReadsBackInOrder":    spoolReadsBackInOrder,
		"ReadIsBounded":       spoolReadIsBounded,
		"RefusesBadRecords":   spoolRefusesBadRecords,
		"ReserveSurvivesFull": spoolReserveSurvivesFull,
		"TruncateGivesRoom":   spoolTruncateGivesRoom,
		"ReopenKeepsRecords":  spoolReopenKeepsRecords,
		"ClosedRefuses":       spoolClosedRefuses,
		"MatchesModel":        spoolMatchesModel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

type spooled struct {
	Offset  int64
	Payload string
}

// payload is n bytes that tell i.
func payload(i, n int) []byte {
	return binary.BigEndian.AppendUint32(bytes.Repeat([]byte{byte(i)}, n), uint32(i))[4:][:n]
}

func fill(p []byte) func([]byte) []byte {
	return func(dst []byte) []byte { return append(dst, p...) }
}

func mustAppend(t *testing.T, s store.Spool, reserve int, p []byte) spooled {
	t.Helper()
	offset, err := s.Append(reserve, fill(p))
	if err != nil {
		t.Fatalf("append %d bytes, reserve %d: %v", len(p), reserve, err)
	}
	return spooled{offset, string(p)}
}

func readSpool(t *testing.T, s store.Spool, from int64) []spooled {
	t.Helper()
	var got []spooled
	next, err := s.Read(from, allBytes, func(offset int64, p []byte) error {
		got = append(got, spooled{offset, string(p)})
		return nil
	})
	if err != nil {
		t.Fatalf("read from %d: %v", from, err)
	}
	if end := s.End(); next != end {
		t.Fatalf("read from %d ends at %d, want the end %d", from, next, end)
	}
	return got
}

func wantSpooled(t *testing.T, got, want []spooled) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("record %d: offset %d, %d bytes; want offset %d, %d bytes", i, got[i].Offset, len(got[i].Payload), want[i].Offset, len(want[i].Payload))
		}
	}
}

func spoolReadsBackInOrder(t *testing.T, open func(*testing.T, string) store.Spool) {
	s := open(t, t.TempDir())
	if got := readSpool(t, s, s.Start()); len(got) != 0 {
		t.Fatalf("a new spool holds %d records", len(got))
	}
	var want []spooled
	for i := range 200 {
		want = append(want, mustAppend(t, s, 0, payload(i, 1+i*7%500)))
		if i > 0 && want[i].Offset <= want[i-1].Offset {
			t.Fatalf("offset %d follows %d", want[i].Offset, want[i-1].Offset)
		}
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSpooled(t, readSpool(t, s, s.Start()), want)
	wantSpooled(t, readSpool(t, s, want[120].Offset), want[120:])
	wantSpooled(t, readSpool(t, s, s.End()), nil)
}

func spoolReadIsBounded(t *testing.T, open func(*testing.T, string) store.Spool) {
	s := open(t, t.TempDir())
	var want, got []spooled
	for i := range 60 {
		want = append(want, mustAppend(t, s, 0, payload(i, 700)))
	}
	for next, limit := s.Start(), 0; next < s.End(); limit += 500 {
		size, err := 0, error(nil)
		next, err = s.Read(next, limit, func(offset int64, p []byte) error {
			got, size = append(got, spooled{offset, string(p)}), size+len(p)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if size == 0 || size > max(limit, 700) {
			t.Fatalf("a read of at most %d bytes gave %d", limit, size)
		}
	}
	wantSpooled(t, got, want)

	stop := errors.New("stop")
	next, err := s.Read(s.Start(), allBytes, func(offset int64, _ []byte) error {
		if offset == want[7].Offset {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || next != want[7].Offset {
		t.Fatalf("read = %d, %v; want the refused record's offset %d and its error", next, err, want[7].Offset)
	}
}

func spoolRefusesBadRecords(t *testing.T, open func(*testing.T, string) store.Spool) {
	s := open(t, t.TempDir())
	for name, attempt := range map[string]func() (int64, error){
		"empty":            func() (int64, error) { return s.Append(0, fill(nil)) },
		"too large":        func() (int64, error) { return s.Append(0, fill(make([]byte, maxPayload+1))) },
		"negative reserve": func() (int64, error) { return s.Append(-1, fill([]byte("x"))) },
		"reserve too large": func() (int64, error) {
			return s.Append(maxPayload+1, fill([]byte("x")))
		},
		"nothing reserved": func() (int64, error) { return s.AppendReserved(10, fill([]byte("x"))) },
	} {
		if _, err := attempt(); err == nil || errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrBroken) {
			t.Errorf("%s: error %v, want a plain refusal", name, err)
		}
	}
	want := []spooled{mustAppend(t, s, 0, make([]byte, maxPayload))}
	own := payload(1, maxPayload)
	offset, err := s.Append(0, func([]byte) []byte { return own })
	if err != nil {
		t.Fatal(err)
	}
	wantSpooled(t, readSpool(t, s, s.Start()), append(want, spooled{offset, string(own)}))
	mustAppend(t, s, 100, payload(0, 10))
	for i, size := range []int{101, 100, 100} { // larger than its reserve, right, used twice
		if _, err := s.AppendReserved(100, fill(payload(1, size))); (err == nil) != (i == 1) {
			t.Fatalf("reserved append %d: %v", i, err)
		}
	}
	if _, err := s.Read(s.End()+1, allBytes, func(int64, []byte) error { return nil }); err == nil {
		t.Error("read behind the end succeeds")
	}
}

// fillUp appends records with reserves until the spool is full.
func fillUp(t *testing.T, s store.Spool, size, reserve int) (records []spooled) {
	t.Helper()
	for i := range 1 << 20 {
		p := payload(i, size)
		offset, err := s.Append(reserve, fill(p))
		if errors.Is(err, store.ErrFull) {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, spooled{offset, string(p)})
	}
	t.Fatal("the spool never gets full")
	return nil
}

func spoolReserveSurvivesFull(t *testing.T, open func(*testing.T, string) store.Spool) {
	for _, c := range []struct{ size, reserve, actual int }{
		{1, maxPayload, maxPayload},
		{maxPayload, maxPayload, maxPayload},
		{100, 2500, 2500},
		{3000, 1, 1},
		{200, 200, 50},
	} {
		s := open(t, t.TempDir())
		want := fillUp(t, s, c.size, c.reserve)
		if len(want) == 0 {
			t.Fatalf("%+v: nothing fits", c)
		}
		for i := range slices.Clip(want) {
			p := payload(i, c.actual)
			offset, err := s.AppendReserved(c.reserve, fill(p))
			if err != nil {
				t.Fatalf("%+v: reserved append %d of %d: %v", c, i, len(want), err)
			}
			want = append(want, spooled{offset, string(p)})
		}
		wantSpooled(t, readSpool(t, s, s.Start()), want)
	}
}

func spoolTruncateGivesRoom(t *testing.T, open func(*testing.T, string) store.Spool) {
	s := open(t, t.TempDir())
	records := fillUp(t, s, 1000, 0)
	middle := records[len(records)/2].Offset
	if err := s.Truncate(middle); err != nil {
		t.Fatal(err)
	}
	start := s.Start()
	if start <= 0 || start > middle {
		t.Fatalf("start %d after truncating before %d", start, middle)
	}
	i := slices.IndexFunc(records, func(r spooled) bool { return r.Offset >= start })
	wantSpooled(t, readSpool(t, s, start), records[i:])
	if _, err := s.Read(records[i-1].Offset, allBytes, func(int64, []byte) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("read of a truncated record: %v, want ErrNotFound", err)
	}
	end := s.End()
	last := mustAppend(t, s, 0, payload(1, 4000)) // goes to a new segment
	if err := s.Truncate(s.End()); err != nil {
		t.Fatal(err)
	}
	wantSpooled(t, readSpool(t, s, end), []spooled{last})
}

func spoolReopenKeepsRecords(t *testing.T, open func(*testing.T, string) store.Spool) {
	dir := t.TempDir()
	var want []spooled
	for round := range 5 {
		s := open(t, dir)
		wantSpooled(t, readSpool(t, s, s.Start()), want)
		for i := range 20 {
			want = append(want, mustAppend(t, s, 300, payload(round*100+i, 500)))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func spoolClosedRefuses(t *testing.T, open func(*testing.T, string) store.Spool) {
	s := open(t, t.TempDir())
	mustAppend(t, s, 10, payload(0, 10))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, appended := s.Append(0, fill([]byte("x")))
	_, reserved := s.AppendReserved(10, fill([]byte("x")))
	_, read := s.Read(s.Start(), allBytes, func(int64, []byte) error { return nil })
	for name, err := range map[string]error{
		"append": appended, "append reserved": reserved, "read": read,
		"sync": s.Sync(t.Context()), "truncate": s.Truncate(s.End()),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

// spoolModel is the naive truth beside a spool: the records kept, and the reserves not used yet.
type spoolModel struct {
	store.Spool
	records  []spooled
	reserves []int
	made     int
}

func spoolMatchesModel(t *testing.T, open func(*testing.T, string) store.Spool) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		m := &spoolModel{Spool: open(t, dir)}
		defer func() { _ = m.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"append":          m.append,
			"append reserved": m.appendReserved,
			"truncate":        m.truncate,
			"reopen": func(rt *rapid.T) {
				if err := m.Close(); err != nil {
					rt.Fatal(err)
				}
				m.Spool, m.reserves = open(t, dir), nil
			},
			"": m.check,
		})
	})
}

func (m *spoolModel) next(rt *rapid.T, largest int) []byte {
	m.made++
	return payload(m.made, rapid.IntRange(1, largest).Draw(rt, "size"))
}

func (m *spoolModel) append(rt *rapid.T) {
	reserve, p := rapid.IntRange(0, maxPayload).Draw(rt, "reserve"), m.next(rt, maxPayload)
	offset, err := m.Append(reserve, fill(p))
	if errors.Is(err, store.ErrFull) {
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	m.records = append(m.records, spooled{offset, string(p)})
	if reserve > 0 {
		m.reserves = append(m.reserves, reserve)
	}
}

func (m *spoolModel) appendReserved(rt *rapid.T) {
	if len(m.reserves) == 0 {
		rt.Skip("nothing reserved")
	}
	i := rapid.IntRange(0, len(m.reserves)-1).Draw(rt, "which")
	p := m.next(rt, m.reserves[i])
	offset, err := m.AppendReserved(m.reserves[i], fill(p))
	if err != nil {
		rt.Fatalf("reserved append: %v", err)
	}
	m.records = append(m.records, spooled{offset, string(p)})
	m.reserves = slices.Delete(m.reserves, i, i+1)
}

func (m *spoolModel) truncate(rt *rapid.T) {
	before := rapid.Int64Range(m.Start(), m.End()).Draw(rt, "before")
	if err := m.Truncate(before); err != nil {
		rt.Fatal(err)
	}
	if i := slices.IndexFunc(m.records, func(r spooled) bool { return r.Offset >= before }); i >= 0 && m.Start() > m.records[i].Offset {
		rt.Fatalf("truncate before %d drops the record at %d", before, m.records[i].Offset)
	}
	m.records = slices.DeleteFunc(m.records, func(r spooled) bool { return r.Offset < m.Start() })
}

func (m *spoolModel) check(rt *rapid.T) {
	var got []spooled
	if _, err := m.Read(m.Start(), allBytes, func(offset int64, p []byte) error {
		got = append(got, spooled{offset, string(p)})
		return nil
	}); err != nil {
		rt.Fatal(err)
	}
	if !slices.Equal(got, m.records) {
		rt.Fatalf("records differ from the model: %s", cmp.Diff(offsets(m.records), offsets(got)))
	}
}

func offsets(records []spooled) (at []int64) {
	for _, r := range records {
		at = append(at, r.Offset)
	}
	return at
}
