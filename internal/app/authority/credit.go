package authority

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// Credit is what a customer's usage credits of a meter come to at an instant, by all that the journal knows.
type Credit struct {
	Since          time.Time     // from when on usage burns them; zero: nothing was ever granted
	Used, Reported money.Decimal // since then; Reported came from outside
	Voided         money.Decimal // taken away again since then, of both
	Left           money.Decimal // after Used; below 0: used without a grant, and taken from the next one
	Granted        money.Decimal // what the grants that are active came to at first
}

// credits is how far a counter of credits may go: as far as the journal says it went, and on by what is left. So what holders may
// use without the journal knowing it yet is never more than the balance, whatever was refilled, rolled over, voided or expired.
//
// What was used before a grant ended, and is not in the journal yet, counts against the grants that are there now. So before
// credits are refused, all that was decided is shipped.
//
// What was burned of grants that are gone is told to nobody: before[i] keeps it apart, so that what holders see of the credits is
// what the active grants came to, and what is used of that.
func (w *draw) credits(ctx context.Context, i int, c *counter) (ceiling int64, err error) {
	var cr Credit
	err = w.s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		cr, err = w.s.cfg.Credits(v, w.CustomerID, c.id.Meter, time.UnixMicro(w.Now).UTC())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read credits: %w", err)
	}
	scale, since := w.rules.scale(c.id.Meter), int64(0)
	if !cr.Since.IsZero() {
		since = cr.Since.UnixMicro()
	}
	t := tally{arith.Scaled(cr.Used, scale), arith.Scaled(cr.Reported, scale), arith.Floored(cr.Voided, scale)}
	if c.since != since {
		c.since, c.unleased, c.behind = since, 0, true
	}
	if c.reported, c.voided = t.reported, t.voided; c.behind {
		c.catchUp(t)
		c.behind = false
	}
	c.ahead = arith.Sub(c.total(), c.writtenOff()) > t.used
	left := arith.Floored(cr.Left, scale)
	ceiling = arith.Add(t.used, left)
	w.before[i] = arith.Sub(ceiling, max(left, arith.Floored(cr.Granted, scale)))
	return ceiling, nil
}
