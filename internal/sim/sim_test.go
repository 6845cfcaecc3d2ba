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
