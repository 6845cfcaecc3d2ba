package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/sim"
)

// simCmd lets simulated worlds run; docs/simulator.md.
type simCmd struct {
	Seed     uint64        `help:"First seed. It decides all that happens." default:"1"`
	Seeds    uint64        `help:"How many seeds, one after another." default:"1"`
	Steps    int           `help:"Steps of each world." default:"400"`
	For      time.Duration `help:"Go on with further seeds for so long, instead of --seeds." placeholder:"DURATION"`
	Kept     string        `help:"Begin with the worlds that a file lists, a seed and steps a line." placeholder:"FILE"`
	Gateways int           `help:"Gateways of each world; 0: two to four, by the seed." default:"0"`
	Rates    bool          `help:"Have customers with a token bucket and a rolling limit too."`
	Break    string        `help:"Make a part misbehave, to see that it is found: one of those in docs/simulator.md." placeholder:"FAULT"`
	Trace    bool          `help:"Write what happens to stderr, a line each."`
}

// simulated is what the command prints.
type simulated struct {
	First     uint64         `json:"first_seed"`
	Worlds    int            `json:"worlds"` // that were run, the failed one too
	Steps     int            `json:"steps"`  // in all
	Simulated float64        `json:"simulated_seconds"`
	Checked   int64          `json:"comparisons"`
	Hash      string         `json:"last_hash"` // of the last world's trace
	Faults    map[string]int `json:"faults"`
	Failure   *simFailure    `json:"failure,omitempty"`
}

type simFailure struct {
	Seed  uint64 `json:"seed"`
	Step  int    `json:"step"`
	Error string `json:"error"`
}

// Run runs worlds until one fails. The error is the failure, which names seed and step.
func (c *simCmd) Run(e *cli.Env) error {
	if err := c.validate(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tally-sim-")
	if err != nil {
		return fmt.Errorf("a folder for the simulated disks: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // only what the worlds left in it
	out, failed := c.worlds(e.Ctx, dir, e.Stderr)
	if _, ok := errors.AsType[*sim.Failure](failed); failed != nil && !ok {
		return failed
	}
	if e.JSON {
		return errors.Join(cli.PrintJSON(e.Stdout, out), failed)
	}
	if failed != nil {
		return failed
	}
	faults := make([]string, 0, len(out.Faults))
	for _, kind := range sim.Faults() {
		faults = append(faults, fmt.Sprintf("%s %d", kind, out.Faults[kind]))
	}
	fmt.Fprintf(e.Stdout, "%d worlds, new ones from seed %d: no promise was broken\n  %d steps, %s simulated, %d comparisons, last trace %s\n  faults: %s\n",
		out.Worlds, out.First, out.Steps, time.Duration(out.Simulated*float64(time.Second)).Round(time.Minute), out.Checked, out.Hash, strings.Join(faults, ", "))
	return nil
}

func (c *simCmd) validate() error {
	if c.Steps < 1 || c.Seeds < 1 || c.For < 0 || c.Gateways < 0 || c.Gateways > 16 {
		return errors.New("--steps and --seeds must be at least 1, --for not negative, --gateways 0 to 16")
	}
	if c.Break == "" {
		return nil
	}
	for _, b := range sim.Breaks() {
		if string(b) == c.Break {
			return nil
		}
	}
	return fmt.Errorf("--break %s is unknown; there are %v", c.Break, sim.Breaks())
}

func (c *simCmd) worlds(ctx context.Context, dir string, trace io.Writer) (out simulated, err error) {
	out = simulated{First: c.Seed, Faults: map[string]int{}}
	for _, kind := range sim.Faults() {
		out.Faults[kind] = 0
	}
	kept, err := c.kept()
	if err != nil {
		return out, err
	}
	began := realNow()
	one := func(k sim.Kept) error {
		cfg := sim.Config{Seed: k.Seed, Steps: k.Steps, Gateways: c.Gateways, Rates: k.Rates, Dir: filepath.Join(dir, "world"), Break: sim.Break(c.Break)}
		if c.Trace {
			cfg.Trace = trace
		}
		r, err := sim.Run(ctx, cfg)
		out.add(r)
		if f, ok := errors.AsType[*sim.Failure](err); ok {
			out.Failure = &simFailure{f.Seed, f.Step, f.Err.Error()}
		}
		return err
	}
	for _, k := range kept {
		if err := one(k); err != nil {
			return out, err
		}
	}
	for n := uint64(0); c.For > 0 && realNow().Sub(began) < c.For || c.For == 0 && n < c.Seeds; n++ {
		if err := one(sim.Kept{Seed: c.Seed + n, Steps: c.Steps, Rates: c.Rates}); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (c *simCmd) kept() ([]sim.Kept, error) {
	if c.Kept == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.Kept)
	if err != nil {
		return nil, fmt.Errorf("--kept: %w", err)
	}
	list, err := sim.ParseKept(string(text))
	if err != nil {
		return nil, fmt.Errorf("--kept %s: %w", c.Kept, err)
	}
	return list, nil
}

// add takes a world in.
func (s *simulated) add(r sim.Report) {
	s.Worlds, s.Steps, s.Checked, s.Hash = s.Worlds+1, s.Steps+r.Steps, s.Checked+r.Checked, r.Hash
	s.Simulated += r.Simulated.Seconds()
	for kind, times := range r.Fired {
		s.Faults[kind] += times
	}
}
