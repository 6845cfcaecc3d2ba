// Package inbox shows the events that were kept but count for nothing, grouped by why, and replays them once the cause is mended.
package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of one call.
const (
	groupsMax    = 1000    // told apart
	groupEvents  = 200_000 // looked at for groups
	suggestMax   = 100     // groups that get a suggestion
	replayEvents = 50_000  // looked at by one replay
	pageUsual    = 100
	pageMax      = 1000
)

// Cause is why an event counts for nothing.
type Cause string

// The causes. The first three are found in this order; of the others the cause is mended, or lies in the data.
const (
	UnknownType     Cause = "unknown_type"     // no meter reads its type
	NoSubject       Cause = "no_subject"       // it names no customer
	UnknownCustomer Cause = "unknown_customer" // its subject is no customer
	Unreadable      Cause = "unreadable"       // a meter reads its type, but its data breaks a rule
	Filtered        Cause = "filtered"         // the filters of all meters that read its type leave it out
	Ready           Cause = "ready"            // it would count: replay it
)

// Causes are all, in the order in which they are looked for.
func Causes() []Cause {
	return []Cause{UnknownType, NoSubject, UnknownCustomer, Unreadable, Filtered, Ready}
}

// Directory is what the inbox needs to know; govern.Service fits.
type Directory interface {
	Current() *catalog.Compiled
	Customer(ref string) (account.Customer, bool)
	Customers() []account.Customer
	AliasType(eventType string) string
	AliasSubject(subject string) string
}

// Resolver finds what an event counts for by today's catalog; ingest.Service fits.
type Resolver interface {
	Resolve(e meter.Event) (meter.Event, []meter.Resolution, error)
}

// Config of a Service. Counted may be nil.
type Config struct {
	Directory Directory
	Resolver  Resolver
	Journal   store.Journal
	Now       func() time.Time // business clock
	// Audit notes a replay; detail is JSON.
	Audit func(ctx context.Context, actor, action, target, detail string) error
	// Counted is told whose usage changed.
	Counted func(customerIDs []string)
}

// Service is safe for concurrent use.
type Service struct {
	cfg Config

	count    atomic.Int64
	ticking  sync.Mutex // guards what follows: where a round of counting is
	cursor   string
	counting int64
	counted  uint64 // journal position of the last ended round
	begun    uint64 // and of this one
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Resolver == nil || cfg.Journal == nil || cfg.Now == nil || cfg.Audit == nil {
		return nil, errors.New("inbox: directory, resolver, journal, clock and audit are required")
	}
	if cfg.Counted == nil {
		cfg.Counted = func([]string) {}
	}
	return &Service{cfg: cfg}, nil
}

// Group is the events with one cause and value.
type Group struct {
	Cause           Cause
	Value           string // the type, or the subject of UnknownCustomer
	Events          int64
	First, Last     time.Time // of receipt
	Source, Example string    // source and id of the newest one
	Suggestion      string    // what may have been meant; a type, or a customer's key
}

// Groups are the most frequent ones.
type Groups struct {
	List     []Group
	Events   int64 // looked at
	Complete bool  // false: there are more events, or more groups, than one call tells apart
}

type groupKey struct {
	cause Cause
	value string
}

// Groups looks at the newest events, at most 200,000, and tells at most limit groups (0: 100), the largest first. Filtered ones
// are as they should be and left out.
func (s *Service) Groups(ctx context.Context, limit int) (Groups, error) {
	out := Groups{Complete: true}
	found := map[groupKey]*Group{}
	cursor := ""
	for {
		page, err := s.scan(ctx, cursor, pageMax)
		if err != nil {
			return Groups{}, err
		}
		for _, r := range page.Records {
			out.Events++
			cause, value := s.cause(r.Event)
			if cause == Filtered {
				continue
			}
			g := found[groupKey{cause, value}]
			if g == nil {
				if len(found) >= groupsMax {
					out.Complete = false
					continue
				}
				g = &Group{Cause: cause, Value: value, Last: r.ReceivedAt, Source: r.Event.Source, Example: r.Event.ID}
				found[groupKey{cause, value}] = g
			}
			g.Events++
			g.First = r.ReceivedAt
		}
		if cursor = page.Next; cursor == "" {
			break
		}
		if out.Events >= groupEvents {
			out.Complete = false
			break
		}
	}
	for _, g := range found {
		out.List = append(out.List, *g)
	}
	slices.SortFunc(out.List, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Value, b.Value))
	})
	if limit <= 0 {
		limit = pageUsual
	}
	if len(out.List) > limit {
		out.List, out.Complete = out.List[:limit], false
	}
	s.suggest(out.List)
	return out, nil
}

func (s *Service) scan(ctx context.Context, cursor string, limit int) (store.Page, error) {
	page, err := s.cfg.Journal.Scan(ctx, store.Scan{Unmatched: true, NewestFirst: true, Cursor: cursor, Limit: limit})
	if err != nil {
		return store.Page{}, fmt.Errorf("read unmatched events: %w", err)
	}
	return page, nil
}

// cause tells why an event counts for nothing today.
func (s *Service) cause(e meter.Event) (Cause, string) {
	eventType := s.cfg.Directory.AliasType(e.Type)
	if !slices.ContainsFunc(s.cfg.Directory.Current().Meters, func(m catalog.Meter) bool { return m.Event == e.Type || m.Event == eventType }) {
		return UnknownType, e.Type
	}
	if e.Subject == "" {
		return NoSubject, e.Type
	}
	_, direct := s.cfg.Directory.Customer(e.Subject)
	if _, ok := s.cfg.Directory.Customer(s.cfg.Directory.AliasSubject(e.Subject)); !ok && !direct {
		return UnknownCustomer, e.Subject
	}
	switch _, list, err := s.cfg.Resolver.Resolve(e); {
	case err != nil:
		return Unreadable, e.Type
	case len(list) == 0:
		return Filtered, e.Type
	}
	return Ready, e.Type
}

// suggest finds what may have been meant.
func (s *Service) suggest(list []Group) {
	var types, keys, customers []string
	byKey := map[string]string{} // event type by meter
	for _, m := range s.cfg.Directory.Current().Meters {
		types, keys = append(types, m.Event), append(keys, m.Key)
		byKey[m.Key] = m.Event
	}
	for i := range list[:min(len(list), suggestMax)] {
		switch g := &list[i]; g.Cause {
		case UnknownType:
			if g.Suggestion = catalog.Suggest(g.Value, types); g.Suggestion == "" {
				g.Suggestion = byKey[catalog.Suggest(g.Value, keys)]
			}
		case UnknownCustomer:
			if customers == nil {
				for _, c := range s.cfg.Directory.Customers() {
					customers = append(customers, c.Key)
				}
			}
			g.Suggestion = catalog.Suggest(g.Value, customers)
		case NoSubject, Unreadable, Filtered, Ready:
		}
	}
}

// Query asks for unmatched events.
type Query struct {
	Cause  Cause // empty: all
	Value  string
	Cursor string
	Limit  int // 0: 100, at most 1000
}

// Event is an unmatched event and why it is so. Rule says what is wrong with an unreadable one.
type Event struct {
	store.Record
	Cause Cause
	Rule  string
}

// Events lists unmatched events, newest first, by their cause of today; Filtered ones only when they are asked for. A page may hold fewer than the limit and yet have a next
// one. store.ErrInvalid for a bad cursor; *ingest.Invalid for an unknown cause.
func (s *Service) Events(ctx context.Context, q Query) (list []Event, next string, err error) {
	if err := check(q.Cause); err != nil {
		return nil, "", err
	}
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	page, err := s.scan(ctx, q.Cursor, min(q.Limit, pageMax))
	if err != nil {
		return nil, "", err
	}
	for _, r := range page.Records {
		cause, value := s.cause(r.Event)
		if q.Cause == "" && cause == Filtered || q.Cause != "" && cause != q.Cause || q.Value != "" && value != q.Value {
			continue
		}
		e := Event{Record: r, Cause: cause}
		if cause == Unreadable {
			if _, _, err := s.cfg.Resolver.Resolve(r.Event); err != nil {
				e.Rule = err.Error()
			}
		}
		list = append(list, e)
	}
	return list, page.Next, nil
}

func check(c Cause) error {
	if c == "" || slices.Contains(Causes(), c) {
		return nil
	}
	names := make([]string, 0, len(Causes()))
	for _, known := range Causes() {
		names = append(names, string(known))
	}
	return &ingest.Invalid{Pointer: "/cause", Rule: "is not a cause", Fix: "use one of " + strings.Join(names, ", ")}
}
