package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// ErrRefused is wrapped by every refusal of a batch; the text says why.
var ErrRefused = errors.New("batch refused")

// Reason says why a batch was refused, or what a finding is about.
type Reason string

// The reasons.
const (
	Unsigned   Reason = "unsigned"    // no signature, or a malformed one
	UnknownKey Reason = "unknown_key" // not the node's key of that epoch
	Forged     Reason = "forged"      // the signature does not fit the batch
	WrongEpoch Reason = "epoch"       // not the node's newest epoch
	Foreign    Reason = "foreign"     // it holds what another source must send
	Gap        Reason = "gap"         // a batch before it, or a part of the spool, is missing
	Lost       Reason = "lost"        // a new run begins behind where the last one ended: taken, since nobody has the part between
)

// Reasons lists them all, for metrics.
func Reasons() []Reason {
	return []Reason{Unsigned, UnknownKey, Forged, WrongEpoch, Foreign, Gap, Lost}
}

// Journal is where batches go.
type Journal interface {
	Append(ctx context.Context, b store.Batch) ([]store.Result, error)
}

// Records is what a Receiver keeps.
type Records interface {
	store.Gateways
}

// Config of a Receiver; all fields are required.
type Config struct {
	Journal Journal
	Records Records
	Now     func() time.Time // business clock
	Random  io.Reader
}

// Receiver is the step in front of the journal. It is safe for concurrent use; batches are taken one at a time.
type Receiver struct {
	cfg Config

	mu         sync.Mutex // guards all below; held while a batch is taken
	keys       map[uint16][]store.GatewayKey
	nodes      map[uint16]*progress
	taken      int64
	duplicates int64
	refused    map[Reason]int64
	unwritten  map[finding]*store.Finding // since the last write of each
	written    map[finding]time.Time
}

// finding names a row of the findings. There are as many as registered nodes times reasons.
type finding struct {
	node uint16
	why  Reason
}

// noteEvery bounds the writes that a flood of bad batches causes.
const noteEvery = time.Second

// progress is how far a node's batches were taken, by epoch.
type progress struct {
	newest store.Progress
	last   map[uint32]uint64 // sequence by epoch
}

// New reads the keys.
func New(ctx context.Context, cfg Config) (*Receiver, error) {
	if cfg.Journal == nil || cfg.Records == nil || cfg.Now == nil || cfg.Random == nil {
		return nil, errors.New("receive: journal, records, clock and randomness are required")
	}
	r := &Receiver{
		cfg: cfg, keys: map[uint16][]store.GatewayKey{}, nodes: map[uint16]*progress{}, refused: map[Reason]int64{},
		unwritten: map[finding]*store.Finding{}, written: map[finding]time.Time{},
	}
	return r, r.loadKeys(ctx)
}

func (r *Receiver) loadKeys(ctx context.Context) error {
	all, err := r.cfg.Records.GatewayKeys(ctx)
	if err != nil {
		return fmt.Errorf("read gateway keys: %w", err)
	}
	clear(r.keys)
	for _, k := range all {
		r.keys[k.Node] = append(r.keys[k.Node], k)
	}
	return nil
}

// Register makes a key the node's from its next epoch on. Registering the present key again changes nothing; an earlier one is
// account.ErrState.
func (r *Receiver) Register(ctx context.Context, node uint16, public [32]byte) (store.GatewayKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now().UTC()
	id, err := account.NewID("aud", now, r.cfg.Random)
	if err != nil {
		return store.GatewayKey{}, err
	}
	keyID := KeyIDOf(public)
	k, err := r.cfg.Records.PutGatewayKey(ctx, store.GatewayKey{ID: keyID, Node: node, Public: public, CreatedAt: now}, store.Audit{
		ID: id, Time: now, Actor: "server", Action: "gateway.key", Target: keyID, Detail: fmt.Sprintf(`{"node":%d}`, node),
	})
	if err != nil {
		return k, fmt.Errorf("register the key of gateway %d: %w", node, err)
	}
	if err := r.loadKeys(ctx); err != nil {
		return k, err
	}
	if list := r.keys[node]; list[len(list)-1].ID != k.ID {
		return k, fmt.Errorf("%w: %s is an earlier key of gateway %d; use its newest one, or remove the key file so that a new key is made", account.ErrState, k.ID, node)
	}
	return k, nil
}

// Receive checks a batch and appends it. One result an entry; a batch that was taken before is answered with Duplicate for each,
// without effect. ErrRefused, or the journal's errors: then the same batch can be sent again.
func (r *Receiver) Receive(ctx context.Context, b *store.Batch) ([]store.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st, err := r.check(ctx, b)
	if err != nil {
		return nil, err
	}
	p, err := r.progress(ctx, st.Node)
	if err != nil {
		return nil, err
	}
	if st.Sequence <= p.last[st.Epoch] {
		r.duplicates++
		return repeated(b), nil
	}
	if err := r.follows(ctx, st, p); err != nil {
		return nil, err
	}
	var results []store.Result
	if len(b.Entries)+len(b.Marks)+len(b.Totals) > 0 {
		if results, err = r.cfg.Journal.Append(ctx, *b); err != nil {
			return nil, err
		}
	}
	// After the append: a crash in between has the batch sent again, and the journal knows it.
	next := store.Progress{Node: st.Node, Epoch: st.Epoch, Sequence: st.Sequence, Covered: st.To}
	if err := r.cfg.Records.PutProgress(ctx, next); err != nil {
		return nil, fmt.Errorf("keep how far gateway %d was taken: %w", st.Node, err)
	}
	p.newest, p.last[st.Epoch] = next, st.Sequence
	r.taken++
	return results, nil
}

func repeated(b *store.Batch) []store.Result {
	out := make([]store.Result, len(b.Entries))
	for i := range out {
		out[i] = store.Result{Outcome: store.Duplicate, Digest: b.Entries[i].Event.Digest()}
	}
	return out
}

// check says who sent the batch, and that it is theirs to send.
func (r *Receiver) check(ctx context.Context, b *store.Batch) (Statement, error) {
	st, err := StatementOf(b)
	if err != nil {
		return st, r.refuse(ctx, b.Node, Unsigned, err.Error())
	}
	k, ok := r.keyOf(st.Node, st.Epoch)
	switch {
	case !ok || k.ID != b.KeyID:
		return st, r.refuse(ctx, st.Node, UnknownKey, fmt.Sprintf("key %.40q does not sign for epoch %d of gateway %d", b.KeyID, st.Epoch, st.Node))
	case !Verify(k.Public, b):
		return st, r.refuse(ctx, st.Node, Forged, fmt.Sprintf("batch %d of epoch %d is not what %s signed", st.Sequence, st.Epoch, k.ID))
	}
	source := fmt.Sprintf("gateway/%d", st.Node)
	foreign := b.Producer != source || b.Epoch > st.Epoch || b.Atomic
	for i := range b.Entries {
		foreign = foreign || b.Entries[i].Event.Source != source || b.Entries[i].Origin != meter.Admitted
	}
	for i := range b.Marks {
		foreign = foreign || b.Marks[i].Source != source
	}
	if foreign {
		return st, r.refuse(ctx, st.Node, Foreign, fmt.Sprintf("batch %d of epoch %d holds what is not of %s", st.Sequence, st.Epoch, source))
	}
	return st, nil
}

// keyOf is the key that signs for an epoch: the newest one registered at or before it.
func (r *Receiver) keyOf(node uint16, epoch uint32) (k store.GatewayKey, ok bool) {
	for _, x := range r.keys[node] {
		if x.FromEpoch <= epoch {
			k, ok = x, true
		}
	}
	return k, ok
}

// progress reads a node's from the records once.
func (r *Receiver) progress(ctx context.Context, node uint16) (*progress, error) {
	if p := r.nodes[node]; p != nil {
		return p, nil
	}
	all, err := r.cfg.Records.Progress(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("read how far gateway %d was taken: %w", node, err)
	}
	p := &progress{last: map[uint32]uint64{}}
	for _, x := range all {
		p.last[x.Epoch] = x.Sequence
	}
	if len(all) > 0 {
		p.newest = all[0]
	}
	r.nodes[node] = p
	return p, nil
}

// follows says whether nothing is missing before a batch. Within a run the sequences leave no hole and each batch begins where
// the spool was covered up to, or before. A new run reads its spool again from the start, which was not truncated beyond what
// is covered.
func (r *Receiver) follows(ctx context.Context, st Statement, p *progress) error {
	newest, err := r.cfg.Records.NewestEpoch(ctx, st.Node)
	if err != nil {
		return fmt.Errorf("read the newest epoch of gateway %d: %w", st.Node, err)
	}
	if st.Epoch != newest {
		return r.refuse(ctx, st.Node, WrongEpoch, fmt.Sprintf("batch %d is of epoch %d, the node's newest is %d", st.Sequence, st.Epoch, newest))
	}
	if last := p.last[st.Epoch]; st.Sequence != last+1 {
		return r.refuse(ctx, st.Node, Gap, fmt.Sprintf("batch %d of epoch %d came after batch %d", st.Sequence, st.Epoch, last))
	}
	known := p.newest.Sequence > 0
	if !known || st.From <= p.newest.Covered {
		return nil
	}
	if st.Epoch == p.newest.Epoch {
		return r.refuse(ctx, st.Node, Gap, fmt.Sprintf("batch %d of epoch %d begins at %d of the spool, which is covered up to %d", st.Sequence, st.Epoch, st.From, p.newest.Covered))
	}
	return r.note(ctx, st.Node, Lost, fmt.Sprintf("epoch %d begins at %d of the spool, which is covered up to %d: what lay between never came", st.Epoch, st.From, p.newest.Covered))
}

// refuse counts and notes a refusal. The node may be anything that somebody wrote: only nodes with a key are noted.
func (r *Receiver) refuse(ctx context.Context, node uint16, why Reason, detail string) error {
	return errors.Join(fmt.Errorf("%w (%s): %s", ErrRefused, why, detail), r.note(ctx, node, why, detail))
}

func (r *Receiver) note(ctx context.Context, node uint16, why Reason, detail string) error {
	r.refused[why]++
	if len(r.keys[node]) == 0 {
		return nil
	}
	id, now := finding{node, why}, r.cfg.Now().UTC().Truncate(time.Microsecond)
	f := r.unwritten[id]
	if f == nil {
		f = &store.Finding{Node: node, Reason: string(why), First: now}
		r.unwritten[id] = f
	}
	f.Count, f.Last, f.Detail = f.Count+1, now, detail
	if last, ok := r.written[id]; ok && now.Sub(last) < noteEvery && !now.Before(last) {
		return nil
	}
	if err := r.cfg.Records.AddFinding(ctx, *f); err != nil {
		return fmt.Errorf("note a finding: %w", err)
	}
	r.written[id] = now
	delete(r.unwritten, id)
	return nil
}

// Findings lists all that was ever wrong with gateways' batches, by node and reason.
func (r *Receiver) Findings(ctx context.Context) ([]store.Finding, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list, err := r.cfg.Records.Findings(ctx)
	if err != nil {
		return nil, fmt.Errorf("read findings: %w", err)
	}
	for i := range list {
		if f := r.unwritten[finding{list[i].Node, Reason(list[i].Reason)}]; f != nil { // its first one is always written
			list[i].Count, list[i].Last, list[i].Detail = list[i].Count+f.Count, f.Last, f.Detail
		}
	}
	return list, nil
}

// Stats are running totals since start.
type Stats struct {
	Taken, Duplicates int64
	Refused           map[Reason]int64 // and what was noted as Lost
}

// Stats reads them.
func (r *Receiver) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Taken: r.taken, Duplicates: r.duplicates, Refused: maps.Clone(r.refused)}
}

// Keys lists the registered public keys, by node and the epoch from which each is good.
func (r *Receiver) Keys() (all []store.GatewayKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, node := range slices.Sorted(maps.Keys(r.keys)) {
		all = append(all, r.keys[node]...)
	}
	return all
}
