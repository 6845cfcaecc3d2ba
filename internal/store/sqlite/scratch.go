package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
)

// blank is an empty file of records at the newest migration.
//
//nolint:gochecknoglobals // made once in a process
var blank struct {
	once sync.Once
	file []byte
	err  error
}

// Scratch is Open for tests and simulations, which make many files and lose nothing by a power cut: a file that is missing is
// copied from one that was migrated before in this process, and nothing is synced. Transactions and their rules are the same, and
// what was written outlives the process.
func Scratch(ctx context.Context, path string) (*Records, error) {
	_, err := os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if missing {
		if err := writeBlank(context.WithoutCancel(ctx), path); err != nil {
			return nil, err
		}
	}
	return open(ctx, path, unsynced, missing)
}

const unsynced = "synchronous(off)"

func writeBlank(ctx context.Context, path string) error {
	blank.once.Do(func() {
		model := path + ".model"
		r, err := open(ctx, model, unsynced, false)
		if err == nil {
			err = r.Close()
		}
		if err == nil {
			blank.file, err = os.ReadFile(model) //nolint:gosec // written just now
		}
		blank.err = errors.Join(err, os.Remove(model))
	})
	if blank.err != nil {
		return blank.err
	}
	return os.WriteFile(path, blank.file, 0o600)
}
