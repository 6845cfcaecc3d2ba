package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// Bounds of what waits to be reported.
const (
	noticesWaiting = 4096
	refundsWaiting = 1 << 17
)

// Reporter brings what the gateway noticed to the server: thresholds that were passed, and sums of what was given back. Notice may be
// called from anywhere, Tick from one goroutine at a time.
type Reporter struct {
	client *Client
	lost   atomic.Int64 // notices and refunds that there was no room for, or that the server did not take

	mu      sync.Mutex // guards notices
	notices []enforce.Notice

	ticking sync.Mutex // guards all below
	seq     uint64
	pending *wire.Report // sent and not answered
	refunds []wire.Refund
	dropped int64 // refunds to be told as lost
}

// NewReporter reports by a client, which must have begun when the first Tick comes.
func NewReporter(c *Client) *Reporter { return &Reporter{client: c} }

// Notice queues one. It does not block: when too many wait, it is dropped and counted.
func (r *Reporter) Notice(n enforce.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notices) >= noticesWaiting {
		r.lost.Add(1)
		return
	}
	r.notices = append(r.notices, n)
}

// Lost counts what there was no room for, or what the server would not take.
func (r *Reporter) Lost() int64 { return r.lost.Load() }

// Tick reports what waits and what refunds adds to it. An answer that was lost has the same report sent again. more: there is more
// to tell. authority.ErrUnreachable: it waits.
func (r *Reporter) Tick(ctx context.Context, refunds func() ([]enforce.Refund, int64)) (more bool, err error) {
	r.ticking.Lock()
	defer r.ticking.Unlock()
	list, lost := refunds()
	r.dropped += lost
	for _, x := range wire.RefundsOf(list) {
		if len(r.refunds) >= refundsWaiting {
			r.dropped += x.Count
			r.lost.Add(x.Count)
			continue
		}
		r.refunds = append(r.refunds, x)
	}
	if r.pending == nil && !r.next() {
		return false, nil
	}
	err = r.client.call(ctx, wire.PathReports, r.client.cfg.CallTimeout, r.pending, &struct{}{})
	switch {
	case errors.Is(err, authority.ErrUnreachable):
		return false, err
	case err != nil: // it never will be taken
		n := int64(len(r.pending.Notices))
		for _, x := range r.pending.Refunds {
			n += x.Count
		}
		r.lost.Add(n)
		r.pending = nil
		return false, fmt.Errorf("%d notices and refunds are lost: %w", n, err)
	}
	r.pending = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.notices) > 0 || len(r.refunds) > 0, nil
}

// next makes the next report, if there is anything to tell.
func (r *Reporter) next() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, m := min(len(r.notices), wire.NoticesMax), min(len(r.refunds), wire.RefundsMax)
	if n == 0 && m == 0 && r.dropped == 0 {
		return false
	}
	r.seq++
	r.pending = &wire.Report{Epoch: r.client.Subkey().Epoch, Seq: r.seq, Notices: r.notices[:n:n], Refunds: r.refunds[:m:m], Lost: r.dropped}
	r.dropped = 0
	if r.notices = r.notices[n:]; len(r.notices) == 0 {
		r.notices = nil
	}
	if r.refunds = r.refunds[m:]; len(r.refunds) == 0 {
		r.refunds = nil
	}
	return true
}
