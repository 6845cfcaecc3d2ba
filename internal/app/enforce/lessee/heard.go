package lessee

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
)

// hear notes that a call which was sent at an instant has been answered: it renews for a time all that lives in memory.
func (l *Lessee) hear(sent int64, validFor time.Duration) {
	if validFor > 0 {
		l.lasts.Store(int64(validFor))
	}
	lasts := l.lasts.Load()
	if lasts == 0 || l.mono()-sent > int64(authority.RenewWithin) {
		return
	}
	for {
		was := l.validTo.Load()
		if sent+lasts <= was {
			return
		}
		if l.mono() >= was { // what was held before has lapsed
			l.span.Add(1)
		}
		if l.validTo.CompareAndSwap(was, sent+lasts) {
			return
		}
	}
}

// Anew says that another run of the authority answers from now on. What lives in memory only it knows nothing of: that has lapsed.
func (l *Lessee) Anew() {
	l.anew.Add(1)
	l.span.Add(1)
}

// heard tells whether what was told in a span is good.
func (l *Lessee) heard(span uint64) bool { return span == l.span.Load() && l.mono() < l.validTo.Load() }

// renew has a call made when leases in memory would lapse before long.
func (l *Lessee) renew(ctx context.Context) error {
	if err := l.retell(ctx); err != nil {
		return err
	}
	lasts := l.lasts.Load()
	sent := l.mono()
	if lasts == 0 || l.validTo.Load()-sent > lasts/renewPart || sent < l.down.Load() {
		return nil
	}
	if err := l.cfg.Authority.Return(ctx, l.cfg.Node, l.cfg.Epoch, nil); err != nil {
		l.unreachable(err)
		return fmt.Errorf("renew leases: %w", err)
	}
	l.hear(sent, 0)
	return nil
}

const renewPart = 2 // of their time: then they are renewed

// retell tells the authority which requests run, after what it knew of them has lapsed there: their places are taken until they end.
func (l *Lessee) retell(ctx context.Context) error {
	span := l.span.Load()
	if l.retold.Load() == span || l.mono() < l.down.Load() {
		return nil
	}
	var backs []authority.Back
	var told []returned
	all := true // that run are told of, or known there
	for _, c := range l.all() {
		c.mu.Lock()
		for _, ctr := range c.counters {
			if ctr.id.class != atOnce || ctr.known && ctr.span == span {
				continue
			}
			if ctr.asking || ctr.leaving || len(backs) == authority.MaxBacks { // once more
				all = all && ctr.first().Consumed == 0
				continue
			}
			if ctr.known {
				l.lapse(c, ctr)
			}
			if n := ctr.first().Consumed; n > 0 {
				ctr.said = l.seq.Add(1)
				backs = append(backs, authority.Back{Counter: ctr.key, Kind: ctr.limit.Kind, Seq: ctr.said, Spent: n, Keep: n})
				told = append(told, returned{c: c, ctr: ctr, said: ctr.said})
			}
		}
		c.mu.Unlock()
	}
	if len(backs) > 0 {
		sent := l.mono()
		if err := l.cfg.Authority.Return(ctx, l.cfg.Node, l.cfg.Epoch, backs); err != nil {
			l.unreachable(err)
			return fmt.Errorf("tell which requests run: %w", err)
		}
		l.hear(sent, 0)
	}
	if span != l.span.Load() {
		return nil // once more
	}
	for _, r := range told {
		r.c.mu.Lock()
		if r.ctr.said == r.said {
			r.ctr.known, r.ctr.span, r.ctr.lapses = true, span, true
		}
		r.c.mu.Unlock()
	}
	if all {
		l.retold.Store(span)
	}
	return nil
}
