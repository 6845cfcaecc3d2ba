package httpapi_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/billrun"
	"github.com/tallystick/tallystick/internal/store"
)

// billingRuns are worked at once.
func billingRuns(t testing.TB, w *world, records store.BillingRuns, bills *bill.Service) *billrun.Service {
	t.Helper()
	var s *billrun.Service
	s = must[*billrun.Service](t)(billrun.New(billrun.Config{
		Billing: bills, Directory: w.govern, Records: records, Now: w.clock.Now, Real: w.now, Random: &locked{r: rand.NewChaCha8([32]byte{4})},
		Trigger: func(ctx context.Context, id string) error { return s.Work(ctx, id) },
	}))
	return s
}

// runDoc is what the tests look at.
type runDoc struct {
	ID, State string
	Due, Done int
	Invoices  any // how many, or those of a dry run
	Count     int
	Totals    []struct{ Currency, Amount string }
}

func (w *world) runDoc(a answer) (d runDoc) {
	w.t.Helper()
	if err := json.Unmarshal(a.body, &d); err != nil {
		w.t.Fatalf("%s: %v", a.body, err)
	}
	return d
}

func TestBillingRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("acme", "pro")
	w.subscribe("bolt", "pro")
	next := w.now().AddDate(0, 2, 0).UTC().Format(time.RFC3339)

	dry := w.runDoc(w.post(200, "/v1/billing-runs/preview", `{"until":"`+next+`"}`))
	if dry.Count < 2 || len(dry.Totals) != 1 {
		t.Errorf("dry run of two months to come: %+v", dry)
	}
	if a := w.post(422, "/v1/billing-runs", `{"until":"`+next+`"}`); !strings.Contains(string(a.body), "/until") {
		t.Errorf("a run of the future: %s", a.body)
	}
	w.post(404, "/v1/billing-runs", `{"customer":"nobody"}`)

	before := w.runDoc(w.post(200, "/v1/billing-runs/preview", `{}`))
	run := w.runDoc(w.post(201, "/v1/billing-runs", `{}`))
	done := w.runDoc(w.get("/v1/billing-runs/" + run.ID))
	if done.State != "done" || done.Done != done.Due || done.Invoices != float64(before.Count) || before.Count == 0 {
		t.Errorf("dry run %+v, run %+v", before, done)
	}
	again := w.runDoc(w.get("/v1/billing-runs/" + w.runDoc(w.post(201, "/v1/billing-runs", `{}`)).ID))
	if again.State != "done" || again.Due != 0 || again.Invoices != 0.0 {
		t.Errorf("once more: %+v", again)
	}
	if a := w.get("/v1/billing-runs"); a.status != 200 || strings.Count(string(a.body), `"run_`) != 2 {
		t.Errorf("list: %s", a.body)
	}
	if a := w.post(409, "/v1/billing-runs/"+run.ID+"/cancel", `{}`); !strings.Contains(string(a.body), "wrong_state") {
		t.Errorf("cancel of what has ended: %s", a.body)
	}
	w.post(404, "/v1/billing-runs/run_none/cancel", `{}`)
}
