package sim

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var (
	seed  = flag.Uint64("seed", 1, "first seed")
	seeds = flag.Uint64("seeds", 3, "how many")
	steps = flag.Int("steps", 400, "steps of each")
	rates = flag.Bool("rates", true, "customers with rate limits, too")
)

func TestWorlds(t *testing.T) {
	for s := *seed; s < *seed+*seeds; s++ {
		cfg := Config{Seed: s, Steps: *steps, Rates: *rates, Dir: filepath.Join(t.TempDir(), "world")}
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
	list, err := ParseKept(string(text))
	if err != nil || len(list) == 0 {
		t.Fatalf("%d seeds, %v", len(list), err)
	}
	for _, k := range list {
		if _, err := Run(context.Background(), Config{Seed: k.Seed, Steps: k.Steps, Rates: k.Rates, Dir: filepath.Join(t.TempDir(), "world")}); err != nil {
			t.Error(err)
		}
	}
}

// TestEveryFaultFires: a few worlds have each of the faults in them, and each does something.
func TestEveryFaultFires(t *testing.T) {
	fired := map[string]int{}
	for s := uint64(1); s <= 10; s++ {
		r, err := Run(context.Background(), Config{Seed: s, Steps: 400, Dir: filepath.Join(t.TempDir(), "world")})
		if err != nil {
			t.Error(err)
		}
		for kind, n := range r.Fired {
			fired[kind] += n
		}
	}
	t.Log(fired)
	for _, kind := range Faults() {
		if fired[kind] == 0 {
			t.Errorf("no %s in 10 worlds", kind)
		}
		delete(fired, kind)
	}
	if len(fired) > 0 {
		t.Errorf("faults that nobody lists: %v", fired)
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
