package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Verify reads a backup's objects and compares every digest. ErrDamaged names the file and the object.
func Verify(ctx context.Context, dir string, m *Manifest) error {
	for _, f := range m.Files {
		if err := writeFile(ctx, dir, f, io.Discard); err != nil {
			return err
		}
	}
	return nil
}

// Restore writes a backup's files into a new folder, which must not be there, and syncs them. Every digest is compared.
// ErrDamaged; then what was written stays where it is.
func Restore(ctx context.Context, dir string, m *Manifest, into string) error {
	if err := os.Mkdir(into, 0o700); err != nil {
		return fmt.Errorf("make the folder to restore to: %w", err)
	}
	made := map[string]bool{into: true}
	for _, f := range m.Files {
		path := filepath.Join(into, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		for d := filepath.Dir(path); d != into; d = filepath.Dir(d) {
			made[d] = true
		}
		if err := restoreFile(ctx, dir, f, path); err != nil {
			return err
		}
	}
	for d := range made {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(into))
}

func restoreFile(ctx context.Context, dir string, f File, path string) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = writeFile(ctx, dir, f, out)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// writeFile puts a file together and compares its digests.
func writeFile(ctx context.Context, dir string, f File, out io.Writer) error {
	whole := sha256.New()
	for _, p := range f.Parts {
		if p.Size == 0 {
			continue
		}
		if err := writePart(ctx, objectPath(dir, p.SHA256), p, io.MultiWriter(out, whole)); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if sum(whole) != f.SHA256 {
		return fmt.Errorf("%s: %w: the digest of the whole does not match", f.Path, ErrDamaged)
	}
	return nil
}

func writePart(ctx context.Context, path string, p Part, out io.Writer) (err error) {
	in, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing", ErrDamaged, path)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), reader{ctx, in})
	if err != nil {
		return err
	}
	if n != p.Size || sum(h) != p.SHA256 {
		return fmt.Errorf("%w: %s does not match its digest", ErrDamaged, path)
	}
	return nil
}

// Prune leaves the newest backups, at least one, and the objects that they name. It returns how many backups went. A backup that
// cannot be read ends it, since its objects are not known.
func (r *Run) Prune(keep int) (removed int, err error) {
	names, err := List(r.dir)
	if err != nil {
		return 0, err
	}
	old := names[:max(0, len(names)-max(1, keep))]
	named := map[string]bool{}
	for _, name := range names[len(old):] {
		m, err := Load(r.dir, name)
		if err != nil {
			return 0, err
		}
		for _, f := range m.Files {
			for _, p := range f.Parts {
				named[p.SHA256] = true
			}
		}
	}
	for _, name := range old {
		if err := os.Remove(filepath.Join(r.dir, manifestsDir, name+suffix)); err != nil {
			return removed, err
		}
		removed++
	}
	if err := syncDir(filepath.Join(r.dir, manifestsDir)); err != nil { // before the objects go
		return removed, err
	}
	return removed, r.sweep(named)
}

// sweep removes objects that no backup names.
func (r *Run) sweep(named map[string]bool) error {
	folders, err := os.ReadDir(filepath.Join(r.dir, objectsDir))
	if err != nil {
		return err
	}
	for _, d := range folders {
		objects, err := os.ReadDir(filepath.Join(r.dir, objectsDir, d.Name()))
		if err != nil {
			return err
		}
		for _, o := range objects {
			if !named[d.Name()+o.Name()] {
				if err := os.Remove(filepath.Join(r.dir, objectsDir, d.Name(), o.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Fresh says whether a folder can be restored to: it is not there, or empty.
func Fresh(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		names := make([]string, 0, len(entries))
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return fmt.Errorf("%s is not empty (%s): name a new folder with --dir", dir, strings.Join(names[:min(3, len(names))], ", "))
	}
	return nil
}

// Counted is how many files of a backup are below a folder.
func (m *Manifest) Counted(below string) int {
	return len(slices.DeleteFunc(slices.Clone(m.Files), func(f File) bool { return !strings.HasPrefix(f.Path, below+"/") }))
}
