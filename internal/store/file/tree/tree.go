// Package tree keeps the tiles of the journal's Merkle tree: the hashes from level 1 up, where one hash covers 256 of the level
// below and level 1 one block of 256 records. That is 0.14 bytes a record; the hashes of the records themselves are computed from
// the log when a proof needs them.
//
// A level is a file of entries of 36 bytes: a hash, and the CRC-32C of level, number and hash. Files only grow. All is derived:
// what is damaged or missing is cut off when opening, and the sealer appends it again from the log.
package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Bounds: five levels cover 2^40 records; a read is at most two blocks.
const (
	levels   = 5
	readMax  = 2 * seal.Block
	checkRun = 1 << 12 // entries read at once when opening

	hashSize  = 32
	entrySize = hashSize + 4
)

// Config of the tiles.
type Config struct {
	Dir string     // made if absent
	FS  segment.FS // default segment.OS
}

// Tree implements store.Tiles. It is safe for concurrent use.
type Tree struct {
	mu     sync.Mutex
	levels [levels]level
	cut    int64 // entries that were cut off when opening
}

type level struct {
	number int
	name   string
	file   segment.File
	len    int64
}

var _ store.Tiles = (*Tree)(nil)

// Open checks all that is there, cuts off from the first damaged entry on, and computes the levels above the first again where
// they do not follow from it.
func Open(cfg Config) (*Tree, error) {
	if cfg.FS == nil {
		cfg.FS = segment.OS{}
	}
	t := &Tree{}
	if err := t.open(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open the tree: %w", err), t.Close())
	}
	return t, nil
}

func (t *Tree) open(cfg Config) error {
	if err := cfg.FS.MkdirAll(cfg.Dir); err != nil {
		return err
	}
	made := false
	for i := range t.levels {
		l := &t.levels[i]
		l.number, l.name = i+1, filepath.Join(cfg.Dir, fmt.Sprintf("level%d", i+1))
		var err error
		if l.file, err = cfg.FS.Open(l.name, false); errors.Is(err, os.ErrNotExist) {
			made = true
			l.file, err = cfg.FS.Open(l.name, true)
		}
		if err != nil {
			return err
		}
		if err := t.check(l); err != nil {
			return err
		}
	}
	if made {
		if err := cfg.FS.SyncDir(cfg.Dir); err != nil {
			return err
		}
	}
	return t.mend()
}

// check finds how many entries of a level are whole.
func (t *Tree) check(l *level) error {
	size, err := l.file.Size()
	if err != nil {
		return err
	}
	l.len = size / entrySize
	for from := int64(0); from < l.len; from += checkRun {
		whole, err := l.read(from, int(min(checkRun, l.len-from)))
		if errors.Is(err, store.ErrCorrupt) {
			t.cut += l.len - from - int64(len(whole))
			return l.truncate(from + int64(len(whole)))
		}
		if err != nil {
			return err
		}
	}
	if size != l.len*entrySize {
		return l.truncate(l.len)
	}
	return nil
}

// mend makes each level follow from the one below.
func (t *Tree) mend() error {
	for i := range t.levels[:levels-1] {
		below, above := &t.levels[i], &t.levels[i+1]
		good := int64(0)
		for ; good < min(above.len, below.len/seal.Block); good++ {
			root, err := below.block(good)
			if err != nil {
				return err
			}
			have, err := above.read(good, 1)
			if err != nil {
				return err
			}
			if have[0] != root {
				break
			}
		}
		if good < above.len {
			t.cut += above.len - good
			if err := above.truncate(good); err != nil {
				return err
			}
		}
		if err := t.raise(i); err != nil {
			return err
		}
	}
	return nil
}

// raise appends to the level above what follows from one.
func (t *Tree) raise(i int) error {
	below, above := &t.levels[i], &t.levels[i+1]
	var roots [][hashSize]byte
	for n := above.len; n < below.len/seal.Block; n++ {
		root, err := below.block(n)
		if err != nil {
			return err
		}
		roots = append(roots, root)
	}
	return above.append(roots)
}

// Cut is how many damaged entries were cut off when opening.
func (t *Tree) Cut() int64 { return t.cut }

// Len implements store.Tiles.
func (t *Tree) Len(number int) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if number < 1 || number > levels {
		return 0
	}
	return t.levels[number-1].len
}

// Append implements store.Tiles.
func (t *Tree) Append(hashes [][hashSize]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var before [levels]int64
	for i := range t.levels {
		before[i] = t.levels[i].len
	}
	err := t.levels[0].append(hashes)
	for i := 0; i < levels-1 && err == nil; i++ {
		err = t.raise(i)
	}
	if err == nil {
		return nil
	}
	for i := range t.levels { // none of it is there; the next append writes over it
		t.levels[i].len = before[i]
	}
	return fmt.Errorf("append to the tree: %w", err)
}

// Hashes implements store.Tiles.
func (t *Tree) Hashes(number int, from int64, n int) ([][hashSize]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if number < 1 || number > levels || from < 0 || n < 0 || n > readMax || from+int64(n) > t.levels[number-1].len {
		return nil, fmt.Errorf("tree: hashes %d to %d of level %d: %w", from, from+int64(n), number, store.ErrNotFound)
	}
	return t.levels[number-1].read(from, n)
}

// Truncate implements store.Tiles.
func (t *Tree) Truncate(blocks int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.levels {
		if l := &t.levels[i]; blocks < l.len {
			if err := l.truncate(blocks); err != nil {
				return fmt.Errorf("truncate the tree: %w", err)
			}
		}
		blocks /= seal.Block
	}
	return nil
}

// Close closes the files.
func (t *Tree) Close() error {
	var err error
	for i := range t.levels {
		if f := t.levels[i].file; f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

func (l *level) sum(n int64, hash []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	place := binary.LittleEndian.AppendUint64([]byte{byte(l.number)}, uint64(n)) //nolint:gosec // not negative
	return crc32.Update(crc32.Update(0, table, place), table, hash)
}

// read returns n entries, or those before the first damaged one with store.ErrCorrupt.
func (l *level) read(from int64, n int) ([][hashSize]byte, error) {
	b := make([]byte, n*entrySize)
	if got, err := l.file.ReadAt(b, from*entrySize); got < len(b) {
		return nil, fmt.Errorf("read %s: %w", l.name, err)
	}
	out := make([][hashSize]byte, 0, n)
	for i := range n {
		entry := b[i*entrySize:][:entrySize]
		at := from + int64(i)
		if binary.LittleEndian.Uint32(entry[hashSize:]) != l.sum(at, entry[:hashSize]) {
			return out, fmt.Errorf("%s at byte %d: the checksum of hash %d does not match: %w", l.name, at*entrySize, at, store.ErrCorrupt)
		}
		out = append(out, [hashSize]byte(entry))
	}
	return out, nil
}

// block is the root of a whole tile.
func (l *level) block(n int64) ([hashSize]byte, error) {
	hashes, err := l.read(n*seal.Block, seal.Block)
	if err != nil {
		return [hashSize]byte{}, err
	}
	var r seal.Range
	for _, h := range hashes {
		r.Add(tlog.Hash(h))
	}
	return r.Root(), nil
}

func (l *level) append(hashes [][hashSize]byte) error {
	if len(hashes) == 0 {
		return nil
	}
	b := make([]byte, 0, len(hashes)*entrySize)
	for i, h := range hashes {
		b = append(b, h[:]...)
		b = binary.LittleEndian.AppendUint32(b, l.sum(l.len+int64(i), h[:]))
	}
	if _, err := l.file.WriteAt(b, l.len*entrySize); err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", l.name, err)
	}
	l.len += int64(len(hashes))
	return nil
}

func (l *level) truncate(n int64) error {
	if err := l.file.Truncate(n * entrySize); err != nil {
		return fmt.Errorf("truncate %s: %w", l.name, err)
	}
	l.len = n
	return l.file.Sync()
}
