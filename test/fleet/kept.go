package fleet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
)

// passwordVariable is how PostgreSQL's own programs, and tally, are told the password of a kept cluster. An argument could be read
// by everybody on the machine.
const passwordVariable = "PGPASSWORD"

// OpenPostgres starts the cluster that is kept in a folder, and makes it first where there is none: durable, with a password that
// is in the folder and, from now on, in the environment of this process. What it writes goes to a file.
//
// PostgreSQL does not run as root. There it runs as user postgres, which cannot reach every folder: the data is below that user's
// home, and the folder has a link to it.
func OpenPostgres(ctx context.Context, dir, log string) (p *Postgres, err error) {
	p = &Postgres{kept: true}
	if p.bin, err = postgresPrograms(); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if p.owns, err = postgresUser(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if p.dir, err = dataOf(dir); err != nil {
		return nil, err
	}
	password, err := passwordIn(dir)
	if err != nil {
		return nil, err
	}
	if err := os.Setenv(passwordVariable, password); err != nil {
		return nil, err
	}
	if p.Addr, err = FreeAddr(); err != nil {
		return nil, err
	}
	if p.log, err = os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	if _, err := os.Stat(p.dir); errors.Is(err, fs.ErrNotExist) {
		err = p.initialize(ctx, password)
		if err != nil {
			return nil, err
		}
	}
	return p, p.begin(ctx)
}

// dataOf is where the data of a kept cluster is, or will be.
func dataOf(dir string) (string, error) {
	data := filepath.Join(dir, "data")
	if os.Geteuid() != 0 {
		return data, nil
	}
	at, err := os.Readlink(data)
	if !errors.Is(err, fs.ErrNotExist) {
		return at, err
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return "", fmt.Errorf("PostgreSQL does not run as root and needs its user: %w", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(abs))
	at = filepath.Join(u.HomeDir, "tally-"+hex.EncodeToString(sum[:6]))
	if err := os.RemoveAll(at); err != nil { // of a folder of this name that was deleted
		return "", err
	}
	return at, os.Symlink(at, data)
}

// passwordIn reads the password in the folder, made at first.
func passwordIn(dir string) (string, error) {
	path := filepath.Join(dir, "password")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = []byte(rand.Text() + "\n")
		err = os.WriteFile(path, b, 0o600)
	}
	return strings.TrimSpace(string(b)), err
}

// initialize makes the data. It gets its name when it is whole.
func (p *Postgres) initialize(ctx context.Context, password string) (err error) {
	part := p.dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.Mkdir(part, 0o700); err != nil {
		return fmt.Errorf("PostgreSQL's data: %w", err)
	}
	secret := part + ".password"
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(secret)) }()
	if p.owns != nil {
		for _, path := range []string{part, secret} {
			if err := os.Lchown(path, int(p.owns.Uid), int(p.owns.Gid)); err != nil {
				return err
			}
		}
	}
	if err := p.tool(ctx, "initdb", "-D", part, "-U", "postgres", "-A", "scram-sha-256", "--pwfile="+secret, "-E", "UTF8", "--locale=C.UTF-8"); err != nil {
		return err
	}
	return os.Rename(part, p.dir)
}

// RemovePostgres deletes a kept cluster that does not run.
func RemovePostgres(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, "data")); err == nil {
		data, err := dataOf(dir)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
