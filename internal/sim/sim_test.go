package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// TestKept: seeds that found something once.
func TestKept(t *testing.T) {
	text, err := os.ReadFile("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cfg := Config{Dir: filepath.Join(t.TempDir(), "world")}
		if _, err := fmt.Sscan(line, &cfg.Seed, &cfg.Steps); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, err := Run(context.Background(), cfg); err != nil {
			t.Error(err)
		}
		ran++
	}
	if ran == 0 {
		t.Error("no seed is kept")
	}
}

// TestBreaksAreFound: the audit sees each planted fault within a few seeds.
func TestBreaksAreFound(t *testing.T) {
	for _, b := range Breaks() {
		t.Run(string(b), func(t *testing.T) {
			for s := uint64(1); s <= 20; s++ {
				_, err := Run(context.Background(), Config{Seed: s, Steps: 400, Dir: filepath.Join(t.TempDir(), "world"), Break: b})
				if f, ok := errors.AsType[*Failure](err); ok {
					t.Logf("found by %v", f)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Error("nobody saw it in 20 worlds")
		})
	}
}
