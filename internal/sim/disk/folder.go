package disk

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Folder is a folder of preallocated files, as a spool keeps it, with a memory of what is durable of them: their content as of
// the last Synced. Names and the first Head bytes of a file are durable from its creation on.
type Folder struct {
	Dir  string
	Head int // bytes that are durable when a file appears
	dice *rand.Rand
	was  map[string][]byte
}

// NewFolder watches a folder.
func NewFolder(dir string, head int, dice *rand.Rand) *Folder {
	return &Folder{Dir: dir, Head: head, dice: dice, was: map[string][]byte{}}
}

// Synced takes all that is there as durable.
func (f *Folder) Synced() error {
	now, err := f.read()
	if err == nil {
		f.was = now
	}
	return err
}

func (f *Folder) read() (map[string][]byte, error) {
	list, err := os.ReadDir(f.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string][]byte{}, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for _, e := range list {
		if all[e.Name()], err = os.ReadFile(filepath.Join(f.Dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// PowerCut leaves what was durable, and of the rest what the dice say; torn counts lost sectors. Nobody has the files open.
func (f *Folder) PowerCut() (torn int, err error) {
	now, err := f.read()
	if err != nil {
		return 0, err
	}
	keep := f.dice.IntN(101)
	for _, name := range slices.Sorted(maps.Keys(now)) {
		was, known := f.was[name]
		if !known {
			was = make([]byte, len(now[name]))
			copy(was, now[name][:min(f.Head, len(now[name]))])
		}
		left, n := Mix(f.dice, was, now[name], keep)
		torn += n
		if err := os.WriteFile(filepath.Join(f.Dir, name), left, 0o600); err != nil {
			return torn, err
		}
	}
	return torn, f.Synced()
}
