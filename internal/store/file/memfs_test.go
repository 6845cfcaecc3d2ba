package file

import (
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// memFS is a disk in memory, for one goroutine.
type memFS map[string]*memFile

func (memFS) IndexDisk() vfs.FS     { return vfs.NewMem() }
func (memFS) MkdirAll(string) error { return nil }
func (memFS) SyncDir(string) error  { return nil }

func (fs memFS) List(string) ([]string, error) {
	var names []string
	for name := range fs {
		names = append(names, filepath.Base(name))
	}
	return names, nil
}

func (fs memFS) Open(name string, create bool) (File, error) {
	if fs[name] == nil {
		if !create {
			return nil, os.ErrNotExist
		}
		fs[name] = &memFile{}
	}
	return fs[name], nil
}

type memFile struct{ b []byte }

func (f *memFile) ReadAt(p []byte, at int64) (int, error) {
	if at >= int64(len(f.b)) {
		return 0, io.EOF
	}
	n := copy(p, f.b[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, at int64) (int, error) {
	if grow := int(at) + len(p) - len(f.b); grow > 0 {
		f.b = append(f.b, make([]byte, grow)...)
	}
	return copy(f.b[at:], p), nil
}

func (f *memFile) Truncate(size int64) error { f.b = f.b[:size]; return nil }
func (f *memFile) Sync() error               { return nil }
func (f *memFile) Size() (int64, error)      { return int64(len(f.b)), nil }
func (f *memFile) Close() error              { return nil }
