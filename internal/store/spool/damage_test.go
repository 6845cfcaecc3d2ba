package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/store"
)

// A flipped bit in the middle of the segment in use must never cost the sound records behind it.
func TestFlippedBitIsCorrupt(t *testing.T) {
	t.Parallel()
	const size = 60
	offsets, files := written(t, 20, size)
	name := segmentName(0)
	for i, offset := range offsets {
		for at := int(offset); at < int(offset)+frameHead+size; at++ {
			content := bytes.Clone(files[name])
			content[headerBytes+at] ^= 1 << (at % 8)
			dir := place(t, map[string][]byte{name: content})
			s, err := Open(tiny(dir))
			if i == len(offsets)-1 { // nothing tells it from a torn write
				if err != nil || s.Recovery().Offset != offset || s.Recovery().Bytes == 0 {
					t.Fatalf("last record, byte %d: %v", at, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want := fmt.Sprintf("%s at byte %d (offset %d)", filepath.Join(dir, name), headerBytes+offset, offset)
			if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), want) {
				t.Fatalf("record %d, byte %d: %v; want ErrCorrupt with %q", i, at, err, want)
			}
			if kept, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(kept, content) {
				t.Fatalf("record %d, byte %d: the file was changed, %v", i, at, err)
			}
		}
	}
}

// A power cut may keep a later sector and lose an earlier one, which then holds what it held at the last sync: the records
// synced, and zeros behind them.
func TestLostSectorIsCut(t *testing.T) {
	t.Parallel()
	const size = 60
	offsets, files := written(t, 40, size)
	name := segmentName(0)
	end := headerBytes + int(offsets[len(offsets)-1]) + frameHead + size
	lost := 0
	for synced := range offsets {
		from := headerBytes + int(offsets[synced])
		for first := from / sector * sector; first+sector < end-frameHead-size; first += sector {
			content := bytes.Clone(files[name])
			clear(content[max(from, first) : first+sector])
			dir := place(t, map[string][]byte{name: content})
			s, err := Open(tiny(dir))
			if err != nil {
				t.Fatalf("synced %d, lost the sector at %d: %v", synced, first, err)
			}
			whole := countRecords(t, s)
			if r := s.Recovery(); whole < synced || whole == len(offsets) || r.Bytes == 0 || r.Offset != offsets[whole] {
				t.Fatalf("synced %d, lost the sector at %d: %d records, recovery %+v", synced, first, whole, r)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			lost++
		}
	}
	if lost < 50 {
		t.Fatalf("only %d cases", lost)
	}
}
