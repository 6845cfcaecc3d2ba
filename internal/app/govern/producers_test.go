package govern_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
)

func TestProducers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p, issued, err := w.CreateProducer(ctx, "op", govern.NewProducer{
		Key: "jobs", Sources: []string{"jobs/*", "cron"}, Types: []string{"completion", "batch.*"}, ExpiresAt: start.Add(time.Hour),
	})
	if err != nil || account.CheckProducerSecret(issued.Secret) != nil || issued.Hint != account.ProducerHint(issued.Secret) {
		t.Fatalf("%+v, %+v, %v", p, issued, err)
	}
	operator := w.OperatorSender("api/operator")
	for _, s := range []*govern.Service{w.Service, w.open()} {
		from, fault := s.ProducerSender(issued.Secret, start)
		if fault != "" || from.Producer != "producer/"+p.ID {
			t.Fatalf("sender %+v, %q", from, fault)
		}
		for _, tc := range []struct{ source, kind, pointer string }{
			{"jobs/a", "completion", ""},
			{"cron", "batch.x", ""},
			{"jobs", "completion", "/source"},
			{"cron/", "completion", "/source"},
			{"cron", "completions", "/type"},
			{"", "", "/source"},
		} {
			if err := from.Check(tc.source, tc.kind); tc.pointer != "" {
				w.wantInvalid(err, tc.pointer, `producer "jobs"`)
			} else if err != nil {
				t.Errorf("%+v: %v", tc, err)
			}
		}
		if _, fault := s.ProducerSender(issued.Secret, start.Add(time.Hour)); fault != govern.KeyExpired {
			t.Errorf("after its time: %q", fault)
		}
		if _, fault := s.Principal(issued.Secret, start); fault != govern.KeyUnknown {
			t.Errorf("as an API key: %q", fault)
		}
	}
	w.wantInvalid(operator.Check("jobs/a", "x"), "/source", `producer "jobs"`)
	w.wantInvalid(operator.Check("cron", "x"), "/source", `producer "jobs"`)
	if err := errors.Join(operator.Check("cronos", "x"), operator.Check("jobs", "x"), operator.Check("a", "x"), operator.Check("z", "x")); err != nil {
		t.Errorf("what nobody owns: %v", err)
	}
	w.now = start.Add(time.Minute)
	if _, err := w.RevokeProducer(ctx, "op", "jobs"); err != nil {
		t.Fatal(err)
	}
	if _, fault := w.ProducerSender(issued.Secret, start); fault != govern.KeyRevoked {
		t.Errorf("revoked: %q", fault)
	}
	if err := operator.Check("jobs/a", "x"); err != nil {
		t.Errorf("its source is not free: %v", err)
	}
	if _, _, err := w.RotateProducer(ctx, "op", "jobs"); !errors.Is(err, account.ErrState) {
		t.Errorf("rotate a revoked one: %v", err)
	}
	log, err := w.Audits(ctx, govern.Query{Limit: 2})
	if err != nil || log[0].Action != "producer.revoke" || log[1].Action != "producer.create" || strings.Contains(log[1].Detail, issued.Secret) {
		t.Errorf("audit %+v, %v", log, err)
	}
}

func TestProducersRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	create := func(key string, sources ...string) error {
		_, _, err := w.CreateProducer(t.Context(), "op", govern.NewProducer{Key: key, Sources: sources, Types: []string{"*"}})
		return err
	}
	if err := create("jobs", "jobs/*", "cron"); err != nil {
		t.Fatal(err)
	}
	w.wantInvalid(create("other", "fine", "jobs/x"), "/sources/1", `overlaps jobs/*, which belongs to producer "jobs"`)
	w.wantInvalid(create("other", "*"), "/sources/0", `producer "jobs"`)
	w.wantInvalid(create("other"), "/sources", "1 to 64")
	w.wantInvalid(create("other", "a", "gateway/1"), "/sources/1", "gateway/")
	w.wantInvalid(create("other", "a", "b*c"), "/sources/1", "* at its end")
	w.wantInvalid(create("other", "a*", "ab"), "/sources/1", `"a*"`)
	w.wantInvalid(create("o t", "a"), "/key", "short name")
	if err := create("jobs", "elsewhere"); !errors.Is(err, account.ErrExists) {
		t.Errorf("taken key: %v", err)
	}
	_, _, err := w.CreateProducer(t.Context(), "op", govern.NewProducer{Key: "o", Sources: []string{"a"}})
	w.wantInvalid(err, "/types", "1 to 64")
	_, _, err = w.CreateProducer(t.Context(), "op", govern.NewProducer{Key: "o", Sources: []string{"a"}, Types: []string{"*"}, ExpiresAt: w.now})
	w.wantInvalid(err, "/expires_at", "future")
	if _, err := w.Producer("o"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("a refused one is there: %v", err)
	}
}

func TestRotateProducer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p, first, err := w.CreateProducer(ctx, "op", govern.NewProducer{Key: "jobs", Sources: []string{"a"}, Types: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	w.now = start.Add(time.Minute)
	_, second, err := w.RotateProducer(ctx, "op", "jobs")
	if err != nil || second.Secret == first.Secret {
		t.Fatal(err)
	}
	if _, _, err := w.RotateProducer(ctx, "op", p.ID); !errors.Is(err, account.ErrState) {
		t.Errorf("a third live token: %v", err)
	}
	_, err = w.RevokeProducerToken(ctx, "op", "jobs", "ptk_x")
	w.wantInvalid(err, "/token", "tally producers get jobs")
	if _, err := w.RevokeProducerToken(ctx, "op", "jobs", first.ID); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*govern.Service{w.Service, w.open()} {
		if _, fault := s.ProducerSender(first.Secret, start); fault != govern.KeyRevoked {
			t.Errorf("the first: %q", fault)
		}
		if _, fault := s.ProducerSender(second.Secret, start); fault != "" {
			t.Errorf("the second: %q", fault)
		}
		if tokens := s.ProducerTokens(p.ID); len(tokens) != 2 || tokens[0].RevokedAt.IsZero() || !tokens[1].RevokedAt.IsZero() {
			t.Errorf("tokens %+v", tokens)
		}
	}
	if _, _, err := w.RotateProducer(ctx, "op", "jobs"); err != nil {
		t.Errorf("after one is revoked: %v", err)
	}
}

// TestGarbageTokensAllocateNothing is not parallel: other tests would be counted too.
func TestGarbageTokensAllocateNothing(t *testing.T) {
	w := newWorld(t)
	garbage := "tally_prd_" + strings.Repeat("x", 49)
	if n := testing.AllocsPerRun(100, func() { w.ProducerSender(garbage, start) }); n != 0 {
		t.Errorf("garbage costs %v allocations", n)
	}
}
