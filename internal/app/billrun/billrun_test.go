package billrun_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/billrun"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

var now = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

// billing closes two a step of what is due. One subscription never closes.
type billing struct {
	due   int
	bad   bool
	crash int // steps until it fails; 0: never
	then  func()
}

var errAway = errors.New("the gateway does not answer")

func (b *billing) Due(context.Context, bill.Part) (int, error) { return b.due, nil }

func (b *billing) Step(ctx context.Context, _ bill.Part) (step bill.Step, err error) {
	if b.then != nil {
		b.then()
	}
	if b.crash--; b.crash == 0 {
		return bill.Step{More: true}, errAway
	}
	if ctx.Err() != nil {
		return bill.Step{More: true}, ctx.Err()
	}
	n := min(2, b.due)
	b.due -= n
	step = bill.Step{Closed: n, Invoices: n, More: b.due > 0}
	if b.bad && !step.More {
		step.Failures = []*bill.Failure{{SubscriptionID: "sub_bad", Customer: "acme", Err: errors.New("no such\nplan")}}
	}
	return step, nil
}

func (b *billing) Customer(ref string) (account.Customer, bool) {
	return account.Customer{ID: "cus_1", Key: "acme"}, ref == "acme"
}

func service(t *testing.T, b *billing) *billrun.Service {
	t.Helper()
	records, err := sqlite.Scratch(t.Context(), filepath.Join(t.TempDir(), "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := records.Close(); err != nil {
			t.Error(err)
		}
	})
	clock := func() time.Time { return now }
	s, err := billrun.New(billrun.Config{
		Billing: b, Directory: b, Records: records, Now: clock, Real: clock, Random: rand.NewChaCha8([32]byte{}),
		Trigger: func(context.Context, string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func begin(t *testing.T, s *billrun.Service) billrun.Run {
	t.Helper()
	r, err := s.Begin(t.Context(), "test", bill.Part{Until: now, CustomerID: "acme"})
	if err != nil || r.State != store.RunQueued || r.CustomerID != "cus_1" {
		t.Fatalf("Begin: %+v, %v", r, err)
	}
	return r
}

func TestARunGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	b := &billing{due: 7, crash: 2}
	s := service(t, b)
	r := begin(t, s)
	if err := s.Work(t.Context(), r.ID); !errors.Is(err, errAway) {
		t.Fatalf("Work = %v", err)
	}
	r, _, err := s.Run(t.Context(), r.ID)
	if err != nil || r.State != store.RunRunning || r.Done != 2 || r.Due != 7 || r.LastError != errAway.Error() {
		t.Errorf("in its middle: %+v, %v", r, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel() // a trigger whose time is over
	_ = s.Work(over, r.ID)
	if err := s.Work(t.Context(), ""); err != nil { // the next trigger, for all runs
		t.Fatal(err)
	}
	r, failures, err := s.Run(t.Context(), r.ID)
	if err != nil || r.State != store.RunDone || r.Done != 7 || r.Due != 7 || r.Invoices != 7 || r.LastError != "" || len(failures) != 0 {
		t.Errorf("at its end: %+v, %v, %v", r, failures, err)
	}
	if st := s.Stats(); st.Ended[store.RunDone] != 1 {
		t.Errorf("stats: %+v", st)
	}
	if _, err := s.Cancel(t.Context(), "test", r.ID); !errors.Is(err, account.ErrState) {
		t.Errorf("cancel of what has ended: %v", err)
	}
}

func TestFailuresAreNamed(t *testing.T) {
	t.Parallel()
	s := service(t, &billing{due: 3, bad: true})
	r := begin(t, s)
	if err := s.Work(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	r, failures, err := s.Run(t.Context(), r.ID)
	if err != nil || r.State != store.RunFailed || r.Done != 3 || r.Failed != 1 {
		t.Errorf("run: %+v, %v", r, err)
	}
	if len(failures) != 1 || failures[0].Customer != "acme" || failures[0].Reason != "no such; plan" {
		t.Errorf("failures: %+v", failures)
	}
}

func TestACanceledRunEnds(t *testing.T) {
	t.Parallel()
	b := &billing{due: 9}
	s := service(t, b)
	r := begin(t, s)
	b.then = func() {
		b.then = nil
		if _, err := s.Cancel(t.Context(), "test", r.ID); err != nil {
			t.Error(err)
		}
	}
	if err := s.Work(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	if r, _, err := s.Run(t.Context(), r.ID); err != nil || r.State != store.RunCanceled || b.due != 7 {
		t.Errorf("run: %+v, %v; %d are due", r, err, b.due)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	s := service(t, &billing{})
	var invalid *billrun.Invalid
	if _, err := s.Begin(t.Context(), "test", bill.Part{Until: now.Add(time.Second)}); !errors.As(err, &invalid) || invalid.Pointer != "/until" {
		t.Errorf("the future: %v", err)
	}
	if _, err := s.Begin(t.Context(), "test", bill.Part{CustomerID: "nobody"}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	if _, _, err := s.Run(t.Context(), "run_none"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no run: %v", err)
	}
}
