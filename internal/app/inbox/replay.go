package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Replay says which unmatched events to judge anew. Cause and value are those of the group in which they stood: with a value,
// events of that type, or of that subject for UnknownCustomer, whatever the cause is by now.
type Replay struct {
	Actor  string
	Reason string // empty: "replay"
	Cause  Cause
	Value  string
	Dry    bool   // only count
	Cursor string // Replayed.Next of the call before
}

// Replayed is what became of them.
type Replayed struct {
	Replayed, StillUnmatched int64
	Next                     string // there are more: call again with it; empty: all were looked at
}

// wants says whether an event is to be replayed.
func (q Replay) wants(e meter.Event) bool {
	switch q.Cause {
	case NoSubject:
		return e.Subject == "" && (q.Value == "" || e.Type == q.Value)
	case UnknownCustomer:
		return e.Subject != "" && (q.Value == "" || e.Subject == q.Value)
	case UnknownType, Unreadable, Filtered, Ready:
	}
	return q.Value == "" || e.Type == q.Value
}

// Replay judges unmatched events by today's catalog, customers and aliases, and lets those count that can, at their own time.
// One call looks at 50,000 events and says where to go on. It is safe to repeat. store.ErrInvalid for a bad cursor;
// *ingest.Invalid for an unknown cause.
func (s *Service) Replay(ctx context.Context, q Replay) (out Replayed, err error) {
	if err := check(q.Cause); err != nil {
		return out, err
	}
	if q.Reason == "" {
		q.Reason = "replay of unmatched events"
	}
	out.Next = q.Cursor
	for looked := 0; looked < replayEvents; looked += pageMax {
		page, err := s.scan(ctx, out.Next, pageMax)
		if err != nil {
			return out, err
		}
		replayed, left, err := s.replay(ctx, q, page.Records)
		if err != nil {
			return out, err
		}
		out.Replayed, out.StillUnmatched, out.Next = out.Replayed+replayed, out.StillUnmatched+left, page.Next
		if out.Next == "" {
			break
		}
	}
	if q.Dry || out.Replayed == 0 {
		return out, nil
	}
	detail, err := json.Marshal(map[string]any{"cause": q.Cause, "value": q.Value, "replayed": out.Replayed})
	if err != nil {
		return out, fmt.Errorf("audit detail: %w", err)
	}
	if err := s.cfg.Audit(ctx, q.Actor, "unmatched.replay", string(q.Cause), string(detail)); err != nil {
		return out, fmt.Errorf("%d events were replayed, but not noted in the audit log: %w", out.Replayed, err)
	}
	return out, nil
}

// replay judges one page. Where one of its events cannot be written, each is by itself, and that one is left.
func (s *Service) replay(ctx context.Context, q Replay, page []store.Record) (replayed, left int64, err error) {
	var list []store.Revision
	for _, r := range page {
		if !q.wants(r.Event) {
			continue
		}
		_, resolutions, err := s.cfg.Resolver.Resolve(r.Event)
		if err != nil || len(resolutions) == 0 || r.Erased {
			left++ // Events says which rule its data breaks
			continue
		}
		list = append(list, store.Revision{Source: r.Event.Source, ID: r.Event.ID, Kind: store.Resolve, Resolutions: resolutions, If: r.Revision})
	}
	if q.Dry || len(list) == 0 {
		return int64(len(list)), left, nil
	}
	err = s.write(ctx, q, list)
	if err == nil {
		return int64(len(list)), left, nil
	}
	if !alone(err) {
		return 0, 0, err
	}
	for i := range list {
		switch err := s.write(ctx, q, list[i:i+1]); {
		case err == nil:
			replayed++
		case !alone(err):
			return replayed, left, err
		default:
			left++
		}
	}
	return replayed, left, nil
}

// alone says that an error may be the fault of one event of many: it was revised meanwhile, or a sum would pass the bounds of
// numbers; or that all together are too long.
func alone(err error) bool {
	return errors.Is(err, store.ErrConflict) || errors.Is(err, money.ErrOverflow) || errors.Is(err, store.ErrInvalid)
}

func (s *Service) write(ctx context.Context, q Replay, list []store.Revision) error {
	_, err := s.cfg.Journal.Revise(ctx, store.Revisions{Actor: q.Actor, Reason: q.Reason, At: period.Truncate(s.cfg.Now()), List: list})
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	var ids []string
	for _, v := range list {
		for _, r := range v.Resolutions {
			ids = append(ids, r.CustomerID)
		}
	}
	slices.Sort(ids)
	s.cfg.Counted(slices.Compact(ids))
	return nil
}
