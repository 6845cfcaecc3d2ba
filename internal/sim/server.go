package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/sim/disk"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
	"github.com/tallystick/tallystick/internal/web/node"
)

const (
	mode         = account.Test
	checkpoint   = 200      // events in the index's memory: small, so that flushes happen
	segmentBytes = 64 << 10 // of the journal
	grace        = time.Hour
)

func pepper() []byte { return make([]byte, 32) }

// server is the process that grants, stores and bills.
type server struct {
	process
	w       *World
	records string // file
	disk    *disk.Disk
	boot    int
	skew    time.Duration
	saved   clock.State
	ring    *receipt.Keyring
	runs    int    // of the authority
	left    []byte // by the authority of the process before; nil: it was killed

	began     time.Time // this run, on the world's clock
	store     *sqlite.Records
	journal   *file.Journal
	clock     *clock.Clock
	govern    *govern.Service
	receive   *receive.Receiver
	authority *authority.Service
	nodes     *nodes.Service
	hub       *node.Server
	ingest    *ingest.Service
	bill      *bill.Service
}

func (s *server) real() time.Time { return s.w.now.Add(s.skew) }

// start opens the stores and brings the services up, as cmd/tally does with --role server.
func (s *server) start(ctx context.Context) (err error) {
	s.process = process{name: "server", alive: true}
	s.began = s.w.now
	s.disk.Restart()
	s.disk.Blown = func() { s.alive = false }
	quiet := slog.New(slog.DiscardHandler)
	if s.store, err = sqlite.Scratch(ctx, s.records); err != nil {
		return err
	}
	if s.journal, err = file.Open(file.Config{Dir: "journal", FS: s.disk, Checkpoint: checkpoint, SegmentBytes: segmentBytes}); err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	if s.clock, err = clock.New(clock.Config{
		Real: s.real, Load: func() (clock.State, error) { return s.saved, nil }, Save: func(st clock.State) error { s.saved = st; return nil },
	}); err != nil {
		return err
	}
	records, journal := &records{Records: s.store, s: s}, &journal{Journal: s.journal, s: s}
	if s.govern, err = govern.New(ctx, govern.Config{Records: records, Journal: journal, Now: s.clock.Now, Random: s.w.bytes, Pepper: pepper(), Mode: mode}); err != nil {
		return err
	}
	if s.receive, err = receive.New(ctx, receive.Config{Journal: journal, Records: records, Now: s.clock.Now, Random: s.w.bytes}); err != nil {
		return err
	}
	if s.authority, err = authority.New(authority.Config{
		Directory: s.govern, Leases: records, Journal: s.journal, Now: s.clock.Now, Mono: func() time.Duration { return s.w.now.Sub(s.began) }, Log: quiet, Serial: true,
		Usage: s.govern.UsageAt, Memory: s.left, Run: fmt.Sprint("run ", s.runs),
	}); err != nil {
		return err
	}
	s.left, s.runs = nil, s.runs+1
	if err := s.startHub(ctx, records, quiet); err != nil {
		return err
	}
	if s.ingest, err = ingest.New(ingest.Config{Directory: s.govern, Journal: journal, Now: s.clock.Now, Counted: s.counted}); err != nil {
		return err
	}
	s.bill, err = bill.New(bill.Config{
		Directory: s.govern, Journal: s.journal, Invoices: records, Now: s.clock.Now, Grace: grace, Settled: s.settled,
	})
	return err
}

// startHub readies what gateways call. Holders are the world's own: they are asked over the simulated network.
func (s *server) startHub(ctx context.Context, records store.Records, quiet *slog.Logger) (err error) {
	if s.nodes, err = nodes.New(ctx, nodes.Config{Records: records, Now: s.clock.Now, Random: s.w.bytes, Pepper: pepper()}); err != nil {
		return err
	}
	if s.ring == nil {
		if s.ring, err = receipt.ParseKeyring(receipt.NewKeyringFile(make([]byte, 32))); err != nil {
			return err
		}
	}
	s.hub, err = node.New(node.Config{
		Nodes: s.nodes, Authority: &grants{s.authority, s.w}, Directory: s.govern, Batches: s.receive, Past: enforce.JournalPast{Journal: s.journal},
		Attach: func(n uint16, _ uint32, _ authority.Holder) { s.attach(n) },
		Subkey: func(n uint16, epoch uint32) (byte, []byte, error) {
			k, err := s.ring.Subkey(n, epoch)
			return k.Number, k.Key, err
		},
		Pepper: pepper(), Mode: mode, Now: s.clock.Now, Real: s.real, Log: quiet, Run: s.authority.Run(),
	})
	return err
}

func (s *server) attach(n uint16) {
	for _, g := range s.w.gateways {
		if g.node == n {
			s.authority.Register(n, &holder{s.w, g})
		}
	}
}

// counted tells gateways that usage came from outside; who is cut off does not hear it.
func (s *server) counted(customerIDs []string) {
	for _, g := range s.w.gateways {
		if g.e != nil && g.reachable() && !s.w.lost(g) {
			s.w.as(&g.process, func() { g.e.Counted(customerIDs) })
		}
	}
}

var errOpen = errors.New("requests from before the end still run")

// ended is a context that waits for nothing.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// settled is what a close waits for: every gateway that is connected has shipped what it decided before an instant.
func (s *server) settled(ctx context.Context, before time.Time) error {
	for _, g := range s.w.gateways {
		if !g.connected() {
			continue
		}
		if s.w.lost(g) {
			return authority.ErrUnreachable
		}
		var err error
		g.clock.Raise(s.clock.Now())
		s.w.as(&g.process, func() {
			if err = g.e.Flush(ctx); err == nil {
				err = g.e.Settled(ended(), before)
			}
		})
		s.w.cross(&s.process)
		if err != nil {
			return fmt.Errorf("%w: %w", errOpen, err)
		}
	}
	return nil
}

// close ends a process's hold on its files.
func (s *server) close() {
	if s.journal != nil {
		_ = s.journal.Close() // its disk may be dead
		s.journal = nil
	}
	if s.store != nil {
		_ = s.store.Close()
		s.store = nil
	}
	s.alive = false
}

// stop ends the run: killed, or without power.
func (s *server) stop(power bool) {
	s.alive = false
	s.disk.Kill()
	s.close()
	if power {
		s.disk.PowerCut()
		s.boot++
	}
}

// records are the real ones, with the borders at which a server can die: before a transaction, and after it is durable.
type records struct {
	*sqlite.Records
	s *server
}

// WriteLeases implements store.Leases.
func (r *records) WriteLeases(ctx context.Context, ls []store.Lease) error {
	r.s.w.cross(&r.s.process)
	if r.s.w.cfg.Break == ForgetLease {
		return nil
	}
	err := r.Records.WriteLeases(ctx, ls)
	r.s.w.cross(&r.s.process)
	return err
}

// BeginCloses implements store.Closings.
func (r *records) BeginCloses(ctx context.Context, list []store.Close) ([]store.Close, error) {
	r.s.w.cross(&r.s.process)
	out, err := r.Records.BeginCloses(ctx, list)
	r.s.w.cross(&r.s.process)
	return out, err
}

// journal is the real one, with such borders.
type journal struct {
	*file.Journal
	s    *server
	seen map[string]bool
}

// Append implements store.Journal.
func (j *journal) Append(ctx context.Context, b store.Batch) ([]store.Result, error) {
	j.s.w.cross(&j.s.process)
	if j.s.w.cfg.Break == SkipDedup {
		b = j.twice(b)
	}
	lost := j.s.w.cfg.Break == LoseEvent && len(b.Entries) > 1
	if lost {
		b.Entries = b.Entries[:len(b.Entries)-1]
	}
	out, err := j.Journal.Append(ctx, b)
	if lost && err == nil {
		out = append(out, out[0])
	}
	j.s.w.cross(&j.s.process)
	return out, err
}
