package sim

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/sim/disk"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/web/node/remote"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

const (
	spoolSegment = 16 << 10
	spoolMax     = 8 * spoolSegment
	spoolHead    = 32 // bytes of a segment's header, which are durable before its name is
	heardMax     = 1500 * time.Millisecond
	patience     = 24 * time.Hour // of calls, on the machine's clock: the world's network says what is late
	drawMax      = 300 * time.Millisecond
)

// gateway is a process with leases and a spool.
type gateway struct {
	process
	w       *World
	index   int
	node    uint16
	token   string
	signer  *receive.Signer
	folder  *disk.Folder
	boot    int
	skew    time.Duration
	saved   clock.State
	cut     bool          // from the server
	slow    time.Duration // each of its calls takes so long
	lossy   int           // of a hundred calls are lost, late or doubled
	full    bool          // its spool's disk
	updates []*update     // on their way
	calls   int           // that it made
	arrived int           // the last of them that the server saw

	spool  *spool.Spool
	wrap   *spoolBorder
	clock  *clock.Clock
	client *remote.Client
	mirror *govern.Mirror
	zones  wire.Zones
	e      *enforce.Enforcer // nil until it has begun
	source string
	open   []*request
}

// request is one that was admitted and runs.
type request struct {
	a        *enforce.Admission
	id       string
	customer string
	cost     int64
}

// newGateway registers one at the server.
func (w *World) newGateway(ctx context.Context, index int) (*gateway, error) {
	n, issued, err := w.server.nodes.Issue(ctx, "sim", fmt.Sprintf("gate-%d", index+1))
	if err != nil {
		return nil, err
	}
	signer, err := receive.NewSigner(bytes.Repeat([]byte{byte(index + 1)}, 32))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(w.cfg.Dir, n.Name)
	return &gateway{
		w: w, index: index, node: n.Node, token: issued.Secret, signer: signer, boot: 1, source: enforce.SourceOf(n.Node),
		folder: disk.NewFolder(dir, spoolHead, w.dice), process: process{name: n.Name},
	}, nil
}

// real is the machine's clock, which may be set.
func (g *gateway) real() time.Time { return g.w.now.Add(g.skew) }

// mono goes on whatever the clock is set to, as the monotonic reading does. Without limits of Rates nothing depends on it; those worlds
// are as they were before it was told apart, so that kept seeds find what they found.
func (g *gateway) mono() time.Time {
	if g.w.cfg.Rates {
		return g.w.now
	}
	return g.real()
}

// reachable says whether a message could pass now.
func (g *gateway) reachable() bool { return g.alive && !g.cut }

// connected says whether the server holds a stream of it open.
func (g *gateway) connected() bool { return g.e != nil && g.reachable() }

// start opens the spool, and begins an epoch when the server can be reached; else a later call of join does.
func (g *gateway) start(ctx context.Context) (err error) {
	g.process = process{name: g.name, alive: true}
	g.e, g.open, g.updates, g.mirror = nil, nil, nil, nil
	if g.spool, err = spool.Open(spool.Config{Dir: g.folder.Dir, SegmentBytes: spoolSegment, MaxBytes: spoolMax}); err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	if cut := g.spool.Recovery(); cut.Bytes > 0 { // Open made that durable
		if err := g.folder.SyncedFile(filepath.Base(cut.File)); err != nil {
			return err
		}
	}
	g.wrap = &spoolBorder{Spool: g.spool, g: g}
	if g.clock, err = clock.New(clock.Config{
		Real: g.real, Mono: func() time.Duration { return g.mono().Sub(born()) }, Load: func() (clock.State, error) { return g.saved, nil },
		Save: func(st clock.State) error { g.saved = st; return nil },
	}); err != nil {
		return err
	}
	if g.client, err = remote.NewClient(remote.Config{
		Server: "http://server", Token: g.token, HTTP: &http.Client{Transport: &network{g.w, g}}, Real: g.real, DrawTimeout: patience, CallTimeout: patience,
		Anew: func() {
			if g.e != nil {
				g.e.Anew()
			}
		},
	}); err != nil {
		return err
	}
	g.zones = wire.Zones{}
	g.join(ctx)
	return g.w.failed
}

// join does what a gateway does when it starts and its server can be reached.
func (g *gateway) join(ctx context.Context) {
	if g.e != nil || !g.reachable() {
		return
	}
	var err error
	g.w.as(&g.process, func() { err = g.begin(ctx) })
	switch {
	case err == nil:
	case unreachable(err):
		g.w.note("%s cannot begin", g.name)
	case replaced(err) || g.w.bearable(err) == nil: // the process ends, and is started again later
		g.w.note("%s fails in its begin", g.name)
		g.stop(false)
	default:
		g.w.must(g.name+" begins", err)
	}
}

func (g *gateway) begin(ctx context.Context) error {
	joined, err := g.client.Join(ctx, g.signer.Public(), "sim")
	if err != nil {
		return err
	}
	g.clock.Raise(time.UnixMicro(joined.Now))
	if g.mirror == nil {
		if g.mirror, err = govern.NewMirror(govern.MirrorConfig{Pepper: joined.Pepper, Mode: account.Mode(joined.Mode), Fetch: g.client.Catalog}); err != nil {
			return err
		}
	}
	u, err := g.w.server.facts(ctx)
	if err != nil {
		return err
	}
	if err := g.take(u); err != nil {
		return err
	}
	ring := receipt.SubkeyRing(func(n uint16, epoch uint32) (receipt.Subkey, bool) {
		k := g.client.Subkey()
		if k == nil || n != g.node || epoch != k.Epoch {
			return receipt.Subkey{}, false
		}
		return receipt.Subkey{Number: k.Number, Key: k.Key}, true
	})
	sender := receive.NewSender(g.node, g.signer, g.client)
	e, err := enforce.Open(ctx, enforce.Config{
		Directory: g.mirror, Spool: g.wrap, Authority: g.client, Past: g.client, Keyring: ring, Node: g.node, Boot: fmt.Sprintf("%s-%d", g.name, g.boot),
		Now: g.clock.Now, Real: g.mono, Torn: g.spool.Recovery().Torn(), Log: slog.New(slog.DiscardHandler), Deliver: sender.Deliver, CarryBehind: spoolSegment,
	})
	if err != nil {
		return err
	}
	g.clock.Raise(e.LastSeen())
	g.e = e
	g.w.server.attach(g.node)
	g.w.note("%s began epoch %d", g.name, g.client.Subkey().Epoch)
	return nil
}

// update is the directory as the server told it at one moment.
type update struct {
	at    time.Time
	facts *wire.Facts
}

// take puts an update in the place of what the gateway knew.
func (g *gateway) take(u *update) error {
	f, err := u.facts.Value(g.zones)
	if err != nil {
		return err
	}
	g.clock.Raise(u.at)
	g.mirror.Reset()
	if err := g.mirror.Put(f); err != nil {
		return err
	}
	g.mirror.Done()
	return nil
}

// facts is all that a gateway must know.
func (s *server) facts(ctx context.Context) (*update, error) {
	v, err := s.govern.Catalog(ctx, 0)
	if err != nil {
		return nil, err
	}
	f := govern.Facts{Catalogs: []govern.CatalogVersion{v}, Keys: s.govern.KeysNow()}
	for _, c := range s.govern.Customers() {
		if p, ok := s.govern.PictureOf(c.ID, s.clock.Now()); ok {
			f.Pictures = append(f.Pictures, p)
		}
	}
	return &update{s.clock.Now(), wire.FactsOf(f)}, nil
}

// stop ends the run.
func (g *gateway) stop(power bool) {
	g.alive = false
	g.close()
	g.e, g.open, g.updates = nil, nil, nil
	if power {
		g.boot++
		torn, err := g.folder.PowerCut()
		g.w.must("cut the power of "+g.name, err)
		if torn > 0 {
			g.w.fire(tornWrite, "%s, %d sectors", g.name, torn)
		}
	}
	g.w.log.Crashed(g.index+1, power)
}

func (g *gateway) close() {
	if g.spool != nil {
		_ = g.spool.Close()
		g.spool = nil
	}
}

// spoolBorder is the real spool, with the borders at which a gateway can die, and a disk that can be full.
type spoolBorder struct {
	*spool.Spool
	g *gateway
}

// Append implements store.Spool.
func (s *spoolBorder) Append(reserve int, fill func(dst []byte) []byte) (int64, error) {
	s.g.w.cross(&s.g.process)
	if s.g.full {
		s.g.w.fired[spoolFull]++
		return 0, fmt.Errorf("simulated: %w", store.ErrFull)
	}
	end := s.End()
	at, err := s.Spool.Append(reserve, fill)
	s.rolled(end, at, err)
	s.g.w.cross(&s.g.process)
	return at, err
}

// AppendReserved implements store.Spool.
func (s *spoolBorder) AppendReserved(reserve int, fill func(dst []byte) []byte) (int64, error) {
	s.g.w.cross(&s.g.process)
	end := s.End()
	at, err := s.Spool.AppendReserved(reserve, fill)
	s.rolled(end, at, err)
	s.g.w.cross(&s.g.process)
	return at, err
}

// rolled remembers that a segment is durable before the next one takes a record.
func (s *spoolBorder) rolled(end, at int64, err error) {
	const room = spoolSegment - spoolHead                                                         // of offsets in a segment
	if old := (end - 1) / room; err == nil && end > 0 && at/room > old && old*room >= s.Start() { // an earlier one is gone
		s.g.w.must("remember what is durable", s.g.folder.SyncedFile(fmt.Sprintf("%016x.seg", old*room)))
		s.g.w.log.Synced(s.g.index + 1)
	}
}

// Sync implements store.Spool.
func (s *spoolBorder) Sync(ctx context.Context) error {
	s.g.w.cross(&s.g.process)
	err := s.Spool.Sync(ctx)
	if err == nil {
		s.g.w.must("remember what is durable", s.g.folder.Synced())
		s.g.w.log.Synced(s.g.index + 1)
	}
	s.g.w.cross(&s.g.process)
	return err
}

// Truncate implements store.Spool.
func (s *spoolBorder) Truncate(before int64) error {
	s.g.w.cross(&s.g.process)
	if s.g.w.cfg.Break == TruncateEarly {
		before = s.End()
	}
	return s.Spool.Truncate(before)
}

// shortID is the part of a decision id that names the event.
func shortID(decision string) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(decision, "dec_"), ".")
	return id
}

// holder is a gateway as the authority sees it, over the network.
type holder struct {
	w *World
	g *gateway
}

var _ authority.Holder = (*holder)(nil)

// call lets the gateway work on a call of the server's.
func (h *holder) call(do func()) error {
	w, g := h.w, h.g
	defer w.cross(&w.server.process)
	if !g.connected() || w.lost(g) {
		return authority.ErrUnreachable
	}
	if !w.as(&g.process, do) || w.lost(g) { // the answer is lost
		return authority.ErrUnreachable
	}
	return nil
}

// Recall implements authority.Holder.
func (h *holder) Recall(_ context.Context, counters []store.CounterKey) (backs []authority.Back, err error) {
	h.w.did["recalls"]++
	if lost := h.call(func() { backs, err = h.g.e.Recall(context.Background(), counters) }); lost != nil {
		return nil, lost
	}
	if h.w.cfg.Break == RecallMore {
		for i := range backs {
			backs[i].Spent /= 2
			backs[i].Keep = backs[i].Spent
		}
	}
	return backs, err
}

// Tell implements authority.Holder.
func (h *holder) Tell(_ context.Context, counters []store.CounterKey) (backs []authority.Back, err error) {
	if lost := h.call(func() { backs, err = h.g.e.Tell(context.Background(), counters) }); lost != nil {
		return nil, lost
	}
	return backs, err
}

// Ship implements authority.Holder.
func (h *holder) Ship(context.Context) (err error) {
	if lost := h.call(func() { err = h.g.e.Ship(context.Background()) }); lost != nil {
		return lost
	}
	return err
}
