package govern

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/store"
)

// versionsMax bounds the compiled catalogs kept in memory; any of them can be loaded again.
const versionsMax = 128

// versions keeps compiled catalogs by version.
type versions struct {
	mu   sync.Mutex
	kept map[int64]*catalog.Compiled
}

func (v *versions) get(version int64) *catalog.Compiled {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.kept[version]
}

func (v *versions) put(c *catalog.Compiled) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kept == nil {
		v.kept = map[int64]*catalog.Compiled{}
	}
	if len(v.kept) >= versionsMax {
		for old := range v.kept { // any will do
			delete(v.kept, old)
			break
		}
	}
	v.kept[c.Version] = c
}

func (s *Service) loadCatalogs(ctx context.Context) error {
	latest, err := s.cfg.Records.Catalog(ctx, 0)
	if errors.Is(err, store.ErrNotFound) {
		empty, err := catalog.Compile(0, &catalog.Catalog{})
		if err != nil {
			return fmt.Errorf("compile the empty catalog: %w", err)
		}
		s.current.Store(empty)
		return nil
	}
	if err != nil {
		return fmt.Errorf("load catalog: %w", err)
	}
	c, err := compile(latest)
	if err != nil {
		return err
	}
	s.versions.put(c)
	s.current.Store(c)
	return nil
}

func compile(v store.CatalogVersion) (*catalog.Compiled, error) {
	decoded, faults := declare.Decode(fmt.Sprintf("catalog version %d", v.Version), v.Source)
	if len(faults) > 0 {
		return nil, fmt.Errorf("stored catalog is no longer understood: %w", &CatalogFaults{faults})
	}
	c, err := catalog.Compile(v.Version, decoded)
	if err != nil {
		return nil, fmt.Errorf("compile catalog version %d: %w", v.Version, err)
	}
	return c, nil
}

// Current is the newest catalog; never nil (version 0: empty).
func (s *Service) Current() *catalog.Compiled { return s.current.Load() }

// Version is an older catalog (prices are pinned), loaded and cached. account.ErrNotFound.
func (s *Service) Version(ctx context.Context, v int64) (*catalog.Compiled, error) {
	if c := s.Current(); c.Version == v {
		return c, nil
	}
	if c := s.versions.get(v); c != nil {
		return c, nil
	}
	stored, err := s.Catalog(ctx, v)
	if err != nil {
		return nil, err
	}
	c, err := compile(stored)
	if err != nil {
		return nil, err
	}
	s.versions.put(c)
	return c, nil
}

// Catalog is a version as it was applied, 0 the newest. account.ErrNotFound.
func (s *Service) Catalog(ctx context.Context, version int64) (CatalogVersion, error) {
	v, err := s.cfg.Records.Catalog(ctx, version)
	if err != nil {
		return CatalogVersion{}, absent("catalog version", strconv.FormatInt(version, 10), err)
	}
	return v, nil
}

// Catalogs lists the versions, newest first. The query's cursor is a version.
func (s *Service) Catalogs(ctx context.Context, q Query) ([]CatalogVersion, error) {
	if q.Cursor != "" {
		if _, err := strconv.ParseInt(q.Cursor, 10, 64); err != nil {
			return nil, &Invalid{"/cursor", "must be the last version of the page before", "take it from the answer"}
		}
	}
	list, err := s.cfg.Records.ListCatalogs(ctx, paged(q))
	if err != nil {
		return nil, fmt.Errorf("list catalogs: %w", err)
	}
	return list, nil
}

// CatalogFaults is a refused catalog; errors.As finds it, and errors.Is finds account.ErrInvalid.
type CatalogFaults struct{ Faults []declare.Fault }

func (e *CatalogFaults) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes it an account.ErrInvalid.
func (e *CatalogFaults) Unwrap() error { return account.ErrInvalid }

// CatalogPlan is what applying a file would do.
type CatalogPlan struct {
	CurrentVersion int64
	Changes        []catalog.Change
	Warnings       []string // what follows for subscriptions, and why apply would refuse the file
}

// PlanCatalog diffs a file against the newest version and writes nothing. *CatalogFaults.
func (s *Service) PlanCatalog(ctx context.Context, file string, source []byte) (CatalogPlan, error) {
	next, err := s.decode(ctx, file, source)
	if err != nil {
		return CatalogPlan{}, err
	}
	plan := s.plan(s.Current(), next)
	broken, err := s.broken(ctx, next)
	if err != nil {
		return CatalogPlan{}, err
	}
	plan.Warnings = append(plan.Warnings, broken...)
	refusals, err := s.refusals(ctx, s.Current(), next)
	if err != nil {
		return CatalogPlan{}, err
	}
	for _, r := range refusals {
		plan.Warnings = append(plan.Warnings, "apply will refuse this: "+r)
	}
	return plan, nil
}

// ApplyCatalog stores the next version and makes it current at once; the same content is not a new version.
// What subscriptions stand on cannot go: removing their plan or a meter that they are limited or billed by is account.ErrState.
// So is another aggregation, scale, event, value or filter of a meter that any version had: counters and rollups are in the
// old one. A schema that breaks the earlier one of its type is a fault, unless it is marked. *CatalogFaults.
func (s *Service) ApplyCatalog(ctx context.Context, actor, file string, source []byte) (CatalogVersion, CatalogPlan, error) {
	if err := checkActor(actor); err != nil {
		return CatalogVersion{}, CatalogPlan{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	next, err := s.decode(ctx, file, source)
	if err != nil {
		return CatalogVersion{}, CatalogPlan{}, err
	}
	current := s.Current()
	plan := s.plan(current, next)
	if len(plan.Changes) == 0 {
		if current.Version == 0 {
			return CatalogVersion{}, plan, nil
		}
		v, err := s.Catalog(ctx, current.Version)
		return v, plan, err
	}
	refusals, err := s.refusals(ctx, current, next)
	if err != nil {
		return CatalogVersion{}, plan, err
	}
	if len(refusals) > 0 {
		return CatalogVersion{}, plan, fmt.Errorf("%w: %s", account.ErrState, strings.Join(refusals, "; "))
	}
	v := CatalogVersion{
		Version: current.Version + 1, Source: slices.Clone(source), Digest: sha256.Sum256(source), AppliedAt: s.now(), AppliedBy: actor,
	}
	return v, plan, s.putCatalog(ctx, current, next, v)
}

// putCatalog makes a version durable, then current; writing is held.
func (s *Service) putCatalog(ctx context.Context, current *catalog.Compiled, next *catalog.Catalog, v CatalogVersion) error {
	compiled, err := catalog.Compile(v.Version, next)
	if err != nil {
		return fmt.Errorf("compile catalog: %w", err)
	}
	a, err := s.audit(v.AppliedAt, v.AppliedBy, "catalog.apply", strconv.FormatInt(v.Version, 10), map[string]string{"sha256": hex.EncodeToString(v.Digest[:])})
	if err != nil {
		return err
	}
	if err := s.cfg.Records.PutCatalog(ctx, v, current.Version); errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%w: another catalog was applied at the same time, plan again: %w", account.ErrState, err)
	} else if err != nil {
		return fmt.Errorf("store catalog: %w", err)
	}
	s.versions.put(compiled)
	s.current.Store(compiled)
	s.directory.watch.touch(Touched{Version: v.Version})
	if err := s.cfg.Records.PutAudit(ctx, a); err != nil {
		return fmt.Errorf("catalog version %d is in force, but the audit log does not say so: %w", v.Version, err)
	}
	return nil
}

// plan diffs and says what follows for subscriptions.
func (s *Service) plan(current *catalog.Compiled, next *catalog.Catalog) CatalogPlan {
	plan := CatalogPlan{CurrentVersion: current.Version, Changes: catalog.Diff(current.Catalog, next)}
	subscribers := s.directory.subscribers(s.now())
	for _, p := range next.Plans {
		n := subscribers[p.Key]
		if n == 0 {
			continue
		}
		if changed(plan.Changes, "plans."+p.Key+".prices.") {
			plan.Warnings = append(plan.Warnings, fmt.Sprintf("plan %q: %s keep the prices they began with; new prices are for new ones", p.Key, count(n, "subscription")))
		}
		if changed(plan.Changes, "plans."+p.Key+".limits.") {
			plan.Warnings = append(plan.Warnings, fmt.Sprintf("plan %q: limits change at once for %s; usage so far is kept and not compared with them here", p.Key, count(n, "subscription")))
		}
	}
	return plan
}

func changed(changes []catalog.Change, prefix string) bool {
	return slices.ContainsFunc(changes, func(c catalog.Change) bool { return strings.HasPrefix(c.Path, prefix) })
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// refusals says why next cannot follow current. Subscriptions that are still to come count as well.
func (s *Service) refusals(ctx context.Context, current *catalog.Compiled, next *catalog.Catalog) ([]string, error) {
	var out []string
	used, err := s.used(ctx, current, s.now())
	if err != nil {
		return nil, err
	}
	for _, p := range used.plans {
		n := count(p.subscribers, "active subscription")
		was, _ := current.Plan(p.key)
		is, ok := next.Plan(p.key)
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("plan %q cannot be removed, it has %s", p.key, n))
		case is.Currency != was.Currency:
			out = append(out, fmt.Sprintf("plan %q cannot change from %s to %s, it has %s", p.key, was.Currency.Code(), is.Currency.Code(), n))
		}
	}
	for _, m := range used.meters {
		if _, ok := next.Meter(m.key); !ok {
			out = append(out, fmt.Sprintf("meter %q cannot be removed, plan %q with %s uses it", m.key, m.plan, count(m.subscribers, "active subscription")))
		}
	}
	recounted, err := s.recounted(ctx, current, next)
	return append(out, recounted...), err
}

// decode reads a catalog that is to follow the versions so far. *CatalogFaults.
func (s *Service) decode(ctx context.Context, file string, source []byte) (*catalog.Catalog, error) {
	var failed error
	earlier := func(eventType string) ([]byte, int64, bool) {
		e, version, err := s.earlierType(ctx, eventType)
		if err != nil {
			failed = err
		}
		return e.Schema, version, len(e.Schema) > 0
	}
	next, faults := declare.DecodeAfter(file, source, earlier)
	switch {
	case failed != nil:
		return nil, fmt.Errorf("compare schemas with earlier versions: %w", failed)
	case len(faults) > 0:
		return nil, &CatalogFaults{faults}
	}
	return next, nil
}

// broken says what schemas marked as breaking do to senders.
func (s *Service) broken(ctx context.Context, next *catalog.Catalog) ([]string, error) {
	var out []string
	for _, e := range next.Events {
		if !e.Breaking {
			continue
		}
		was, version, err := s.earlierType(ctx, e.Type)
		if err != nil {
			return nil, fmt.Errorf("compare schemas with earlier versions: %w", err)
		}
		breaks := reading.Breaks(was.Schema, e.Schema)
		if len(breaks) == 0 {
			out = append(out, fmt.Sprintf("event type %q: its schema breaks nothing; take breaking: true out, so that a later break is not missed", e.Type))
			continue
		}
		out = append(out, fmt.Sprintf("event type %q: the schema refuses what version %d took: %s %s", e.Type, version, strings.Join(breaks[0].Place, "."), breaks[0].Message))
	}
	return out, nil
}

// earlierType is an event type as the newest version that had it declares it; a zero one where none had.
func (s *Service) earlierType(ctx context.Context, name string) (catalog.EventType, int64, error) {
	for v := s.Current(); v.Version > 0; {
		if e, ok := v.EventType(name); ok {
			return e, v.Version, nil
		}
		if v.Version == 1 {
			break
		}
		var err error
		if v, err = s.Version(ctx, v.Version-1); err != nil {
			return catalog.EventType{}, 0, err
		}
	}
	return catalog.EventType{}, 0, nil
}

// recounted names the meters of next that an applied version counted in another way. Where a meter was removed in between,
// the version that had it last counts.
func (s *Service) recounted(ctx context.Context, current *catalog.Compiled, next *catalog.Catalog) ([]string, error) {
	var out []string
	left := slices.Clone(next.Meters)
	for v := current; v.Version > 0 && len(left) > 0; {
		left = slices.DeleteFunc(left, func(is catalog.Meter) bool {
			was, ok := v.Meter(is.Key)
			if !ok {
				return false
			}
			if changed := is.Recounts(was); len(changed) > 0 {
				out = append(out, fmt.Sprintf("meter %q cannot change its %s, version %d counts in the old way; declare another meter, such as %q",
					is.Key, strings.Join(changed, " and "), v.Version, free(next, is.Key)))
			}
			return true
		})
		if v.Version == 1 {
			break
		}
		var err error
		if v, err = s.Version(ctx, v.Version-1); err != nil {
			return nil, fmt.Errorf("compare meters with earlier versions: %w", err)
		}
	}
	return out, nil
}

// free is a key for a meter that is to stand beside the one with this key.
func free(c *catalog.Catalog, key string) string {
	const longest = 60 // leaves room for the number
	key = key[:min(len(key), longest)]
	for n := 2; ; n++ {
		name := fmt.Sprintf("%s_%d", key, n)
		if _, taken := c.Meter(name); !taken {
			return name
		}
	}
}

// usage is what lasting subscriptions stand on, sorted by key.
type usage struct {
	plans  []planUse
	meters []meterUse
}

type planUse struct {
	key         string
	subscribers int
}

type meterUse struct {
	key, plan   string // plan is the first that uses it
	subscribers int    // of that plan
}

func (s *Service) used(ctx context.Context, current *catalog.Compiled, now time.Time) (usage, error) {
	type pinned struct {
		plan    string
		version int64
	}
	plans, meters, pins := s.directory.subscribers(now), map[string]string{}, map[pinned]bool{}
	for _, sub := range s.directory.lasting(now) {
		pins[pinned{sub.Plan, sub.CatalogVersion}] = true
	}
	use := func(meterKey, plan string) {
		if by, ok := meters[meterKey]; meterKey != "" && (!ok || plan < by) {
			meters[meterKey] = plan
		}
	}
	for pin := range pins {
		v, err := s.Version(ctx, pin.version)
		if err != nil {
			return usage{}, fmt.Errorf("prices of plan %q: %w", pin.plan, err)
		}
		priced, _ := v.Plan(pin.plan)
		for _, p := range priced.Prices {
			use(p.Meter, pin.plan)
		}
		limited, _ := current.Plan(pin.plan)
		for _, l := range limited.Limits {
			use(l.Meter, pin.plan)
		}
		for _, p := range limited.Prices {
			use(p.Meter, pin.plan)
		}
	}
	var out usage
	for key, n := range plans {
		out.plans = append(out.plans, planUse{key, n})
	}
	for key, plan := range meters {
		out.meters = append(out.meters, meterUse{key, plan, plans[plan]})
	}
	slices.SortFunc(out.plans, func(a, b planUse) int { return strings.Compare(a.key, b.key) })
	slices.SortFunc(out.meters, func(a, b meterUse) int { return strings.Compare(a.key, b.key) })
	return out, nil
}
