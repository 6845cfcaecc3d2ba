package authority_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/authority/authoritytest"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	authoritytest.Run(t, func(t *testing.T, w *authoritytest.World) authoritytest.Dial {
		t.Helper()
		ctx, dir := context.Background(), t.TempDir()
		records, err := sqlite.Scratch(ctx, filepath.Join(dir, "records.db"))
		if err != nil {
			t.Fatal(err)
		}
		journal, err := file.Open(file.Config{Dir: filepath.Join(dir, "journal")})
		if err != nil {
			t.Fatal(err)
		}
		if err := journal.Cut(ctx, authoritytest.CustomerID, authoritytest.Start()); err != nil {
			t.Fatal(err)
		}
		s, err := authority.New(authority.Config{
			Directory: w, Leases: records, Journal: journal, Now: w.Now, Mono: w.Mono, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Tick(ctx); err != nil {
				t.Error(err)
			}
			_ = records.Close()
			_ = journal.Close()
		})
		return func(number uint16, h authority.Holder) authority.Authority {
			s.Register(number, h)
			return s
		}
	})
}
