package kafka

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// tight is a real disk that can be full.
type tight struct {
	file.OS
	full    atomic.Bool
	refused chan struct{} // has room for one
}

func (d *tight) Open(name string, create bool) (file.File, error) {
	f, err := d.OS.Open(name, create)
	return &tightFile{f, d}, err
}

type tightFile struct {
	file.File
	disk *tight
}

func (f *tightFile) WriteAt(p []byte, at int64) (int, error) {
	if f.disk.full.Load() {
		select {
		case f.disk.refused <- struct{}{}:
		default:
		}
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(p, at)
}

// TestFullDisk: a server whose disk is full waits, leaves nothing out, and never says that it has applied what it has not: killed
// then, it applies the rest. With room it goes on by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	disk := &tight{refused: make(chan struct{}, 1)}
	cfg := config(c, "full", t.TempDir())
	cfg.File.FS = disk
	a, b := open(t, cfg), open(t, config(c, "full", t.TempDir()))
	if _, err := a.Append(t.Context(), batch(entry("a", 0, "1"))); err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true)
	for _, id := range []string{"b", "c"} {
		if _, err := b.Append(t.Context(), batch(entry(id, 0, "1"))); err != nil {
			t.Fatal(err)
		}
	}
	want := pictureOf(t, b)
	<-disk.refused
	<-disk.refused // it tries again
	if err := a.keep(); err != nil {
		t.Fatal(err)
	}
	var at place
	text, err := os.ReadFile(filepath.Join(cfg.File.Dir, placeName))
	if err == nil {
		err = json.Unmarshal(text, &at)
	}
	if s := a.Replica(); err != nil || at.Next != 1 || s.Applied != 1 || s.Failed {
		t.Errorf("while the disk is full: %+v, %+v, %v", at, s, err)
	}
	killed := config(c, "full", t.TempDir())
	if err := os.CopyFS(killed.File.Dir, os.DirFS(cfg.File.Dir)); err != nil {
		t.Fatal(err)
	}
	k := open(t, killed)
	same(t, "killed while the disk was full", want, pictureOf(t, k))
	disk.full.Store(false)
	same(t, "with room again", want, pictureOf(t, a))
	for _, j := range []store.Keeper{a, b, k} {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}
