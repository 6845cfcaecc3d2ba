package enforce

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/store"
)

// recover brings an earlier epoch to its end: what it settled is shipped, what it left open is settled and flagged, since its
// request may have been answered, but for what is held by an explicit reservation, and its leases are closed with what the spool
// says was spent. Nothing is truncated before that, so that the room that was set aside for the settlements is there.
func (e *Enforcer) recover(ctx context.Context, leases []store.Lease) error {
	s := &e.ship
	s.recovering = true
	if e.cfg.Torn {
		e.cfg.Log.WarnContext(ctx, "the spool's end was torn; leases of the earlier run stay charged")
	}
	if err := e.Flush(ctx); err != nil {
		return fmt.Errorf("ship the spool of an earlier run: %w", err)
	}
	left, err := e.unfinished(ctx)
	if err != nil {
		return err
	}
	held, settled := 0, int64(0)
	for _, o := range left {
		if o.Held != (record.Key{}) {
			s.book.Ended(o.Epoch, o.Leases, o.Cost, e.cfg.Spool.End()) // its lease's charge stands in for it
			held++
			continue
		}
		if err := e.settleRecovered(&o.Reservation); err != nil {
			return err
		}
		settled++
	}
	if settled > 0 {
		e.stats.recovered.Add(settled)
		e.cfg.Log.WarnContext(ctx, "requests that an earlier run left open were settled", slog.Int64("requests", settled))
		if err := e.cfg.Spool.Sync(ctx); err != nil {
			return fmt.Errorf("sync the spool: %w", err)
		}
	}
	if err := e.Flush(ctx); err != nil {
		return fmt.Errorf("ship recovered requests: %w", err)
	}
	if err := e.closeEarlier(ctx, leases); err != nil {
		return err
	}
	s.recovering, s.bookEpoch = false, e.epoch
	s.ended, s.book = map[record.Key]*endedRequest{}, record.NewBook(e.epoch)
	s.bookBytes.Store(0)
	if err := e.declareEpoch(); err != nil {
		return err
	}
	for _, o := range left {
		if o.Held != (record.Key{}) {
			e.reopen(&o.Reservation)
		}
	}
	if held > 0 {
		if err := e.cfg.Spool.Sync(ctx); err != nil {
			return fmt.Errorf("sync the spool: %w", err)
		}
		e.cfg.Log.InfoContext(ctx, "explicit reservations go on", slog.Int("reservations", held))
	}
	return nil
}

const knownMax = 1000 // requests that are looked up at a time

// unfinished are the open reservations of earlier epochs, oldest first. Those that the journal has only look open, since a power
// cut took their settlement from the spool after it was shipped: they are put to rest.
func (e *Enforcer) unfinished(ctx context.Context) (left []*openRequest, err error) {
	all := slices.SortedFunc(maps.Values(e.ship.open), func(a, b *openRequest) int { return cmp.Compare(a.offset, b.offset) })
	for part := range slices.Chunk(all, knownMax) {
		ids := make([]string, len(part))
		for i, o := range part {
			ids[i] = e.shortID(o.Key).String()
		}
		known, err := e.cfg.Past.Known(ctx, e.source, ids)
		if err != nil {
			return nil, fmt.Errorf("look for open requests in the journal: %w", err)
		}
		for i, o := range part {
			if !known[i] {
				left = append(left, o)
				continue
			}
			if _, err := e.cfg.Spool.Append(0, func(b []byte) []byte { return record.AppendRelease(b, o.Key, 0) }); err != nil {
				return nil, fmt.Errorf("put a shipped request to rest: %w", err)
			}
		}
	}
	return left, nil
}

func (e *Enforcer) settleRecovered(r *record.Reservation) error {
	total := e.lessee.Total(r.CustomerID, r.Meter, r.PeriodStart)
	_, err := e.cfg.Spool.Append(0, func(b []byte) []byte {
		total.Value = addSat(total.Value, r.Cost)
		st := record.Settlement{Key: r.Key, TotalEpoch: e.epoch, Total: total.Value, Flags: uint16(store.Recovered)}
		return st.Append(b)
	})
	if err != nil {
		return fmt.Errorf("settle a request that a crash left open: %w", err)
	}
	return nil
}

// closeEarlier closes the leases of this node's earlier epochs. On the same boot the spool is complete, and says what each was
// spent on. After a power cut its tail may be lost: then a lease stays charged in full, and what is not known to be spent is
// written off, so that nothing can be admitted twice. So is one that the spool does not know, unless its epoch named all.
func (e *Enforcer) closeEarlier(ctx context.Context, open []store.Lease) error {
	book := e.ship.book
	spent := book.Spent()
	backs := make([]authority.Back, 0, len(open))
	for _, l := range open {
		sum, known := spent[record.Counter{CounterKey: l.CounterKey, Epoch: l.Epoch}]
		b := authority.Back{Counter: l.CounterKey, Epoch: l.Epoch, Spent: sum, Closed: true}
		if !known && !book.Whole(l.Epoch) || l.Boot == "" || l.Boot != e.cfg.Boot || e.cfg.Torn {
			b.WrittenOff = max(0, l.Charged-l.Settled-sum)
			e.stats.writtenOff.Add(b.WrittenOff)
		}
		b.Keep = addSat(b.Spent, b.WrittenOff)
		backs = append(backs, b)
	}
	for part := range slices.Chunk(backs, authority.MaxBacks) {
		if err := e.cfg.Authority.Return(ctx, e.cfg.Node, e.epoch, part); err != nil {
			return fmt.Errorf("close leases of an earlier run: %w", err)
		}
	}
	return nil
}
