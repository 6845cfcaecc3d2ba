// Package disk is the disks of a simulated world: the journal's in memory, the spools' as folders that lose power. What a power
// cut leaves is drawn from one seed: every sector that no sync made durable survives or not, on its own.
package disk

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tallystick/tallystick/internal/store/file"
)

// Sector is what a disk writes wholly or not at all, in bytes.
const Sector = 512

var errDead = errors.New("the simulated disk has lost power")

// Disk is the journal's disk, for one goroutine. It implements file.FS; the files live as long as the Disk, handles until the
// next Restart.
type Disk struct {
	dice  *rand.Rand
	files map[string]*inode // by base name, as a running process sees them
	named map[string]*inode // names that a SyncDir made durable
	index vfs.FS
	life  int
	dead  bool

	// Fuse is after how many further writes and syncs the power fails, in the middle of the last one; 0: never.
	Fuse int
	// Blown is called when the fuse has done so.
	Blown func()
	// Full has every write that would make a file longer fail with ENOSPC, after a part of it was written.
	Full bool
	// Lying has Sync say that it did, and do nothing: for the proof that the audit would see it.
	Lying bool
	// Refused counts writes that failed for Full, Torn sectors that a power cut took.
	Refused, Torn int
}

// inode is a file: as it reads, and as it is durable.
type inode struct{ now, was []byte }

// New is an empty disk.
func New(dice *rand.Rand) *Disk {
	return &Disk{dice: dice, files: map[string]*inode{}, named: map[string]*inode{}, index: vfs.NewMem()}
}

// IndexDisk is where the journal's index lies.
func (d *Disk) IndexDisk() vfs.FS { return d.index }

// PowerCut leaves what was durable, and of the rest what the dice say. The index survives whole or is gone.
func (d *Disk) PowerCut() {
	keep := d.dice.IntN(101) // of a hundred sectors
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		if d.named[name] != f && d.dice.IntN(2) == 0 {
			delete(d.files, name)
			continue
		}
		f.now = d.mix(f.was, f.now, keep)
		f.was = slices.Clone(f.now)
	}
	d.named = maps.Clone(d.files)
	if d.dice.IntN(2) == 0 {
		d.index = vfs.NewMem()
	}
}

// mix is what a cut leaves of a file.
func (d *Disk) mix(was, now []byte, keep int) []byte {
	left, torn := Mix(d.dice, was, now, keep)
	d.Torn += torn
	return left
}

// Mix takes of each sector that differs the new one in keep of a hundred cases; torn counts those that stayed old. Sizes are
// the old or the new one.
func Mix(dice *rand.Rand, was, now []byte, keep int) (left []byte, torn int) {
	size := len(was)
	if dice.IntN(3) > 0 {
		size = max(size, len(now))
	}
	left = make([]byte, size)
	copy(left, was)
	for from := 0; from < size; from += Sector {
		to := min(from+Sector, size)
		if to > len(now) || slices.Equal(left[from:to], now[from:to]) {
			continue
		}
		if dice.IntN(100) < keep {
			copy(left[from:to], now[from:to])
		} else {
			torn++
		}
	}
	return left, torn
}

// Restart ends the handles of an earlier process.
func (d *Disk) Restart() { d.life++; d.dead, d.Fuse = false, 0 }

// Kill ends them at once: what a killed process would still do does not reach the disk.
func (d *Disk) Kill() { d.dead = true }

// blow counts an operation down, and says whether the power fails in it.
func (d *Disk) blow() bool {
	if d.Fuse == 0 {
		return false
	}
	d.Fuse--
	return d.Fuse == 0
}

func (d *Disk) fail() error {
	if d.dead = true; d.Blown != nil {
		d.Blown()
	}
	return errDead
}

// MkdirAll implements file.FS.
func (d *Disk) MkdirAll(string) error { return nil }

// SyncDir implements file.FS.
func (d *Disk) SyncDir(string) error {
	if d.dead {
		return errDead
	}
	if d.blow() {
		return d.fail()
	}
	d.named = maps.Clone(d.files)
	return nil
}

// List implements file.FS.
func (d *Disk) List(string) ([]string, error) { return slices.Sorted(maps.Keys(d.files)), nil }

// Open implements file.FS.
func (d *Disk) Open(name string, create bool) (file.File, error) {
	if d.dead {
		return nil, errDead
	}
	name = filepath.Base(name)
	if d.files[name] == nil {
		if !create {
			return nil, os.ErrNotExist
		}
		d.files[name] = &inode{}
	}
	return &handle{d, d.files[name], d.life}, nil
}

// Rename puts a file in another's place. Remove and Rename are there so that segments are sealed, too.
func (d *Disk) Rename(from, to string) error {
	if d.dead {
		return errDead
	}
	from, to = filepath.Base(from), filepath.Base(to)
	if d.files[from] == nil {
		return os.ErrNotExist
	}
	d.files[to] = d.files[from]
	delete(d.files, from)
	return nil
}

// Remove deletes a file.
func (d *Disk) Remove(name string) error {
	if d.dead {
		return errDead
	}
	delete(d.files, filepath.Base(name))
	return nil
}

// handle is an open file of one process.
type handle struct {
	d    *Disk
	f    *inode
	life int
}

func (h *handle) gone() bool { return h.d.dead || h.life != h.d.life }

func (h *handle) ReadAt(p []byte, at int64) (int, error) {
	if at >= int64(len(h.f.now)) {
		return 0, io.EOF
	}
	n := copy(p, h.f.now[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, at int64) (int, error) {
	if h.gone() {
		return 0, errDead
	}
	if h.d.Full && int(at)+len(p) > len(h.f.now) {
		h.d.Refused++
		n := h.write(p[:len(p)/2], at)
		return n, syscall.ENOSPC
	}
	if h.d.blow() {
		h.write(p[:h.d.dice.IntN(len(p)+1)], at)
		return 0, h.d.fail()
	}
	return h.write(p, at), nil
}

func (h *handle) write(p []byte, at int64) int {
	if grow := int(at) + len(p) - len(h.f.now); grow > 0 {
		h.f.now = append(h.f.now, make([]byte, grow)...)
	}
	return copy(h.f.now[at:], p)
}

func (h *handle) Truncate(size int64) error {
	if h.gone() {
		return errDead
	}
	if size > int64(len(h.f.now)) {
		h.f.now = append(h.f.now, make([]byte, int(size)-len(h.f.now))...)
	}
	h.f.now = h.f.now[:size]
	return nil
}

func (h *handle) Sync() error {
	if h.gone() {
		return errDead
	}
	if h.d.blow() { // before anything is durable
		return h.d.fail()
	}
	if !h.d.Lying {
		h.f.was = slices.Clone(h.f.now)
	}
	return nil
}

func (h *handle) Size() (int64, error) { return int64(len(h.f.now)), nil }
func (h *handle) Close() error         { return nil }
