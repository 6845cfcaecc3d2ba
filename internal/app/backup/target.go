package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	chunkBytes = 256 << 10 // what a file that is changed in place is cut into
	partsMax   = 64        // of a file that grows; then it is stored in one again
)

// Run is one backup at work. It holds the target's lock.
type Run struct {
	dir      string
	lock     *os.File
	last     *Manifest // the backup before; nil: none
	manifest Manifest
	touched  map[string]bool // folders to sync before publishing
	files    int             // temporary files made
	// Written counts the bytes of objects that were not there yet.
	Written int64
}

// Begin opens or makes a target for one more backup. What earlier crashed ones left is removed.
func Begin(dir string, at time.Time, version string) (*Run, error) {
	if err := prepare(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the target's lock: %w", err)
	}
	r := &Run{dir: dir, lock: lock, touched: map[string]bool{}}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another backup is being written to %s; wait for its end", dir), lock.Close())
	}
	if err := r.begin(at, version); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return r, nil
}

// prepare makes the folders. One that holds anything else is left alone.
func prepare(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the target: %w", err)
	}
	foreign := slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return !slices.Contains([]string{objectsDir, manifestsDir, temporaryDir, lockName, formatName, formatName + ".tmp"}, e.Name())
	})
	if err := owned(dir); err != nil && (foreign || !errors.Is(err, os.ErrNotExist)) {
		return fmt.Errorf("%s holds something else than backups; name an empty or a new folder with --to", dir)
	} else if err == nil {
		return nil
	}
	for _, sub := range []string{objectsDir, manifestsDir, temporaryDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("make the target: %w", err)
		}
	}
	return replace(filepath.Join(dir, formatName), []byte(formatText))
}

func (r *Run) begin(at time.Time, version string) error {
	tmp := filepath.Join(r.dir, temporaryDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	names, err := List(r.dir)
	if err != nil {
		return err
	}
	at = at.UTC().Truncate(time.Microsecond)
	r.manifest = Manifest{Format: Format, Name: at.Format(nameLayout), Time: at, Version: version}
	if len(names) == 0 {
		return nil
	}
	if newest := names[len(names)-1]; newest >= r.manifest.Name {
		return fmt.Errorf("the newest backup of %s is %s, which is not before now: check the machine's clock", r.dir, newest)
	}
	// A damaged one is no base to go on from: all is read and compared by digest.
	if r.last, err = Load(r.dir, ""); err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	return nil
}

// Last is the backup before this one; nil: none, or it is damaged.
func (r *Run) Last() *Manifest { return r.last }

// Close gives the target up. A run that was not published leaves objects only.
func (r *Run) Close() error { return r.lock.Close() }

// Temporary is a path in the target for a file that is needed during the run.
func (r *Run) Temporary(name string) string { return filepath.Join(r.dir, temporaryDir, name) }

// Known takes a file over from the backup before, unread, where it has the same size and time of change. That is for files that
// are only ever replaced by a rename.
func (r *Run) Known(path string, size, modified int64) bool {
	f, ok := r.last.file(path)
	if !ok || f.Size != size || f.Modified != modified || modified == 0 {
		return false
	}
	for _, p := range f.Parts {
		if !r.has(p) {
			return false
		}
	}
	r.manifest.Files = append(r.manifest.Files, f)
	return true
}

// Whole stores a file as one object. modified is for Known; 0: it is always read.
func (r *Run) Whole(ctx context.Context, path string, in io.Reader, modified int64) error {
	p, err := r.object(ctx, in)
	if err != nil {
		return fmt.Errorf("back up %s: %w", path, err)
	}
	r.manifest.Files = append(r.manifest.Files, File{Path: path, Size: p.Size, SHA256: p.SHA256, Parts: []Part{p}, Modified: modified})
	return nil
}

// Growing stores a file that is only appended to: what the backup before had is compared, and what follows is one more object.
func (r *Run) Growing(ctx context.Context, path string, in io.ReadSeeker) error {
	whole := sha256.New()
	f := File{Path: path}
	if before, ok := r.last.file(path); ok && len(before.Parts) < partsMax {
		if same, err := r.same(before, io.TeeReader(in, whole)); err != nil {
			return fmt.Errorf("back up %s: %w", path, err)
		} else if same {
			f.Parts, f.Size = slices.Clone(before.Parts), before.Size
		}
	}
	if f.Parts == nil {
		if _, err := in.Seek(0, io.SeekStart); err != nil {
			return err
		}
		whole.Reset()
	}
	p, err := r.object(ctx, io.TeeReader(in, whole))
	if err != nil {
		return fmt.Errorf("back up %s: %w", path, err)
	}
	if p.Size > 0 || len(f.Parts) == 0 {
		f.Parts, f.Size = append(f.Parts, p), f.Size+p.Size
	}
	f.SHA256 = sum(whole)
	r.manifest.Files = append(r.manifest.Files, f)
	return nil
}

// same reads as far as the file before went, and says whether it is still that.
func (r *Run) same(before File, in io.Reader) (bool, error) {
	for _, p := range before.Parts {
		h := sha256.New()
		n, err := io.CopyN(h, in, p.Size)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if n != p.Size || sum(h) != p.SHA256 || !r.has(p) {
			return false, nil
		}
	}
	return true, nil
}

// Chunks stores a file that is changed in place, so that the next backup stores its changed chunks only.
func (r *Run) Chunks(ctx context.Context, path string, in io.Reader) error {
	f := File{Path: path}
	whole := sha256.New()
	buf := make([]byte, chunkBytes)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			p, err := r.chunk(buf[:n])
			if err != nil {
				return fmt.Errorf("back up %s: %w", path, err)
			}
			_, _ = whole.Write(buf[:n]) // a hash takes all
			f.Parts, f.Size = append(f.Parts, p), f.Size+p.Size
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("back up %s: %w", path, err)
		}
	}
	f.SHA256 = sum(whole)
	r.manifest.Files = append(r.manifest.Files, f)
	return nil
}

func (r *Run) chunk(b []byte) (Part, error) {
	p := Part{SHA256: digest(b), Size: int64(len(b))}
	if r.has(p) {
		return p, nil
	}
	tmp, err := r.temporary()
	if err != nil {
		return p, err
	}
	_, err = tmp.Write(b)
	return p, errors.Join(err, r.keep(tmp, p, err != nil))
}

// object stores what is left of a stream.
func (r *Run) object(ctx context.Context, in io.Reader) (Part, error) {
	tmp, err := r.temporary()
	if err != nil {
		return Part{}, err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h), reader{ctx, in})
	p := Part{SHA256: sum(h), Size: n}
	return p, errors.Join(err, r.keep(tmp, p, err != nil || n == 0 || r.has(p)))
}

// reader ends with its context.
type reader struct {
	ctx context.Context //nolint:containedctx // io.Copy knows none
	in  io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(b)
}

func (r *Run) temporary() (*os.File, error) {
	r.files++
	return os.OpenFile(r.Temporary(fmt.Sprintf("object-%d", r.files)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// keep syncs a temporary file and gives it its name, or drops it.
func (r *Run) keep(tmp *os.File, p Part, drop bool) error {
	if drop {
		return errors.Join(tmp.Close(), os.Remove(tmp.Name()))
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	path := objectPath(r.dir, p.SHA256)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	r.touched[filepath.Dir(path)] = true
	r.Written += p.Size
	return os.Rename(tmp.Name(), path)
}

// has says whether an object is there, by its name and size. Its content was synced before it got the name; that it is still
// the same, Verify looks.
func (r *Run) has(p Part) bool {
	if p.Size == 0 {
		return true
	}
	st, err := os.Stat(objectPath(r.dir, p.SHA256))
	return err == nil && st.Size() == p.Size
}

// Publish makes the backup one: from now on it is the newest. Facts of the manifest beside its files come from the caller.
func (r *Run) Publish(facts Manifest) (*Manifest, error) {
	m := facts
	m.Format, m.Name, m.Time, m.Version, m.Files = r.manifest.Format, r.manifest.Name, r.manifest.Time, r.manifest.Version, r.manifest.Files
	for dir := range r.touched {
		if err := syncDir(dir); err != nil {
			return nil, err
		}
	}
	if err := syncDir(filepath.Join(r.dir, objectsDir)); err != nil {
		return nil, err
	}
	b, err := encode(&m)
	if err != nil {
		return nil, err
	}
	return &m, replace(filepath.Join(r.dir, manifestsDir, m.Name+suffix), b)
}

// replace writes a file so that after a crash either the old or the new content is there.
func replace(path string, data []byte) error {
	tmp, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
