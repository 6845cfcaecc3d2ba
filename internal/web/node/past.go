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
	// Known says of each event id of a source whether the journal has it.
	Known(ctx context.Context, source string, ids []string) ([]bool, error)
	// Used is what was consumed of a meter; an interval without an end has none.
	Used(ctx context.Context, customerID, meter string, in period.Interval) (money.Decimal, error)
}

func (s *Server) past(ctx context.Context, n nodes.Node, in wire.Past) (out wire.PastAnswer, err error) {
	if len(in.Events) > wire.EventsMax {
		return out, fmt.Errorf("%d events at once: %w", len(in.Events), store.ErrInvalid)
	}
	if len(in.Events) > 0 {
		out.Known, err = s.cfg.Past.Known(ctx, fmt.Sprintf("gateway/%d", n.Node), in.Events)
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
