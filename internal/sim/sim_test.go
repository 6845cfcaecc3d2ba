package sim

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var (
	seed  = flag.Uint64("seed", 1, "first seed")
	seeds = flag.Uint64("seeds", 3, "how many")
	steps = flag.Int("steps", 400, "steps of each")
)

func TestWorlds(t *testing.T) {
	for s := *seed; s < *seed+*seeds; s++ {
		cfg := Config{Seed: s, Steps: *steps, Dir: filepath.Join(t.TempDir(), "world")}
		if testing.Verbose() && *seeds == 1 {
			cfg.Trace = os.Stdout
		}
		r, err := Run(context.Background(), cfg)
		t.Logf("%+v", r)
		if err != nil {
			t.Error(err)
		}
	}
}

// TestSameSeedSameCourse: the same seed twice is the same trace.
func TestSameSeedSameCourse(t *testing.T) {
	run := func() string {
		r, err := Run(context.Background(), Config{Seed: *seed, Steps: *steps, Dir: filepath.Join(t.TempDir(), "world")})
		t.Log(err)
		return r.Hash
	}
	if a, b := run(), run(); a != b {
		t.Errorf("two traces of seed %d: %s and %s", *seed, a, b)
	}
}
