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

// Anew says that another run of the authority answers from now on. It knows nothing of what lives in memory only, and takes it for used
// up until that has lapsed: till then it lets those who ask have on what they hold, and later no more.
func (l *Lessee) Anew() { l.anew.Add(1) }

// heard tells whether what was told in a span is good.
func (l *Lessee) heard(span uint64) bool { return span == l.span.Load() && l.mono() < l.validTo.Load() }

// good tells whether what a counter was told last may still be used.
func (l *Lessee) good(ctr *counter) bool {
	return !ctr.lapses || l.heard(ctr.span) && ctr.anew == l.anew.Load()
}

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

// retell tells the authority which requests run, after what it knew of them has lapsed there, and another run of it: their places are
// taken until they end.
func (l *Lessee) retell(ctx context.Context) error {
	span, run := l.span.Load(), l.anew.Load()
	if l.retold.Load() == span+run || l.mono() < l.down.Load() {
		return nil
	}
	var backs []authority.Back
	var told []returned
	for _, c := range l.all() {
		c.mu.Lock()
		for _, ctr := range c.counters {
			if ctr.id.class != atOnce || ctr.asking || ctr.leaving || ctr.known && ctr.span == span && ctr.anew == run || len(backs) == authority.MaxBacks {
				continue
			}
			if ctr.known && ctr.span != span {
				l.lapse(ctr)
				c.gen++
			}
			if n := ctr.first().Consumed - ctr.base; n > 0 {
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
	if span != l.span.Load() || run != l.anew.Load() {
		return nil // once more
	}
	for _, r := range told {
		r.c.mu.Lock()
		if r.ctr.said == r.said { // of what it holds beyond that it is asked before it is used
			r.ctr.known, r.ctr.ready, r.ctr.lapses, r.ctr.span, r.ctr.anew = true, false, true, span, run
			r.c.gen++
		}
		r.c.mu.Unlock()
	}
	if len(backs) < authority.MaxBacks {
		l.retold.Store(span + run)
	}
	return nil
}
