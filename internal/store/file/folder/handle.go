package folder

import (
	"sync"

	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Handle is a journal's open segment, raw or sealed. It can be swapped for the sealed form while others read: what was
// opened before is closed when the last of them has finished.
type Handle struct {
	mu  sync.Mutex
	now *shared
}

var _ segment.File = (*Handle)(nil)

// shared is an open file and how many use it.
type shared struct {
	file  segment.File
	users int
	gone  bool // replaced, to be closed by the last user
}

// NewHandle takes over an open segment, raw or an archive.Reader.
func NewHandle(f segment.File) *Handle { return &Handle{now: &shared{file: f}} }

// Use gives the file as it is now; it stays as it is until release is called. That is for reading front to back: after an
// erasure the offsets are others.
func (h *Handle) Use() (f segment.File, release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.now
	s.users++
	return s.file, func() { h.release(s) }
}

func (h *Handle) release(s *shared) {
	h.mu.Lock()
	s.users--
	last := s.gone && s.users == 0
	h.mu.Unlock()
	if last {
		_ = s.file.Close() // nothing was written through it
	}
}

// Swap puts a sealed segment in the file's place.
func (h *Handle) Swap(r *archive.Reader) error {
	h.mu.Lock()
	old := h.now
	h.now = &shared{file: r}
	old.gone = true
	idle := old.users == 0
	h.mu.Unlock()
	if idle {
		return old.file.Close()
	}
	return nil
}

// Sealed is the sealed segment; nil while it is raw.
func (h *Handle) Sealed() *archive.Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, _ := h.now.file.(*archive.Reader)
	return r
}

// Record reads a record by position; ok is false while the segment is raw. The result lies in buf or replaces it.
func (h *Handle) Record(position uint64, buf []byte) (rec []byte, ok bool, err error) {
	f, release := h.Use()
	defer release()
	r, sealed := f.(*archive.Reader)
	if !sealed {
		return nil, false, nil
	}
	rec, err = r.Record(position, buf)
	return rec, true, err
}

// ReadAt implements segment.File.
func (h *Handle) ReadAt(p []byte, at int64) (int, error) {
	f, release := h.Use()
	defer release()
	return f.ReadAt(p, at)
}

// WriteAt implements segment.File.
func (h *Handle) WriteAt(p []byte, at int64) (int, error) {
	f, release := h.Use()
	defer release()
	return f.WriteAt(p, at)
}

// Truncate implements segment.File.
func (h *Handle) Truncate(size int64) error {
	f, release := h.Use()
	defer release()
	return f.Truncate(size)
}

// Sync implements segment.File.
func (h *Handle) Sync() error {
	f, release := h.Use()
	defer release()
	return f.Sync()
}

// Size implements segment.File.
func (h *Handle) Size() (int64, error) {
	f, release := h.Use()
	defer release()
	return f.Size()
}

// Close implements segment.File; nobody may use the handle any more.
func (h *Handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now.file.Close()
}
