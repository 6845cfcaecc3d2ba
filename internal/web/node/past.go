package node

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// Past is what gateways may ask of the journal.
type Past interface {
	// Known says whether the journal has an event.
	Known(ctx context.Context, source, id string) (bool, error)
	// Used is what was consumed of a meter; an interval without an end has none.
	Used(ctx context.Context, customerID, meter string, in period.Interval) (money.Decimal, error)
}

func (s *Server) past(ctx context.Context, n nodes.Node, in wire.Past) (out wire.PastAnswer, err error) {
	if in.Event != "" {
		out.Known, err = s.cfg.Past.Known(ctx, fmt.Sprintf("gateway/%d", n.Node), in.Event)
		return out, err
	}
	if in.Customer == "" || in.Meter == "" {
		return out, fmt.Errorf("neither an event nor a meter: %w", store.ErrInvalid)
	}
	span := period.Interval{Start: time.UnixMicro(in.From).UTC()}
	if in.To != 0 {
		span.End = time.UnixMicro(in.To).UTC()
	}
	used, err := s.cfg.Past.Used(ctx, in.Customer, in.Meter, span)
	out.Used = used.String()
	return out, err
}
