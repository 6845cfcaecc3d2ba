// Package sim is a deterministic world: a server and its gateways, their clocks, network and disks, and the load on them, in one
// goroutine. One seed decides all that happens, faults included, so that a failure is found again by its seed and step. The
// services are those of the product; internal/sim/audit, which shares no code with them, checks what they promise.
package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/sim/audit"
	"github.com/tallystick/tallystick/internal/sim/disk"
)

// Config of a world.
type Config struct {
	Seed  uint64
	Steps int
	// Gateways is how many there are; 0: two to four, by the seed.
	Gateways int
	// Rates has two customers more, with a token bucket and a rolling limit of a minute.
	Rates bool
	// Dir is a folder for what cannot be held in memory, the records and the spools; it is emptied at the end. Required.
	Dir string
	// Trace is told what happens, a line each; nil: nobody.
	Trace io.Writer
	// Break makes a part of the product misbehave, for the proof that the audit sees it. Empty: none.
	Break Break
}

// Report is what a world came to.
type Report struct {
	Seed      uint64
	Steps     int            // that were made
	Hash      string         // of the trace: the same for the same seed and steps
	Fired     map[string]int // faults, by kind
	Did       map[string]int // what else happened, by kind
	Checked   int64          // comparisons of the auditor
	Simulated time.Duration
}

// Failure is a broken promise, or a call that failed and must not.
type Failure struct {
	Seed     uint64
	Steps    int // of the world
	Gateways int // as in Config
	Rates    bool
	Break    Break
	Step     int // at which it was seen; Steps: after healing
	Err      error
}

// Error names the command that shows it again.
func (f *Failure) Error() string {
	again := fmt.Sprintf("tally sim --seed %d --steps %d", f.Seed, f.Steps)
	if f.Gateways > 0 {
		again += fmt.Sprintf(" --gateways %d", f.Gateways)
	}
	if f.Rates {
		again += " --rates"
	}
	if f.Break != "" {
		again += fmt.Sprintf(" --break %s", f.Break)
	}
	return fmt.Sprintf("seed %d, step %d: %v\n  again: %s --trace", f.Seed, f.Step, f.Err, again)
}

// Unwrap is what went wrong.
func (f *Failure) Unwrap() error { return f.Err }

// born is when every world begins.
func born() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

// World is one run. It is for one goroutine.
type World struct {
	cfg   Config
	dice  *rand.Rand // of all that happens
	bytes io.Reader  // of ids and secrets
	now   time.Time
	step  int
	hash  hash.Hash
	fired map[string]int
	did   map[string]int
	log   *audit.Log

	server    *server
	gateways  []*gateway
	customers []*customer
	disk      *disk.Disk
	late      []*message // on their way, or lost
	events    []reported
	version   int  // how many catalogs were tried
	touched   bool // what is audited can have changed since the last audit
	healing   bool
	failed    error // found where no error can be returned
}

// customer is one of the world's, with its key.
type customer struct {
	account.Customer
	secret string
	sub    string
	plan   string
	left   string    // the plan before, or the one that it may have
	leaves time.Time // until then some clock may say so
	steady bool      // its plan and catalog version stay, so that its invoices can be rated again by hand
}

// Run makes a world and lets it go. The error is a *Failure, or about the machine that it runs on.
func Run(ctx context.Context, cfg Config) (Report, error) {
	w := &World{
		cfg: cfg, dice: rand.New(rand.NewPCG(cfg.Seed, 1)), now: born(), hash: sha256.New(), log: audit.New(), //nolint:gosec // it must be the same each time
		fired: map[string]int{}, did: map[string]int{}, bytes: newBytes(cfg.Seed),
	}
	err := w.run(ctx)
	w.closeAll()
	if w.disk != nil {
		w.fired[diskFull] = w.disk.Refused
	}
	sum := w.hash.Sum(nil)
	report := Report{
		Seed: cfg.Seed, Steps: w.step, Hash: hex.EncodeToString(sum[:8]), Fired: w.fired, Did: w.did, Checked: w.log.Checked, Simulated: w.now.Sub(born()),
	}
	if err == nil || ctx.Err() != nil {
		return report, ctx.Err()
	}
	return report, &Failure{cfg.Seed, cfg.Steps, cfg.Gateways, cfg.Rates, cfg.Break, w.step, err}
}

func (w *World) run(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for w.step = 0; w.step < w.cfg.Steps; w.step++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.act(ctx); err != nil {
			return err
		}
		if err := w.check(ctx); err != nil {
			return err
		}
	}
	return w.heal(ctx)
}

// newBytes is a stream of bytes that a seed decides.
func newBytes(seed uint64) io.Reader {
	key := sha256.Sum256(fmt.Appendf(nil, "tally sim %d", seed))
	return rand.NewChaCha8(key)
}

// note writes a line of the trace.
func (w *World) note(format string, args ...any) {
	line := fmt.Sprintf("%6d %s ", w.step, w.now.Format("01-02T15:04:05.000")) + fmt.Sprintf(format, args...) + "\n"
	_, _ = io.WriteString(w.hash, line) // a hash never fails
	if w.cfg.Trace != nil {
		_, _ = io.WriteString(w.cfg.Trace, line) // a trace that cannot be written changes nothing
	}
}

// fire counts a fault and notes it.
func (w *World) fire(kind, format string, args ...any) {
	w.fired[kind]++
	w.note(kind+" "+format, args...)
}

// chance is true in n of a hundred cases.
func (w *World) chance(n int) bool { return w.dice.IntN(100) < n }

func pick[T any](w *World, list []T) T { return list[w.dice.IntN(len(list))] }

// passes lets time pass.
func (w *World) passes(d time.Duration) { w.now = w.now.Add(d.Truncate(time.Microsecond)) }

// begin builds the world: a server, what it sells, and the gateways.
func (w *World) begin(ctx context.Context) error {
	w.disk = disk.New(w.dice)
	w.disk.Lying = w.cfg.Break == EarlyReceipt
	w.server = &server{w: w, records: filepath.Join(w.cfg.Dir, "records.db"), boot: 1}
	w.server.disk = w.disk
	if err := os.MkdirAll(w.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := w.server.start(ctx); err != nil {
		return err
	}
	if err := w.sell(ctx); err != nil {
		return err
	}
	n := w.cfg.Gateways
	if n == 0 {
		n = 2 + w.dice.IntN(3)
	}
	for i := range n {
		g, err := w.newGateway(ctx, i)
		if err != nil {
			return err
		}
		w.gateways = append(w.gateways, g)
		if err := g.start(ctx); err != nil {
			return err
		}
	}
	w.note("world of %d gateways and %d customers", len(w.gateways), len(w.customers))
	return nil
}

// closeAll lets go of files.
func (w *World) closeAll() {
	for _, g := range w.gateways {
		g.close()
	}
	if w.server != nil {
		w.server.close()
	}
	for _, name := range []string{w.cfg.Dir} {
		_ = os.RemoveAll(name) // only files of this run
	}
}

// died is the panic with which a simulated process ends in the middle of what it does.
type died struct{ p *process }

// process is what can be killed. fuse is after how many more border crossings it dies; 0: not.
type process struct {
	name  string
	alive bool
	fuse  int
}

// cross is called wherever a process meets the world outside: it dies there when its time has come, and goes no further when it
// has died meanwhile.
func (w *World) cross(p *process) {
	if p.alive && p.fuse > 0 {
		if p.fuse--; p.fuse == 0 {
			p.alive = false
			w.fire(crashInCall, "%s", p.name)
		}
	}
	if !p.alive {
		panic(died{p})
	}
}

// as runs f as a process: it returns false when that died in it.
func (w *World) as(p *process, f func()) (survived bool) {
	defer func() {
		if r := recover(); r != nil {
			d, ok := r.(died)
			if !ok || d.p != p {
				panic(r)
			}
			survived = false
		}
	}()
	if !p.alive {
		return false
	}
	f()
	return p.alive
}

// must keeps an error that nothing explains.
func (w *World) must(what string, err error) {
	if err != nil && w.failed == nil {
		w.failed = fmt.Errorf("%s: %w", what, err)
	}
}
