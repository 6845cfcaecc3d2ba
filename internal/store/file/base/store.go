package base

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tallystick/tallystick/internal/store"
)

// What the store may take in memory: blocks that were read, and the table that a small batch waits in.
const (
	CacheBytes    = 64 << 20
	memTableBytes = 4 << 20
	stopWrites    = 1 << 20 // tables of the top level: Pebble would have writers wait for a compaction, which on a full disk never ends
	bloomBits     = 10      // a key: 1 % of the identities that are not there are looked for all the same
)

// Version of the keys and values.
const Version = 1

// Store is an open base.
type Store struct {
	dir   string
	fs    vfs.FS
	db    *pebble.DB
	cache *pebble.Cache

	flushed <-chan struct{} // closed when the last batch is durable
	failed  chan failure    // why Pebble could not write just now; it goes on trying
	flush   error           // of the last flush; Pebble tells of one thing at a time
}

// quiet takes what Pebble says. What fails comes back as an error of the call; what cannot be survived ends the process.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic("the journal's index cannot go on; start again: " + fmt.Sprintf(format, args...))
}

// Exists says whether a base lies in a folder.
func Exists(fs vfs.FS, dir string) bool {
	names, err := fs.List(dir)
	return err == nil && len(names) > 0
}

// Open opens the base in a folder, or makes one.
func Open(fs vfs.FS, dir string) (s *Store, err error) {
	defer func() { // damaged files make Pebble panic in places
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("open index %s: %w: %v: %w", dir, ErrDamaged, p, store.ErrCorrupt)
		}
	}()
	if _, err := fs.Stat(fs.PathJoin(dir, marker)); err == nil {
		return nil, fmt.Errorf("index %s was found damaged: %w", dir, ErrDamaged)
	}
	s = &Store{dir: dir, fs: fs, cache: pebble.NewCache(CacheBytes), failed: make(chan failure, 1)}
	o := &pebble.Options{
		FS: fs, Cache: s.cache, DisableWAL: true, MemTableSize: memTableBytes, Logger: quiet{},
		FormatMajorVersion: pebble.FormatNewest, L0CompactionThreshold: 4, MaxOpenFiles: 500,
		LBaseMaxBytes: 64 << 20, L0StopWritesThreshold: stopWrites,
		// Whoever reads what is damaged gets it as an error; the process goes on.
		EventListener: &pebble.EventListener{
			DataCorruption: func(pebble.DataCorruptionInfo) {},
			// Who waits for a flush hears what keeps it. A compaction that fails is tried again, and nobody waits for it.
			FlushEnd: func(info pebble.FlushInfo) { s.flush = info.Err },
			BackgroundError: func(err error) {
				if s.flush != nil && errors.Is(err, s.flush) {
					s.fail(err)
				}
			},
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
		o.Levels[i].BlockSize = 16 << 10
	}
	if err = fs.MkdirAll(dir, 0o700); err == nil { // Pebble would let others read it
		s.db, err = pebble.Open(dir, o)
	}
	if err != nil {
		s.cache.Unref()
		return nil, s.fault("open", err)
	}
	return s, nil
}

type failure struct{ err error }

func (s *Store) fail(err error) {
	select {
	case s.failed <- failure{err}:
	default:
	}
}

// Wait returns when the last batch is durable, or with what keeps it from being; then it may be called again.
func (s *Store) Wait() error {
	select {
	case <-s.failed: // of an earlier attempt
	default:
	}
	select {
	case <-s.flushed:
		return nil
	case f := <-s.failed:
		return fmt.Errorf("write index %s: %w", s.dir, f.err)
	}
}

// marker is a file beside Pebble's that says that damage was found, so that the next opening makes the base anew.
const marker = "DAMAGED"

// ErrDamaged says that the base cannot be read. It can be removed and made again.
var ErrDamaged = errors.New("the index is damaged")

// fault names the index and what to do about it: it can always be made again.
func (s *Store) fault(what string, err error) error {
	var system syscall.Errno
	if errors.As(err, &system) && system != syscall.ENOENT {
		return fmt.Errorf("%s index %s: %w", what, s.dir, err) // the disk, or another process
	}
	if f, err := s.fs.Create(s.fs.PathJoin(s.dir, marker), vfs.WriteCategoryUnspecified); err == nil {
		_ = f.Close() // without it, the damage is found once more
	}
	return fmt.Errorf("%s index %s: %w: %w; stop the journal and start it again, it is made anew from the log: %w",
		what, s.dir, ErrDamaged, err, store.ErrCorrupt)
}

// Close closes the store. Nothing is lost that a checkpoint has flushed.
func (s *Store) Close() error {
	err := s.db.Close()
	s.cache.Unref()
	return err
}

// Remove takes a base away, so that it is made again.
func Remove(fs vfs.FS, dir string) error {
	if err := fs.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove a damaged index: %w", err)
	}
	return nil
}

// Bytes on disk.
func (s *Store) Bytes() int64 { return int64(s.db.Metrics().DiskSpaceUsage()) }

// Reader reads the store as it is at the first read. It is for one goroutine; close it. Reads may be nested.
type Reader struct {
	s     *Store
	its   []*pebble.Iterator // one for each reading that is nested in another
	depth int
}

// Reader makes a reader; of no store one that finds nothing.
func (s *Store) Reader() *Reader { return &Reader{s: s} }

// begin takes an iterator that no reading around this one uses; release must follow.
func (r *Reader) begin() (*pebble.Iterator, error) {
	if r.depth == len(r.its) {
		it, err := r.open()
		if err != nil {
			return nil, r.s.fault("read", err)
		}
		r.its = append(r.its, it)
	}
	r.depth++
	return r.its[r.depth-1], nil
}

func (r *Reader) open() (*pebble.Iterator, error) {
	if len(r.its) > 0 {
		return r.its[0].Clone(pebble.CloneOptions{})
	}
	return r.s.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
}

// Close ends the reading.
func (r *Reader) Close() error {
	its := r.its
	r.its = nil
	var err error
	for _, it := range its {
		err = errors.Join(err, it.Close())
	}
	if err != nil {
		return r.s.fault("read", err)
	}
	return nil
}

// each calls do with the keys from one on, below another one, until it says no.
func (r *Reader) each(from, below []byte, do func(key, value []byte) (bool, error)) error {
	if r.s == nil {
		return nil
	}
	it, err := r.begin()
	if err != nil {
		return err
	}
	defer r.release()
	for ok := it.SeekGE(from); ok && bytes.Compare(it.Key(), below) < 0; ok = it.Next() {
		if err := r.hand(it, do, &ok); err != nil || !ok {
			return err
		}
	}
	return r.end(it)
}

// back is each from the last key below one down to another one.
func (r *Reader) back(from, below []byte, do func(key, value []byte) (bool, error)) error {
	if r.s == nil {
		return nil
	}
	it, err := r.begin()
	if err != nil {
		return err
	}
	defer r.release()
	for ok := it.SeekLT(below); ok && bytes.Compare(it.Key(), from) >= 0; ok = it.Prev() {
		if err := r.hand(it, do, &ok); err != nil || !ok {
			return err
		}
	}
	return r.end(it)
}

func (r *Reader) release() { r.depth-- }

func (r *Reader) hand(it *pebble.Iterator, do func(key, value []byte) (bool, error), more *bool) error {
	value, err := it.ValueAndErr()
	if err != nil {
		return r.s.fault("read", err)
	}
	*more, err = do(it.Key(), value)
	if errors.Is(err, errValue) {
		return r.s.fault("read", fmt.Errorf("%w at key %x", err, it.Key()))
	}
	return err
}

func (r *Reader) end(it *pebble.Iterator) error {
	if err := it.Error(); err != nil {
		return r.s.fault("read", err)
	}
	return nil
}

// get reads one key; the value is good until the next read. Filters say at once of most keys that they are not there, which
// Pebble's own Get does not ask on the last level.
func (r *Reader) get(key []byte) (value []byte, ok bool, err error) {
	if r.s == nil {
		return nil, false, nil
	}
	it, err := r.begin()
	if err != nil {
		return nil, false, err
	}
	defer r.release()
	if !it.SeekPrefixGE(key) || !bytes.Equal(it.Key(), key) {
		return nil, false, r.end(it)
	}
	if value, err = it.ValueAndErr(); err != nil {
		return nil, false, r.s.fault("read", err)
	}
	return value, true, nil
}
