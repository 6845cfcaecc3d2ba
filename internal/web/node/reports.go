package node

import (
	"context"
	"fmt"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// Reports takes what gateways noticed. A nil function drops its part.
type Reports struct {
	// Notice is told of a threshold, perhaps again after a restart; it must not block.
	Notice func(enforce.Notice)
	// Refunds takes sums of what a gateway gave back; lost counts what stands in no line. After an error the same come again.
	Refunds func(ctx context.Context, node uint16, list []enforce.Refund, lost int64) error
}

// reported is the last report of a node that was taken.
type reported struct {
	epoch uint32
	seq   uint64
}

// report takes each report once in a run of the server. What is about a customer that there is not is dropped.
func (s *Server) report(ctx context.Context, n nodes.Node, in wire.Report) (out none, err error) {
	if err := in.Check(); err != nil {
		return out, err
	}
	sums, err := in.Sums()
	if err != nil {
		return out, err
	}
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.mu.Lock()
	epoch := s.epochs[n.Node]
	s.mu.Unlock()
	last := s.reported[n.Node]
	if in.Epoch < epoch || in.Epoch < last.epoch {
		return out, fmt.Errorf("a report of run %d: %w", in.Epoch, authority.ErrEpoch)
	}
	if in.Epoch == last.epoch && in.Seq <= last.seq {
		return out, nil
	}
	known := func(customerID string) bool {
		_, ok := s.cfg.Directory.PictureOf(customerID, s.cfg.Now())
		return ok
	}
	if s.cfg.Reports.Refunds != nil {
		some := sums[:0]
		for _, r := range sums {
			if known(r.CustomerID) {
				some = append(some, r)
			}
		}
		if len(some) > 0 || in.Lost > 0 {
			if err := s.cfg.Reports.Refunds(ctx, n.Node, some, in.Lost); err != nil {
				return out, err
			}
		}
	}
	if s.cfg.Reports.Notice != nil {
		for _, x := range in.Notices {
			if known(x.CustomerID) {
				s.cfg.Reports.Notice(x)
			}
		}
	}
	s.reported[n.Node] = reported{in.Epoch, in.Seq}
	return out, nil
}
