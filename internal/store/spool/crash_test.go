package spool

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/storetest"
)

const childDir = "TALLY_TEST_SPOOL_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, appendForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func numbered(n uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), bytes.Repeat([]byte{byte(n)}, int(n%300))...)
}

// appendForEver tells each record's number on stdout once its Append has returned.
func appendForEver(dir string) error {
	s, err := Open(tiny(dir))
	if err != nil {
		return err
	}
	first, err := lastNumber(s)
	if err != nil {
		return err
	}
	for n := first + 1; ; n++ {
		p := numbered(n)
		if _, err := s.Append(0, func(dst []byte) []byte { return append(dst, p...) }); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(os.Stdout, n); err != nil {
			return err
		}
		if n%100 == 0 {
			if err := s.Truncate(s.End() - 3*MinSegmentBytes); err != nil {
				return err
			}
		}
	}
}

// lastNumber checks that the records kept are whole and without a gap.
func lastNumber(s *Spool) (last uint64, err error) {
	_, err = s.Read(s.Start(), 1<<30, func(_ int64, p []byte) error {
		n := binary.BigEndian.Uint64(p)
		if last != 0 && n != last+1 {
			return fmt.Errorf("record %d follows %d", n, last)
		}
		if !bytes.Equal(p, numbered(n)) {
			return fmt.Errorf("record %d has other content", n)
		}
		last = n
		return nil
	})
	return last, err
}

func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := uint64(0)
		lines := bufio.NewScanner(out)
		for i := 0; lines.Scan(); i++ {
			if _, err := fmt.Sscan(lines.Text(), &acked); err != nil {
				break // a line cut by the kill
			}
			if i == 700 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child was not killed: %v", err)
		}
		s := mustOpen(t, tiny(dir))
		last, err := lastNumber(s)
		if err != nil {
			t.Fatal(err)
		}
		if acked < 700 || last < acked {
			t.Fatalf("record %d was acknowledged, the last one kept is %d", acked, last)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// written makes a spool of some segments and returns its records' offsets and the bytes of its files by name.
func written(t testing.TB, records, size int) (offsets []int64, files map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	s := mustOpen(t, tiny(dir))
	for i := range records {
		offset, err := s.Append(0, func(dst []byte) []byte { return append(dst, bytes.Repeat([]byte{byte(i + 1)}, size)...) })
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, offset)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	for _, name := range names {
		if files[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return offsets, files
}

func place(t testing.TB, files map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func countRecords(t testing.TB, s *Spool) (n int) {
	t.Helper()
	if _, err := s.Read(s.Start(), 1<<30, func(int64, []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTornTailIsCut(t *testing.T) {
	t.Parallel()
	offsets, files := written(t, 3, 20)
	name := segmentName(0)
	last := headerBytes + int(offsets[2])
	end := last + frameHead + 20
	for cut := last; cut < end; cut++ {
		for damage, change := range map[string]func([]byte) []byte{
			"zeroed":  func(b []byte) []byte { clear(b[cut:end]); return b },
			"lost":    func(b []byte) []byte { b[cut] ^= 0x55; return b },
			"garbage": func(b []byte) []byte { copy(b[cut:], bytes.Repeat([]byte{0xa7}, len(b)-cut)); return b },
			"short":   func(b []byte) []byte { return b[:cut] },
		} {
			content := change(bytes.Clone(files[name]))
			dir := place(t, map[string][]byte{name: content})
			s, err := Open(tiny(dir))
			if err != nil {
				t.Fatalf("%s at %d: %v", damage, cut, err)
			}
			if n := countRecords(t, s); n != 2 {
				t.Fatalf("%s at %d: %d records, want 2", damage, cut, n)
			}
			torn := len(bytes.Trim(content[min(last, len(content)):], "\x00")) > 0
			if r := s.Recovery(); torn != (r.Bytes > 0) || torn && (r.Offset != offsets[2] || r.File != filepath.Join(dir, name)) {
				t.Fatalf("%s at %d: recovery %+v", damage, cut, r)
			}
			if offset, err := s.Append(0, sized(1)); err != nil || offset != offsets[2] {
				t.Fatalf("%s at %d: append at %d, %v; want %d", damage, cut, offset, err, offsets[2])
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := mustOpen(t, tiny(dir))
			if n, r := countRecords(t, again), again.Recovery(); n != 3 || r.Bytes != 0 {
				t.Fatalf("%s at %d: reopened with %d records, recovery %+v", damage, cut, n, r)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A kill ends a write at the end of a page: only then is nothing lost but a record that nobody was told of.
func TestKilledWriteIsUnfinished(t *testing.T) {
	t.Parallel()
	offsets, files := written(t, 12, 700)
	name := segmentName(0)
	for i, offset := range offsets[:11] {
		start, end := headerBytes+int(offset), headerBytes+int(offset)+frameHead+700
		for cut := start + 1; cut < end; cut++ {
			if cut%37 != 0 && cut%page > 2 && cut%page < page-2 {
				continue
			}
			content := bytes.Clone(files[name])
			clear(content[cut:])
			s, err := Open(tiny(place(t, map[string][]byte{name: content})))
			if err != nil {
				t.Fatalf("record %d cut at %d: %v", i, cut, err)
			}
			r := s.Recovery()
			atEnd, near := cut%page == 0, page-cut%page <= zerosMax // zeros before a page's end may be the record's own
			if atEnd && !r.Unfinished || !atEnd && !near && r.Unfinished || r.Torn() == r.Unfinished || r.Offset != offset || countRecords(t, s) != i {
				t.Fatalf("record %d cut at %d: %+v", i, cut, r)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A whole record with a flipped bit was acknowledged, wherever it ends.
func TestFlippedBitIsNotUnfinished(t *testing.T) {
	t.Parallel()
	const size = page - headerBytes - frameHead
	for _, n := range []int{size - 1, size, size + 1, size + frameHead} {
		_, files := written(t, 1, n)
		for at := headerBytes; at < headerBytes+frameHead+n; at++ {
			if at > headerBytes+frameHead && at < page-70 && at%61 != 0 {
				continue
			}
			content := bytes.Clone(files[segmentName(0)])
			content[at] ^= 0x80
			s, err := Open(tiny(place(t, map[string][]byte{segmentName(0): content})))
			if err != nil {
				t.Fatal(err)
			}
			if r := s.Recovery(); !r.Torn() {
				t.Fatalf("%d bytes, byte %d: %+v", n, at, r)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDamageElsewhereIsCorrupt(t *testing.T) {
	t.Parallel()
	_, files := written(t, 40, 500)
	for name, c := range map[string]struct {
		file   int64 // first offset
		change func([]byte) []byte
		want   error
		at     string
	}{
		"record of a full segment":      {0, func(b []byte) []byte { b[headerBytes+1000] ^= 1; return b }, store.ErrCorrupt, "at byte 540 (offset 508)"},
		"padding of a full segment":     {0, func(b []byte) []byte { b[len(b)-1] = 1; return b }, store.ErrCorrupt, "at byte "},
		"emptied segment":               {0, func(b []byte) []byte { clear(b[headerBytes:]); return b }, store.ErrCorrupt, "at byte 32 (offset 0)"},
		"header":                        {0, func(b []byte) []byte { b[20] ^= 1; return b }, store.ErrCorrupt, segmentName(0)},
		"header of the last segment":    {16320, func(b []byte) []byte { b[0] ^= 1; return b }, store.ErrCorrupt, segmentName(16320)},
		"emptied file":                  {16320, func([]byte) []byte { return nil }, store.ErrCorrupt, segmentName(16320)},
		"newer version":                 {16320, func(b []byte) []byte { b[8]++; return b }, store.ErrNewer, "version 2"},
		"more bytes than in its header": {8160, func(b []byte) []byte { return append(b, 0) }, store.ErrCorrupt, segmentName(8160)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := place(t, files)
			path := filepath.Join(dir, segmentName(c.file))
			if err := os.WriteFile(path, c.change(bytes.Clone(files[segmentName(c.file)])), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(tiny(dir))
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), path) && !strings.Contains(fmt.Sprint(err), c.at) {
				t.Fatalf("open: %v; want %v with %q", err, c.want, c.at)
			}
			if !strings.Contains(err.Error(), c.at) {
				t.Fatalf("open: %v; want it to say %q", err, c.at)
			}
		})
	}
	t.Run("missing segment", func(t *testing.T) {
		t.Parallel()
		dir := place(t, files)
		if err := os.Remove(filepath.Join(dir, segmentName(8160))); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(tiny(dir)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "offset 8160, is missing") {
			t.Fatalf("open: %v", err)
		}
	})
}

func TestReadNamesDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, tiny(dir))
	for range 3 {
		if _, err := s.Append(0, sized(100)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.segments[0].file.WriteAt([]byte{1}, headerBytes+108+50); err != nil {
		t.Fatal(err)
	}
	n := 0
	next, err := s.Read(0, 1<<20, func(int64, []byte) error { n++; return nil })
	if n != 1 || next != 108 || !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), segmentName(0)+" at byte 140 (offset 108)") {
		t.Fatalf("read %d records up to %d: %v", n, next, err)
	}
}

// A crash while a segment is made leaves its temporary file.
func TestUnfinishedSegmentIsRemoved(t *testing.T) {
	t.Parallel()
	_, files := written(t, 40, 500)
	dir := place(t, files)
	temp := filepath.Join(dir, segmentName(24480)+tempSuffix)
	if err := os.WriteFile(temp, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := countRecords(t, mustOpen(t, tiny(dir))); n != 40 {
		t.Fatalf("%d records", n)
	}
	if _, err := os.Stat(temp); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("stat: %v", err)
	}
}

func TestReserveOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	cfg := tiny(t.TempDir())
	s := mustOpen(t, cfg)
	open := 0
	for ; ; open++ {
		if _, err := s.Append(1500, sized(1)); errors.Is(err, store.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, cfg)
	for i := range open {
		if _, err := s.Append(0, sized(1500)); err != nil {
			t.Fatalf("settle %d of %d: %v", i, open, err)
		}
	}
}

func TestFailedSyncIsForEver(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(t *testing.T, s *Spool) error{
		"sync": func(t *testing.T, s *Spool) error { return s.Sync(t.Context()) },
		"next segment": func(t *testing.T, s *Spool) (err error) {
			for err == nil {
				_, err = s.Append(0, sized(3000))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mustOpen(t, tiny(t.TempDir()))
			if _, err := s.Append(10, sized(1)); err != nil {
				t.Fatal(err)
			}
			cause := errors.New("no disk")
			s.datasync = func(*os.File) error { return cause }
			if err := call(t, s); !errors.Is(err, store.ErrBroken) || !errors.Is(err, cause) {
				t.Fatalf("got %v, want ErrBroken and its cause", err)
			}
			s.datasync = datasync
			_, appended := s.Append(0, sized(1))
			_, reserved := s.AppendReserved(10, sized(1))
			for _, err := range []error{appended, reserved, s.Sync(t.Context()), s.Truncate(0)} {
				if !errors.Is(err, store.ErrBroken) {
					t.Errorf("got %v, want ErrBroken for ever", err)
				}
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	const reserve = 700
	storetest.OnSmallDisk(t, 10*MinSegmentBytes, func(t *testing.T, dir string) {
		s := mustOpen(t, Config{Dir: filepath.Join(dir, "spool"), SegmentBytes: MinSegmentBytes, MaxBytes: 1 << 20})
		for round := range 3 {
			open := 0
			for ; ; open++ {
				_, err := s.Append(reserve, sized(90))
				if errors.Is(err, store.ErrFull) {
					if !strings.Contains(err.Error(), "no space left on device") {
						t.Fatalf("full by the bound, not by the disk: %v", err)
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if open == 0 {
				t.Fatalf("round %d: nothing fits after truncating", round)
			}
			for i := range open {
				if _, err := s.AppendReserved(reserve, sized(reserve)); err != nil {
					t.Fatalf("reserved append %d of %d on a full disk: %v", i, open, err)
				}
			}
			if n := countRecords(t, s); n < 2*open {
				t.Fatalf("%d records, want at least %d", n, 2*open)
			}
			if err := s.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Truncate(s.End()); err != nil {
				t.Fatal(err)
			}
		}
		if st := s.Stats(); st.Refused != 3 || st.Reserved != 0 {
			t.Fatalf("stats %+v", st)
		}
		if temps, err := filepath.Glob(filepath.Join(dir, "spool", "*"+tempSuffix)); err != nil || len(temps) > 0 {
			t.Fatalf("left behind: %v %v", temps, err)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, cfg := range []Config{
		{},
		{Dir: dir, SegmentBytes: MinSegmentBytes - 1},
		{Dir: dir, SegmentBytes: MaxSegmentBytes + 1},
		{Dir: dir, SegmentBytes: MinSegmentBytes, MaxBytes: 2*MinSegmentBytes - 1},
		{Dir: dir, MaxBytes: -1},
	} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

// A file system without fallocate gets zeros.
func TestWriteZerosKeepsData(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString("data"); err != nil {
		t.Fatal(err)
	}
	if err := writeZeros(f, 4, 100_000); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil || len(got) != 100_000 || string(got[:4]) != "data" || len(bytes.Trim(got[4:], "\x00")) > 0 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func FuzzRecovery(f *testing.F) {
	offsets, files := written(f, 5, 30)
	sound := files[segmentName(0)][headerBytes:]
	f.Add([]byte{}, true)
	f.Add(bytes.Clone(sound[:offsets[4]+10]), true)
	f.Add(bytes.Clone(sound[:300]), false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3}, true)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 9}, true)
	f.Fuzz(func(t *testing.T, content []byte, header bool) {
		if header {
			content = append(encodeHeader(0, MinSegmentBytes), content...)
		}
		dir := place(t, map[string][]byte{segmentName(0): content})
		s, err := Open(tiny(dir))
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNewer) {
				t.Fatalf("open: %v", err)
			}
			return
		}
		before := countRecords(t, s)
		for i := range 3 {
			if _, err := s.Append(0, sized(1+i*2000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := Open(tiny(dir))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = again.Close() }()
		if n, r := countRecords(t, again), again.Recovery(); n != before+3 || r.Bytes != 0 {
			t.Fatalf("%d records and recovery %+v, want %d and nothing cut", n, r, before+3)
		}
	})
}

// What scan takes for frames encodes to the same bytes again, and nothing but zeros lies behind what it calls written.
func FuzzScan(f *testing.F) {
	_, files := written(f, 5, 30)
	sound := files[segmentName(0)][headerBytes:]
	f.Add(bytes.Clone(sound[:190]))
	f.Add(bytes.Clone(sound[:150]))
	f.Add(append(bytes.Clone(sound[:400]), 1))
	f.Fuzz(func(t *testing.T, frames []byte) {
		content := append(make([]byte, headerBytes), frames...)
		end, last := scan(content)
		if end < headerBytes || last < end || last > int64(len(content)) || len(bytes.Trim(content[last:], "\x00")) > 0 {
			t.Fatalf("%d bytes: end %d, written up to %d", len(content), end, last)
		}
		s := &Spool{}
		for pos := int64(headerBytes); pos < end; {
			payload := frameAt(content[pos:end])
			frame, err := s.encode(func(dst []byte) []byte { return append(dst, payload...) })
			if err != nil || !bytes.Equal(frame, content[pos:pos+int64(len(frame))]) {
				t.Fatalf("frame at %d: %v", pos, err)
			}
			pos += int64(len(frame))
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(encodeHeader(0, MinSegmentBytes))
	f.Add(encodeHeader(maxOffset, MaxSegmentBytes))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, h []byte) {
		first, size, err := decodeHeader(h)
		if err == nil && !bytes.Equal(encodeHeader(first, size), h[:headerBytes]) {
			t.Fatalf("header %x encodes to %x", h[:headerBytes], encodeHeader(first, size))
		}
	})
}

func BenchmarkAppendPair(b *testing.B) {
	s := mustOpen(b, Config{Dir: b.TempDir()})
	record := bytes.Repeat([]byte{7}, 200)
	fill := func(dst []byte) []byte { return append(dst, record...) }
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Append(300, fill); err != nil {
			b.Fatal(err)
		}
		if _, err := s.AppendReserved(300, fill); err != nil {
			b.Fatal(err)
		}
		if i%10_000 == 0 {
			if err := s.Truncate(s.End()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
