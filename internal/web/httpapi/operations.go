package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

type auditBody struct {
	ID     string          `json:"id"`
	Time   time.Time       `json:"time"`
	Actor  string          `json:"actor"`
	Action string          `json:"action" example:"customer.create"`
	Target string          `json:"target"`
	Detail json.RawMessage `json:"detail"`
}

func auditOf(e store.Audit) auditBody {
	out := auditBody{ID: e.ID, Time: instant(e.Time), Actor: e.Actor, Action: e.Action, Target: e.Target, Detail: json.RawMessage("null")}
	if json.Valid([]byte(e.Detail)) {
		out.Detail = json.RawMessage(e.Detail)
	}
	return out
}

type rateBody struct {
	Second   time.Time `json:"second" doc:"Business time"`
	Admitted int64     `json:"admitted"`
	Denied   int64     `json:"denied"`
}

type statusBody struct {
	Version            string     `json:"version"`
	Mode               string     `json:"mode" enum:"live,test"`
	Ready              bool       `json:"ready"`
	Now                time.Time  `json:"now"`
	CatalogVersion     int64      `json:"catalog_version"`
	Admitted           int64      `json:"admitted" doc:"This and what follows: since the start of the process"`
	Settled            int64      `json:"settled"`
	Released           int64      `json:"released"`
	DeniedRate         int64      `json:"denied_rate"`
	DeniedQuota        int64      `json:"denied_quota"`
	DeniedSpend        int64      `json:"denied_spend"`
	DeniedKey          int64      `json:"denied_key"`
	DeniedSubscription int64      `json:"denied_subscription"`
	DeniedConcurrency  int64      `json:"denied_concurrency"`
	DeniedCredits      int64      `json:"denied_credits"`
	DeniedEntitlement  int64      `json:"denied_entitlement"`
	DeniedAbnormal     int64      `json:"denied_abnormal"`
	DeniedUnpaid       int64      `json:"denied_unpaid"`
	Unavailable        int64      `json:"unavailable"`
	Incomplete         int64      `json:"incomplete"`
	Recovered          int64      `json:"recovered"`
	WrittenOff         int64      `json:"written_off"`
	Conflicts          int64      `json:"conflicts"`
	Draws              int64      `json:"draws" doc:"Leases drawn"`
	MarksLost          int64      `json:"marks_lost"`
	Open               int64      `json:"open" doc:"Requests on their way"`
	SpoolBytes         int64      `json:"spool_bytes"`
	SpoolLag           int64      `json:"spool_lag_bytes" doc:"Not yet in the journal"`
	Batches            int64      `json:"batches" doc:"Signed batches of gateways that were taken"`
	BatchesRepeated    int64      `json:"batches_repeated" doc:"Taken before, without effect"`
	BatchesRefused     int64      `json:"batches_refused" doc:"Forged, foreign or with one missing before; the books list them"`
	Rates              []rateBody `json:"rates" doc:"Decisions of each of the last 60 seconds, oldest first"`
}

// ratesShown is how many seconds the status shows.
const ratesShown = 60

func (a *api) operations() {
	const tag = "operations"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/audit", id: "list-audit", tag: tag, summary: "What operators did, newest first",
	}, func(ctx context.Context, in *Paging) (listBody[auditBody], error) {
		from, err := placeOfID("audit", "aud_", in.Cursor)
		if err != nil {
			return listBody[auditBody]{}, err
		}
		rows, err := a.cfg.Govern.Audits(ctx, store.Query{Cursor: from, Limit: in.fetch()})
		return listOf(*in, "audit", rows, func(e store.Audit) string { return e.ID }, auditOf), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/status", id: "get-status", tag: tag, summary: "Counters of the running process",
	}, func(context.Context, *struct{}) (statusBody, error) { return a.status(), nil })
}

func (a *api) status() statusBody {
	s := a.cfg.Enforce.Stats()
	out := statusBody{
		Version: a.cfg.Version, Mode: "live", Ready: a.cfg.Ready(), Now: a.cfg.Clock.Now(), CatalogVersion: a.cfg.Govern.Current().Version,
		Admitted: s.Admitted, Settled: s.Settled, Released: s.Released, DeniedRate: s.DeniedRate, DeniedQuota: s.DeniedQuota,
		DeniedSpend: s.DeniedSpend, DeniedKey: s.DeniedKey, DeniedSubscription: s.DeniedSubscription, Unavailable: s.Unavailable,
		DeniedConcurrency: s.DeniedConcurrency, DeniedCredits: s.DeniedCredits, DeniedEntitlement: s.DeniedEntitlement, DeniedAbnormal: s.DeniedAbnormal, DeniedUnpaid: s.DeniedUnpaid,
		Incomplete: s.Incomplete, Recovered: s.Recovered, WrittenOff: s.WrittenOff, Conflicts: s.Conflicts, Draws: s.Draws,
		MarksLost: s.MarksLost, Open: s.Open, SpoolBytes: s.SpoolBytes, SpoolLag: s.SpoolLag, Rates: []rateBody{},
	}
	taken := a.cfg.Receive.Stats()
	out.Batches, out.BatchesRepeated = taken.Taken, taken.Duplicates
	for _, n := range taken.Refused {
		out.BatchesRefused += n
	}
	if a.cfg.Clock.Test() {
		out.Mode = "test"
	}
	for _, r := range a.cfg.Enforce.Rates(ratesShown) {
		out.Rates = append(out.Rates, rateBody{time.Unix(r.Second, 0).UTC(), r.Admitted, r.Denied})
	}
	return out
}

// audit notes an operator's action that no use case notes by itself.
func (a *api) audit(ctx context.Context, action, target string, detail any) error {
	b, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("audit %s: %w", action, err)
	}
	return a.cfg.Govern.Audit(context.WithoutCancel(ctx), operator, action, target, string(b))
}
