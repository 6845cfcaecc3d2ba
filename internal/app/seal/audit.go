package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of an audit: findings that are listed, and how often it follows a journal that moves on before the figures are compared.
const (
	findingsMax = 1000
	followMax   = 100
)

// Finding is one thing that is not as it must be.
type Finding struct {
	What     string `json:"what"`
	Where    string `json:"where,omitempty"`    // file and byte, series and quarter, invoice, checkpoint
	Position uint64 `json:"position,omitempty"` // of the record, or of the first one that may be meant
	Expected string `json:"expected,omitempty"`
	Found    string `json:"found,omitempty"`
}

// Report is what an audit did and found. More says how many findings are not listed.
type Report struct {
	Records     uint64    `json:"records"`
	Events      int64     `json:"events"`
	Series      int       `json:"series"`
	Closes      int       `json:"closes"`
	Checkpoints int       `json:"checkpoints"`
	Root        string    `json:"root"` // of the tree over all records
	Against     string    `json:"against,omitempty"`
	Findings    []Finding `json:"findings"`
	More        int       `json:"more,omitempty"`
}

// Audited is what an audit reads. Tiles may be nil: they were lost or are damaged, which is told elsewhere.
type Audited struct {
	Seals    store.Seals
	Keys     store.SubjectKeys
	Invoices store.Invoices
	Journal  store.Journal
	Tiles    store.Tiles
	Verifier string    // the deployment's public key
	Random   io.Reader // for keys of subjects that were never sealed
	// Against is a checkpoint that was kept elsewhere, verified with AgainstKey (default: Verifier).
	Against    []byte
	AgainstKey string
}

// Audit audits the running deployment. account.ErrState while another one is at it: each takes memory for all events.
func (s *Service) Audit(ctx context.Context, against []byte, key string) (Report, error) {
	if !s.auditing.TryLock() {
		return Report{}, fmt.Errorf("%w: an audit is running already; wait for its end", account.ErrState)
	}
	defer s.auditing.Unlock()
	c := s.cfg
	return Audit(ctx, Audited{
		Seals: c.Seals, Keys: c.Keys, Invoices: c.Invoices, Journal: c.Journal, Tiles: c.Tiles, Verifier: c.Verifier, Random: c.Random,
		Against: against, AgainstKey: key,
	})
}

// audit is one at work.
type audit struct {
	Audited
	report      Report
	checkpoints []seal.Checkpoint // by size
	next        int               // first of them that was not reached
	proven      int64             // size of the last one that the log leads to
	mismatched  bool
	tree        seal.Range
	block       seal.Range
	level1      []tlog.Hash
	replay      *replay
	hasher      *hasher
}

// Audit reads the whole log again, derives events, rollups, tallies and tree from it, and compares them with the index, the
// tiles, all checkpoints and the invoices. Where it finds the log damaged it stops there. An error says that it could not be done.
func Audit(ctx context.Context, cfg Audited) (Report, error) {
	a := &audit{Audited: cfg, replay: newReplay(), hasher: newHasher(cfg.Keys, cfg.Random)}
	a.report.Findings = []Finding{}
	if err := a.load(ctx); err != nil {
		return a.report, fmt.Errorf("audit: %w", err)
	}
	err := a.run(ctx)
	if errors.Is(err, store.ErrCorrupt) {
		a.found(Finding{What: "the log is damaged; the audit ends here", Where: err.Error(), Position: a.report.Records + 1})
		err = nil
	}
	a.report.Root = a.tree.Root().String()
	a.report.Events, a.report.Series, a.report.Closes = a.replay.events, len(a.replay.series), len(a.replay.seals)
	if err != nil {
		return a.report, fmt.Errorf("audit: %w", err)
	}
	return a.report, nil
}

func (a *audit) found(f Finding) {
	if len(a.report.Findings) == findingsMax {
		a.report.More++
		return
	}
	a.report.Findings = append(a.report.Findings, f)
}

// load reads and verifies the checkpoints.
func (a *audit) load(ctx context.Context) error {
	if a.Against != nil {
		key := a.AgainstKey
		if key == "" {
			key = a.Verifier
		}
		c, err := seal.Open(a.Against, key)
		if err != nil {
			return fmt.Errorf("the checkpoint to audit against: %w", err)
		}
		a.checkpoints = append(a.checkpoints, c)
		a.report.Against = fmt.Sprintf("%d leaves at %s", c.Size, c.Time.UTC().Format("2006-01-02T15:04:05Z"))
	}
	for before := uint64(0); ; {
		page, err := a.Seals.Checkpoints(ctx, before, scanPage)
		if err != nil {
			return err
		}
		for _, stored := range page {
			a.report.Checkpoints++
			before = stored.Size
			where := fmt.Sprintf("checkpoint of %d leaves", stored.Size)
			c, err := seal.Open(stored.Note, a.Verifier)
			if err != nil {
				a.found(Finding{What: "a stored checkpoint is not signed by this deployment", Where: where, Position: stored.Size, Found: err.Error()})
				continue
			}
			if uint64(c.Size) != stored.Size || c.Root != stored.Root {
				a.found(Finding{What: "a stored checkpoint is not what its note says", Where: where, Position: stored.Size, Expected: c.Root.String(), Found: tlog.Hash(stored.Root).String()})
			}
			a.checkpoints = append(a.checkpoints, c)
		}
		if len(page) < scanPage {
			break
		}
	}
	slices.SortStableFunc(a.checkpoints, func(x, y seal.Checkpoint) int { return int(x.Size - y.Size) })
	return nil
}

func (a *audit) run(ctx context.Context) error {
	for try := 0; ; try++ {
		if err := a.read(ctx); err != nil {
			return err
		}
		same, err := a.compare(ctx)
		if err != nil {
			return err
		}
		if same {
			break
		}
		if try == followMax {
			return errors.New("the journal moves on too fast to be compared; run the audit at a quieter time")
		}
	}
	for _, c := range a.checkpoints[a.next:] {
		a.found(Finding{
			What: "the log is shorter than a checkpoint: records were removed from its end", Where: where(c), Position: a.report.Records + 1,
			Expected: fmt.Sprintf("%d records", c.Size), Found: fmt.Sprintf("%d records", a.report.Records),
		})
	}
	if err := a.tiles(); err != nil {
		return err
	}
	if err := a.identities(ctx); err != nil {
		return err
	}
	return a.invoices(ctx)
}

func where(c seal.Checkpoint) string {
	return fmt.Sprintf("checkpoint of %d leaves, %s", c.Size, c.Time.UTC().Format("2006-01-02T15:04:05Z"))
}

// read takes the rest of the log in.
func (a *audit) read(ctx context.Context) error {
	a.reach()
	for {
		hashes, err := a.hasher.each(ctx, a.Journal, a.report.Records+1, leavesMax, func(l store.Leaf) error {
			return a.replay.apply(l, func(position uint64) (seal.Head, error) { return a.head(ctx, position) }, a.found)
		})
		if err != nil {
			return err
		}
		if len(hashes) == 0 {
			return nil
		}
		for _, h := range hashes {
			a.report.Records++
			a.tree.Add(h)
			if a.block.Add(h); a.block.Size() == seal.Block {
				a.level1 = append(a.level1, a.block.Root())
				a.block = seal.Range{}
			}
			a.reach()
		}
	}
}

// head reads an event's head again.
func (a *audit) head(ctx context.Context, position uint64) (h seal.Head, err error) {
	got := false
	_, err = a.Journal.Leaves(ctx, position, 1, func(l store.Leaf) (err error) {
		got = true
		h, err = seal.ParseHead(bytes.Clone(l.Head))
		return err
	})
	if err == nil && (!got || h.Kind != seal.KindEvent) {
		err = fmt.Errorf("there is no event at position %d: %w", position, store.ErrCorrupt)
	}
	return h, err
}

// reach compares the checkpoints of the tree's present size. Only the first that the log does not lead to is told: all later
// ones differ with it.
func (a *audit) reach() {
	for ; a.next < len(a.checkpoints) && a.checkpoints[a.next].Size == a.tree.Size(); a.next++ {
		c := a.checkpoints[a.next]
		if root := a.tree.Root(); root == c.Root {
			a.proven = c.Size
		} else if !a.mismatched {
			a.mismatched = true
			a.found(Finding{
				What:  fmt.Sprintf("the log does not lead to a signed checkpoint: one of the records %d to %d was changed, added or removed", a.proven+1, c.Size),
				Where: where(c), Position: uint64(a.proven) + 1, Expected: c.Root.String(), Found: root.String(),
			})
		}
	}
}

// tiles compares the stored tree with the one that was derived.
func (a *audit) tiles() error {
	if a.Tiles == nil {
		return nil
	}
	want := a.level1
	for level := 1; level <= 5; level++ {
		n := a.Tiles.Len(level)
		if n > int64(len(want)) {
			a.found(Finding{What: "the stored tree is longer than the log", Where: fmt.Sprintf("level %d", level), Expected: fmt.Sprint(len(want)), Found: fmt.Sprint(n)})
			n = int64(len(want))
		}
		var above []tlog.Hash
		var r seal.Range
		for i := range n {
			have, err := a.Tiles.Hashes(level, i, 1)
			if err != nil && !errors.Is(err, store.ErrCorrupt) {
				return err
			}
			if err != nil || have[0] != want[i] {
				a.tile(level, i, want[i], have, err)
			}
		}
		for _, h := range want {
			if r.Add(h); r.Size() == seal.Block {
				above = append(above, r.Root())
				r = seal.Range{}
			}
		}
		want = above
	}
	return nil
}

func (a *audit) tile(level int, i int64, want tlog.Hash, have [][32]byte, err error) {
	width := int64(seal.Block)
	for range level - 1 {
		width *= seal.Block
	}
	f := Finding{
		What:     fmt.Sprintf("the stored tree differs from the log in the records %d to %d", i*width+1, (i+1)*width),
		Position: uint64(i*width) + 1, Expected: want.String(), //nolint:gosec // not negative
	}
	if err != nil {
		f.Where = err.Error()
	} else {
		f.Where, f.Found = fmt.Sprintf("level %d, hash %d", level, i), tlog.Hash(have[0]).String()
	}
	a.found(f)
}

// invoices compares what was sealed with the invoices in the records.
func (a *audit) invoices(ctx context.Context) error {
	sealed := map[string]bool{}
	first := uint64(math.MaxUint64) // what was closed before it is older than sealing
	for _, s := range a.replay.seals {
		c, err := seal.ParseClose(s.document)
		if err != nil {
			a.found(Finding{What: "a sealed document cannot be read", Position: s.position, Found: err.Error()})
			continue
		}
		first = min(first, c.Position)
		if c.Invoice == "" {
			continue
		}
		sealed[c.Invoice] = true
		if err := a.invoice(ctx, c, s.position); err != nil {
			return err
		}
	}
	for q := (store.Query{Limit: scanPage}); ; {
		page, err := a.Invoices.ListInvoices(ctx, q)
		if err != nil {
			return err
		}
		for i := range page {
			q.Cursor = page[i].ID
			if page[i].Position <= first || sealed[page[i].ID] {
				continue
			}
			at, err := a.Seals.SealedClose(ctx, store.SealedClose{InvoiceID: page[i].ID})
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err != nil || at.Position <= a.report.Records { // else it was sealed while the audit ran
				a.found(Finding{What: "an invoice was never sealed", Where: "invoice " + page[i].ID, Position: page[i].Position})
			}
		}
		if len(page) < scanPage {
			return nil
		}
	}
}

func (a *audit) invoice(ctx context.Context, c seal.Close, position uint64) error {
	inv, err := a.Invoices.Invoice(ctx, c.Invoice)
	if errors.Is(err, store.ErrNotFound) {
		pending, err := a.pending(ctx, c)
		if err == nil && !pending {
			a.found(Finding{What: "a sealed invoice is missing", Where: "invoice " + c.Invoice, Position: position})
		}
		return err
	}
	if err != nil {
		return err
	}
	want, err := json.Marshal(c.Lines)
	if err != nil {
		return err
	}
	have, err := json.Marshal(inv.Lines)
	if err != nil {
		return err
	}
	if !bytes.Equal(want, have) {
		a.found(Finding{What: "an invoice differs from what was sealed", Where: "invoice " + c.Invoice, Position: position, Expected: string(want), Found: string(have)})
	}
	return nil
}

// pending says whether a close is not done yet: it was sealed, and then the process died, or is at it.
func (a *audit) pending(ctx context.Context, c seal.Close) (bool, error) {
	closes, err := a.Invoices.Closes(ctx, c.Subscription)
	return slices.ContainsFunc(closes, func(one store.Close) bool {
		return !one.Done && one.Period.Start.Equal(c.Period.Start) && one.Period.End.Equal(c.Period.End)
	}), err
}
