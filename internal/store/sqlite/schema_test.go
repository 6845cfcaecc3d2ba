package sqlite_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/tallystick/tallystick/internal/store/schema"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

func TestSchemaGoesDownAndUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	r, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.PutSetting(t.Context(), "kept", "yes"); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	err = sqlite.Schema(t.Context(), path, func(s *schema.Schema) error {
		all, err := s.Status(t.Context())
		if err != nil {
			return err
		}
		newest := all[len(all)-1].Version
		if _, err := s.Down(t.Context(), 1); !errors.Is(err, schema.ErrOneWay) {
			t.Errorf("down over a migration without a way back: %v", err)
		}
		if n, err := s.Down(t.Context(), 9); err != nil || int64(n) != newest-9 {
			t.Errorf("%d migrations were undone (%v), want %d", n, err, newest-9)
		}
		if all, err = s.Status(t.Context()); err != nil {
			return err
		}
		for _, m := range all {
			if m.Applied != (m.Version <= 9) || m.Applied == m.AppliedAt.IsZero() {
				t.Errorf("after going down to 9: %+v", m)
			}
		}
		n, err := s.Up(t.Context())
		if int64(n) != newest-9 {
			t.Errorf("%d migrations were applied, want %d", n, newest-9)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = sqlite.Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if v, err := r.Setting(t.Context(), "kept"); err != nil || v != "yes" {
		t.Errorf("the setting is %q (%v)", v, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
