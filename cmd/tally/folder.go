package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// folderVersion is the layout of the data folder; a newer one is refused. secretBytes is the length of each secret.
const (
	folderVersion = 1
	secretBytes   = 32
)

// folder is the data folder: VERSION LOCK client.json secrets/ records.db jobs.db journal/ spool/ clock.json.
type folder struct {
	dir     string
	secrets string // where the deployment's secrets are
	lock    *os.File
}

// openFolder makes or opens a data folder for one process alone.
func openFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(filepath.Join(dir, "secrets"), 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	f := &folder{dir: dir, secrets: filepath.Join(dir, "secrets"), lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		return nil, fmt.Errorf("data folder %s is in use by another tally process; stop it or choose another --dir", dir)
	}
	if err := f.checkVersion(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *folder) checkVersion() error {
	path := f.path("VERSION")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return writeDurable(path, []byte(strconv.Itoa(folderVersion)+"\n"))
	}
	if err != nil {
		return err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("%s does not hold a version number", path)
	}
	if v > folderVersion {
		return fmt.Errorf("data folder %s has version %d, this binary knows %d: use a newer tally", f.dir, v, folderVersion)
	}
	return nil
}

func (f *folder) path(elem ...string) string {
	return filepath.Join(append([]string{f.dir}, elem...)...)
}

// close gives the lock up; the kernel does it too when the process ends.
func (f *folder) close() error { return f.lock.Close() }

// remove deletes what a data folder holds, and the folder itself when nothing else is in it.
func (f *folder) remove() error {
	for _, name := range []string{"client.json", "clock.json", "records.db", "records.db-wal", "records.db-shm", "jobs.db", "jobs.db-wal", "jobs.db-shm", "journal", "spool", "secrets", "VERSION", "LOCK"} {
		if err := os.RemoveAll(f.path(name)); err != nil {
			return err
		}
	}
	if left, err := os.ReadDir(f.dir); err != nil || len(left) > 0 {
		return err // what is not ours stays
	}
	return os.Remove(f.dir)
}

// useSecrets takes the deployment's secrets from another folder; empty: from the data folder.
func (f *folder) useSecrets(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("--secrets: %w", err)
	}
	f.secrets = dir
	return nil
}

func (f *folder) secretPath(name string) string { return filepath.Join(f.secrets, name) }

// secret reads one of the deployment's secrets, made on first use: 32 random bytes as base64.
func (f *folder) secret(name string) ([]byte, error) { return readSecret(f.secretPath(name)) }

// own reads a secret of this folder alone.
func (f *folder) own(name string) ([]byte, error) { return readSecret(f.path("secrets", name)) }

func readSecret(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		raw := make([]byte, secretBytes)
		if _, err := rand.Read(raw); err != nil {
			return nil, err
		}
		b, err = writeFirst(path, []byte(base64.StdEncoding.EncodeToString(raw)+"\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(raw) != secretBytes {
		return nil, fmt.Errorf("secret %s is damaged: restore it from a backup", path)
	}
	return raw, nil
}

// keyring reads secrets/decision.key, made on first use.
func (f *folder) keyring() (*receipt.Keyring, error) {
	path := f.secretPath("decision.key")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		raw := make([]byte, secretBytes)
		if _, err := rand.Read(raw); err != nil {
			return nil, err
		}
		b, err = writeFirst(path, receipt.NewKeyringFile(raw))
	}
	if err != nil {
		return nil, fmt.Errorf("decision key: %w", err)
	}
	ring, err := receipt.ParseKeyring(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ring, nil
}

// clockState is clock.json.
func (f *folder) clockState() (clock.State, error) {
	var st clock.State
	b, err := os.ReadFile(f.path("clock.json"))
	if errors.Is(err, os.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return st, fmt.Errorf("clock.json is damaged: restore it from a backup: %w", err)
	}
	return st, nil
}

func (f *folder) saveClock(st clock.State) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return writeDurable(f.path("clock.json"), append(b, '\n'))
}

// saveEndpoint writes client.json.
func (f *folder) saveEndpoint(e cli.Endpoint) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return writeDurable(f.path("client.json"), append(b, '\n'))
}

// writeDurable replaces a file, for its owner alone, so that after a crash either the old or the new content is there.
func writeDurable(path string, data []byte) error {
	tmp, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := fill(tmp, data); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncFolder(path)
}

// writeFirst makes a file that is not there, whole from its first moment on, and returns its content. Where another process was
// first, that is what the other one wrote.
func writeFirst(path string, data []byte) ([]byte, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it has another name by then, or is worth nothing
	if err := fill(tmp, data); err != nil {
		return nil, err
	}
	err = os.Link(tmp.Name(), path)
	if errors.Is(err, os.ErrExist) {
		return os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	return data, syncFolder(path)
}

func fill(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncFolder makes the name of a file durable.
func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// bootID names this boot of the machine, so that a restart knows whether the page cache survived. Empty: not known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func realNow() time.Time { return time.Now() }
