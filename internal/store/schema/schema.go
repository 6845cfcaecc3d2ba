// Package schema says which migrations a database has, and takes it to another one, for every driver that keeps its tables by
// goose.
package schema

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/tallystick/tallystick/internal/store"
)

// Migration is one step of a schema.
type Migration struct {
	Version    int64     `json:"version"`
	Name       string    `json:"name"` // of its file
	Applied    bool      `json:"applied"`
	AppliedAt  time.Time `json:"applied_at,omitzero"` // by the database's clock
	Reversible bool      `json:"reversible"`          // it says how it is undone, and something is left then
}

// Schema is an open database with the migrations that this program knows.
type Schema struct {
	provider *goose.Provider
	files    fs.FS
}

// New reads the migrations of a folder. The database stays the caller's.
func New(dialect goose.Dialect, db *sql.DB, files fs.FS, options ...goose.ProviderOption) (*Schema, error) {
	p, err := goose.NewProvider(dialect, db, files, append([]goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return &Schema{p, files}, nil
}

// Status lists all migrations in order. store.ErrNewer: the database has one that this program does not know.
func (s *Schema) Status(ctx context.Context) ([]Migration, error) {
	current, known, err := s.provider.GetVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the schema version: %w", err)
	}
	if current > known {
		return nil, fmt.Errorf("%w: schema version %d, this program knows up to %d", store.ErrNewer, current, known)
	}
	list, err := s.provider.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	all := make([]Migration, 0, len(list))
	for _, one := range list {
		m := Migration{Version: one.Source.Version, Name: path.Base(one.Source.Path), Applied: one.State == goose.StateApplied}
		if m.Applied {
			m.AppliedAt = one.AppliedAt.UTC()
		}
		text, err := fs.ReadFile(s.files, m.Name)
		if err != nil {
			return nil, err
		}
		m.Reversible = len(all) > 0 && bytes.Contains(text, []byte("-- +goose Down"))
		all = append(all, m)
	}
	return all, nil
}

// Up applies what is pending, each migration in a transaction of its own, and returns how many.
func (s *Schema) Up(ctx context.Context) (int, error) {
	if _, err := s.Status(ctx); err != nil {
		return 0, err
	}
	done, err := s.provider.Up(ctx)
	if err != nil {
		return len(done), fmt.Errorf("migrate up: %w", err)
	}
	return len(done), nil
}

// ErrOneWay says that a migration does not say how it is undone.
var ErrOneWay = errors.New("there is no way back")

// Down undoes the migrations above a version, newest first, and returns how many. What they added is lost. ErrOneWay: nothing
// was done.
func (s *Schema) Down(ctx context.Context, to int64) (int, error) {
	all, err := s.Status(ctx)
	if err != nil {
		return 0, err
	}
	if to < 1 || to > all[len(all)-1].Version {
		return 0, fmt.Errorf("%w: there is no schema version %d", store.ErrInvalid, to)
	}
	for _, m := range all {
		if m.Version > to && m.Applied && !m.Reversible {
			return 0, fmt.Errorf("%w: %s does not say how it is undone; restore a backup of before instead", ErrOneWay, m.Name)
		}
	}
	done, err := s.provider.DownTo(ctx, to)
	if err != nil {
		return len(done), fmt.Errorf("migrate down: %w", err)
	}
	return len(done), nil
}
