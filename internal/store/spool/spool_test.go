package spool

import (
	"testing"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/storetest"
)

func tiny(dir string) Config {
	return Config{Dir: dir, SegmentBytes: MinSegmentBytes, MaxBytes: 8 * MinSegmentBytes}
}

func mustOpen(t testing.TB, cfg Config) *Spool {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"tiny": {SegmentBytes: MinSegmentBytes, MaxBytes: 12 * MinSegmentBytes},
		"odd":  {SegmentBytes: MinSegmentBytes + 777, MaxBytes: 9 * (MinSegmentBytes + 777)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Spool(t, func(t *testing.T, dir string) store.Spool {
				cfg := cfg
				cfg.Dir = dir
				return mustOpen(t, cfg)
			})
		})
	}
}
