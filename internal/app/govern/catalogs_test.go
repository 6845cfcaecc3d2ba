package govern_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

func replace(t *testing.T, was, is string) string {
	t.Helper()
	if !strings.Contains(plans, was) {
		t.Fatalf("%q is not in the catalog", was)
	}
	return strings.Replace(plans, was, is, 1)
}

func TestApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if c := w.Current(); c == nil || c.Version != 0 || len(c.Plans) != 0 {
		t.Fatalf("at first: %+v", c)
	}
	if _, err := w.Catalog(t.Context(), 0); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no catalog yet: %v", err)
	}
	if v, plan, err := w.ApplyCatalog(t.Context(), "op", "empty.yaml", []byte("tallystick: 1\n")); err != nil || v.Version != 0 || len(plan.Changes) != 0 {
		t.Errorf("nothing on nothing: %+v, %+v, %v", v, plan, err)
	}
	v := w.apply(plans)
	if v.Version != 1 || v.Digest != sha256.Sum256([]byte(plans)) || v.AppliedBy != "op" || !v.AppliedAt.Equal(start) || string(v.Source) != plans {
		t.Errorf("version %+v", v)
	}
	same, plan, err := w.ApplyCatalog(t.Context(), "other", "plans.yaml", []byte("# a comment\n"+plans))
	if err != nil || same.Version != 1 || same.AppliedBy != "op" || len(plan.Changes) != 0 || plan.CurrentVersion != 1 {
		t.Errorf("the same content: %+v, %+v, %v", same, plan, err)
	}
	dearer := replace(t, "0.0004", "0.0005")
	if plan, err = w.PlanCatalog(t.Context(), "plans.yaml", []byte(dearer)); err != nil || len(plan.Changes) != 1 || w.Current().Version != 1 {
		t.Errorf("plan: %+v, %v", plan, err)
	}
	if v = w.apply(dearer); v.Version != 2 || w.Current().Version != 2 {
		t.Errorf("version %d, current %d", v.Version, w.Current().Version)
	}
	for _, s := range []*govern.Service{w.Service, w.open()} {
		if s.Current().Version != 2 {
			t.Errorf("current is %d", s.Current().Version)
		}
		for version, amount := range map[int64]string{1: "0.0004", 2: "0.0005"} {
			c, err := s.Version(t.Context(), version)
			if err != nil {
				t.Fatal(err)
			}
			if p, _ := c.Plan("pro"); c.Version != version || p.Prices[1].Tiers[0].UnitAmount.String() != amount {
				t.Errorf("version %d costs %s", version, p.Prices[1].Tiers[0].UnitAmount)
			}
			if again, err := s.Version(t.Context(), version); err != nil || again != c {
				t.Errorf("version %d is not kept", version)
			}
		}
		if _, err := s.Version(t.Context(), 3); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("version 3: %v", err)
		}
	}
	list, err := w.Catalogs(t.Context(), govern.Query{})
	if err != nil || len(list) != 2 || list[0].Version != 2 {
		t.Errorf("list: %+v, %v", list, err)
	}
	if list, err = w.Catalogs(t.Context(), govern.Query{Cursor: "2"}); err != nil || len(list) != 1 {
		t.Errorf("second page: %+v, %v", list, err)
	}
	_, err = w.Catalogs(t.Context(), govern.Query{Cursor: "x"})
	w.wantInvalid(err, "/cursor", "version")
}

func TestFaultsOfACatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bad := []byte(replace(t, "meter: tokens, model", "meter: token, modl"))
	_, planned := w.PlanCatalog(t.Context(), "plans.yaml", bad)
	_, _, applied := w.ApplyCatalog(t.Context(), "op", "plans.yaml", bad)
	for _, err := range []error{planned, applied} {
		var faults *govern.CatalogFaults
		if !errors.As(err, &faults) || !errors.Is(err, account.ErrInvalid) || len(faults.Faults) == 0 || !strings.Contains(err.Error(), "plans.yaml:15:37:") {
			t.Errorf("got %v", err)
		}
	}
	if w.Current().Version != 0 {
		t.Error("a faulty catalog was applied")
	}
}

func TestWhatSubscriptionsStandOnStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	for _, key := range []string{"a", "b"} {
		w.customer(key)
		w.subscribe(key, "pro")
	}
	w.customer("c")
	if _, err := w.CreateSubscription(t.Context(), "op", govern.NewSubscription{Customer: "c", Plan: "free", Start: start.AddDate(0, 1, 0)}); err != nil {
		t.Fatal(err)
	}
	free := plans[strings.Index(plans, "  - key: free"):strings.Index(plans, "  - key: pro")]
	pro := plans[strings.Index(plans, "  - key: pro"):strings.Index(plans, "  - key: euro")]
	priced := "      - {key: tokens, meter: tokens, model: graduated, every: month, tiers: [{unit_amount: \"0.0004\"}]}\n"
	tokens := "  - {key: tokens, event: completion, aggregation: sum, value: data.tokens, scale: 2}\n"
	for name, tc := range map[string]struct {
		source string
		want   string
	}{
		"a plan in force":        {replace(t, pro, ""), `plan "pro" cannot be removed, it has 2 active subscriptions`},
		"a plan to come":         {replace(t, free, ""), `plan "free" cannot be removed, it has 1 active subscription`},
		"its currency":           {replace(t, "key: pro\n    currency: USD", "key: pro\n    currency: JPY"), `plan "pro" cannot change from USD to JPY`},
		"its meter":              {strings.Replace(replace(t, tokens, ""), priced, "", 1), `meter "tokens" cannot be removed, plan "pro" with 2 active subscriptions uses it`},
		"its meter's scale":      {replace(t, "scale: 2", "scale: 3"), `meter "tokens" cannot change its scale, version `},
		"a limit's aggregation":  {replace(t, "event: request, aggregation: count", "event: request, aggregation: sum, value: data.n"), `meter "api_calls" cannot change`},
		"nobody's plan":          {replace(t, "  - key: euro\n    currency: EUR\n", ""), ""},
		"nobody's meter":         {replace(t, "  - {key: spare, event: spare, aggregation: count}\n", ""), ""},
		"nobody's meter's scale": {replace(t, "event: spare, aggregation: count", "event: spare, aggregation: sum, value: data.n, scale: 1"), `meter "spare" cannot change its aggregation and scale and value, version `},
		"a meter's event":        {replace(t, "event: completion", "event: answer"), `meter "tokens" cannot change its event, version `},
		"a meter's value":        {replace(t, "data.tokens", "data.usage.tokens"), `declare another meter, such as "tokens_2"`},
		"a meter's filter":       {replace(t, "scale: 2", "scale: 2, filter: {data.region: eu}"), `meter "tokens" cannot change its filter, version `},
		"a custom meter":         {replace(t, "aggregation: sum, value: data.tokens", "aggregation: custom, value: event.data.tokens"), `meter "tokens" cannot change its aggregation and value, version `},
		"a unit":                 {replace(t, "scale: 2", "scale: 2, unit: token"), ""},
	} {
		plan, err := w.PlanCatalog(t.Context(), "plans.yaml", []byte(tc.source))
		if err != nil {
			t.Errorf("%s: plan: %v", name, err)
			continue
		}
		warned := strings.Join(plan.Warnings, "\n")
		_, _, err = w.ApplyCatalog(t.Context(), "op", "plans.yaml", []byte(tc.source))
		if tc.want == "" {
			if err != nil || strings.Contains(warned, "refuse") {
				t.Errorf("%s: %v, warned %q", name, err, warned)
			}
			w.apply(plans)
			continue
		}
		if !errors.Is(err, account.ErrState) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(warned, tc.want) {
			t.Errorf("%s: %v, warned %q, want %q", name, err, warned, tc.want)
		}
	}
}

// TestPinnedPricesKeepTheirMeter: the newest catalog charges it no more, but subscriptions that began earlier still do.
func TestPinnedPricesKeepTheirMeter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	w.customer("a")
	w.subscribe("a", "pro")
	unpriced := replace(t, "      - {key: tokens, meter: tokens, model: graduated, every: month, tiers: [{unit_amount: \"0.0004\"}]}\n", "")
	w.apply(unpriced)
	for _, s := range []*govern.Service{w.Service, w.open()} {
		_, _, err := s.ApplyCatalog(t.Context(), "op", "plans.yaml", []byte(strings.Replace(unpriced, "scale: 2", "scale: 1", 1)))
		if !errors.Is(err, account.ErrState) || !strings.Contains(err.Error(), `"tokens"`) {
			t.Errorf("a pinned meter's scale: %v", err)
		}
	}
}

// TestAMeterNeverCountsInAnotherWay: neither at once nor after it was away, and after a restart too.
func TestAMeterNeverCountsInAnotherWay(t *testing.T) {
	t.Parallel()
	const spare = "  - {key: spare, event: spare, aggregation: count}\n"
	w := newWorld(t)
	w.apply(plans)
	w.apply(replace(t, spare, ""))
	w.apply(replace(t, spare, "  - {key: extra, event: spare, aggregation: count}\n"))
	sums := replace(t, spare, "  - {key: spare, event: spare, aggregation: sum, value: data.n}\n")
	for _, s := range []*govern.Service{w.Service, w.open()} {
		plan, err := s.PlanCatalog(t.Context(), "plans.yaml", []byte(sums))
		if err != nil || !strings.Contains(strings.Join(plan.Warnings, "\n"), `refuse this: meter "spare" cannot change its aggregation and scale and value, version 1`) {
			t.Errorf("plan: %q, %v", plan.Warnings, err)
		}
		_, _, err = s.ApplyCatalog(t.Context(), "op", "plans.yaml", []byte(sums))
		if !errors.Is(err, account.ErrState) || !strings.Contains(err.Error(), "declare another meter") {
			t.Errorf("apply: %v", err)
		}
	}
	w.apply(plans) // it comes back as it counted
	if v := w.Current().Version; v != 4 {
		t.Errorf("version %d", v)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(plans)
	changed := strings.Replace(replace(t, "0.0004", "0.0005"), `quota: "100"`, `quota: "50"`, 1)
	if plan, err := w.PlanCatalog(t.Context(), "plans.yaml", []byte(changed)); err != nil || len(plan.Changes) != 2 || len(plan.Warnings) != 0 {
		t.Errorf("without subscriptions: %+v, %v", plan, err)
	}
	w.customer("a")
	w.subscribe("a", "pro")
	w.customer("b")
	w.subscribe("b", "free")
	plan, err := w.PlanCatalog(t.Context(), "plans.yaml", []byte(changed))
	if err != nil || len(plan.Warnings) != 2 || !strings.Contains(plan.Warnings[0], `plan "free": limits change at once for 1 subscription`) ||
		!strings.Contains(plan.Warnings[1], `plan "pro": 1 subscription keep`) {
		t.Errorf("warnings %q, %v", plan.Warnings, err)
	}
}

// broken are records that lose a race or fail.
type broken struct {
	govern.Records
	put, audit error
}

func (b broken) PutCatalog(ctx context.Context, v store.CatalogVersion, expected int64) error {
	if b.put != nil {
		return b.put
	}
	return b.Records.PutCatalog(ctx, v, expected)
}

func (b broken) PutAudit(ctx context.Context, a store.Audit) error {
	if b.audit != nil {
		return b.audit
	}
	return b.Records.PutAudit(ctx, a)
}

func TestFailuresOfTheRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	open := func(b broken) *govern.Service {
		b.Records = w.records
		cfg := w.config()
		cfg.Records = b
		s, err := govern.New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(broken{put: fmt.Errorf("lost: %w", store.ErrConflict)})
	if _, _, err := s.ApplyCatalog(t.Context(), "op", "f", []byte(plans)); !errors.Is(err, account.ErrState) || s.Current().Version != 0 {
		t.Errorf("a lost race: %v, current %d", err, s.Current().Version)
	}
	s = open(broken{put: store.ErrFull})
	if _, _, err := s.ApplyCatalog(t.Context(), "op", "f", []byte(plans)); !errors.Is(err, store.ErrFull) || s.Current().Version != 0 {
		t.Errorf("a full disk: %v, current %d", err, s.Current().Version)
	}
	s = open(broken{audit: store.ErrFull})
	if _, _, err := s.ApplyCatalog(t.Context(), "op", "f", []byte(plans)); !errors.Is(err, store.ErrFull) || s.Current().Version != 1 || !strings.Contains(err.Error(), "in force") {
		t.Errorf("no audit: %v, current %d", err, s.Current().Version)
	}
	if err := w.records.PutCatalog(t.Context(), store.CatalogVersion{Source: []byte("tallystick: 9\n"), AppliedAt: start}, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := govern.New(t.Context(), w.config()); err == nil || !strings.Contains(err.Error(), "catalog version 2") {
		t.Errorf("a stored catalog that cannot be read: %v", err)
	}
}

// TestABreakingSchema: what an earlier version took must be taken still, unless it is said that it breaks.
func TestABreakingSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	with := func(events string) []byte { return []byte(replace(t, "meters:\n", events+"meters:\n")) }
	open := with("events:\n  - {type: completion, schema: {type: object, properties: {tokens: {type: integer, maximum: 100}}}}\n")
	closed := with("events:\n  - {type: completion, schema: {type: object, required: [tokens], properties: {tokens: {type: integer, maximum: 50}}}}\n")
	w.apply(string(open))
	w.apply(plans) // the promise outlives the schema
	for _, s := range []*govern.Service{w.Service, w.open()} {
		_, err := s.PlanCatalog(t.Context(), "plans.yaml", closed)
		_, _, err2 := s.ApplyCatalog(t.Context(), "op", "plans.yaml", closed)
		for _, err := range []error{err, err2} {
			var faults *govern.CatalogFaults
			if !errors.As(err, &faults) || len(faults.Faults) != 2 {
				t.Fatalf("got %v, want two faults", err)
			}
			for i, want := range []string{
				"plans.yaml:3:58: events[0].schema.required[0]: breaks version 1: is required now, and was not before",
				"plans.yaml:3:113: events[0].schema.properties.tokens.maximum: breaks version 1: is lower than before (got 50)",
			} {
				if got := faults.Faults[i].Error(); !strings.HasPrefix(got, want) || !strings.Contains(got, "breaking: true") {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		}
	}
	marked := strings.Replace(string(closed), "{type: completion, ", "{type: completion, breaking: true, ", 1)
	for _, want := range []string{`event type "completion": the schema refuses what version 1 took: properties.tokens.maximum is lower`, "take breaking: true out"} {
		if plan, err := w.PlanCatalog(t.Context(), "plans.yaml", []byte(marked)); err != nil || !strings.Contains(strings.Join(plan.Warnings, "\n"), want) {
			t.Errorf("plan: %q, %v; want %s", plan.Warnings, err, want)
		}
		w.apply(marked)
	}
	w.apply(string(open)) // to take more is no break
}
