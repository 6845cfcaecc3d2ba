// Package backup keeps copies of a data folder in another folder, the target, in which equal bytes are stored once.
//
// A target has objects, named by the SHA-256 of their content, and manifests, each of which says of which objects the files of
// one backup are made. A backup writes the objects that are not there yet, syncs them, and then publishes its manifest by a
// rename. So what a crash leaves are objects that nothing names, never half a backup. What is copied in which order, and what
// it means, the caller knows.
package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrDamaged says that a target does not hold what it held.
var ErrDamaged = errors.New("the backup is damaged")

// Format is the version of manifests; a newer one is refused.
const Format = 1

// Part is a run of bytes of a file, and the object that holds it.
type Part struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// File is one file of a backup. Its path is below the data folder, with slashes.
type File struct {
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	SHA256   string `json:"sha256"`
	Parts    []Part `json:"parts"`
	Modified int64  `json:"modified,omitempty"` // nanoseconds since 1970, of a file that is only ever replaced
}

// Checkpoint is the newest signed one among the records.
type Checkpoint struct {
	Size uint64 `json:"size"`
	Root string `json:"root"`
	Note string `json:"note"`
}

// Manifest is one backup.
type Manifest struct {
	Format     int         `json:"format"`
	Name       string      `json:"name"` // of the backup, by the time at which it began
	Time       time.Time   `json:"time"`
	Version    string      `json:"version"`    // of the program
	Deployment string      `json:"deployment"` // its id; empty: it was never served
	Schema     int64       `json:"schema"`     // of the records
	Position   uint64      `json:"position"`   // of the journal's last record
	Events     int64       `json:"events"`
	Running    bool        `json:"running"` // a server had the folder open
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	Files      []File      `json:"files"`
}

// Bytes is the size of all files together.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// file finds one by its path.
func (m *Manifest) file(path string) (File, bool) {
	if m == nil {
		return File{}, false
	}
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Path == path })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

// sealed is a manifest as it is stored: the digest is of the manifest's own bytes.
type sealed struct {
	SHA256   string          `json:"sha256"`
	Manifest json.RawMessage `json:"manifest"`
}

func encode(m *Manifest) ([]byte, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(sealed{SHA256: digest(raw), Manifest: raw})
	return append(b, '\n'), err
}

func decode(b []byte) (*Manifest, error) {
	var s sealed
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if digest(s.Manifest) != s.SHA256 {
		return nil, fmt.Errorf("%w: the manifest's digest does not match", ErrDamaged)
	}
	var m Manifest
	if err := json.Unmarshal(s.Manifest, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if m.Format > Format {
		return nil, fmt.Errorf("the backup has format %d, this program knows %d: use a newer tally", m.Format, Format)
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return nil, fmt.Errorf("%w: %q lies outside of the folder", ErrDamaged, f.Path)
		}
		for _, p := range f.Parts {
			if b, err := hex.DecodeString(p.SHA256); err != nil || len(b) != sha256.Size || p.Size < 0 {
				return nil, fmt.Errorf("%w: a part of %s has no digest", ErrDamaged, f.Path)
			}
		}
	}
	return &m, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Names of a target's parts.
const (
	objectsDir   = "objects"
	manifestsDir = "backups"
	temporaryDir = "tmp"
	lockName     = "LOCK"
	formatName   = "FORMAT"
	formatText   = "tally backup 1\n"
	suffix       = ".json"
)

// nameLayout sorts by time.
const nameLayout = "20060102T150405.000000Z"

// List names the backups of a target, oldest first.
func List(dir string) ([]string, error) {
	if err := owned(dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, manifestsDir))
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Load reads a manifest; an empty name: the newest one. ErrDamaged.
func Load(dir, name string) (*Manifest, error) {
	names, err := List(dir)
	if err != nil {
		return nil, err
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("%s has no finished backup", dir)
	case name == "":
		name = names[len(names)-1]
	case !slices.Contains(names, name):
		return nil, fmt.Errorf("%s has no backup %q; it has %s", dir, name, strings.Join(names, ", "))
	}
	path := filepath.Join(dir, manifestsDir, name+suffix)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	m, err := decode(b)
	if err == nil && m.Name != name {
		err = fmt.Errorf("%w: it is the manifest of %s", ErrDamaged, m.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; older backups of the target may be whole: name one with --backup", path, err)
	}
	return m, nil
}

// owned says whether a folder is a target.
func owned(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, formatName))
	if err != nil {
		return fmt.Errorf("%s holds no backups: %w", dir, err)
	}
	if !bytes.Equal(b, []byte(formatText)) {
		return fmt.Errorf("%s was written by another program, or a newer tally", filepath.Join(dir, formatName))
	}
	return nil
}

func objectPath(dir, sum string) string { return filepath.Join(dir, objectsDir, sum[:2], sum[2:]) }
