package httpapi

import (
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/app/whatif"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// whatIfBody is recorded usage under the catalog in force and under the proposed one.
type whatIfBody struct {
	From          time.Time     `json:"from"`
	To            time.Time     `json:"to"`
	Revenue       []revenueBody `json:"revenue" doc:"By currency; each customer's charges are rounded once"`
	CustomersUp   int           `json:"customers_up"`
	CustomersDown int           `json:"customers_down"`
	CustomersSame int           `json:"customers_same"`
	Customers     []impactBody  `json:"customers" doc:"Whose charges change, the largest change first; at most 1,000"`
	Refused       []refusalBody `json:"newly_refused" doc:"Recorded usage that only the proposed catalog would have refused"`
	Relieved      []refusalBody `json:"no_longer_refused"`
	Apart         []string      `json:"not_replayed" doc:"What is not replayed, and why"`
	Errors        []string      `json:"errors" doc:"Customers that could not be rated"`
	More          int           `json:"more" doc:"Entries left out of the lists"`
}

type revenueBody struct {
	Before     moneyBody `json:"before"`
	After      moneyBody `json:"after"`
	Difference moneyBody `json:"difference"`
}

type impactBody struct {
	Customer   string    `json:"customer"`
	Plan       string    `json:"plan"`
	Before     moneyBody `json:"before"`
	After      moneyBody `json:"after"`
	Difference moneyBody `json:"difference"`
}

type refusalBody struct {
	Customer string        `json:"customer"`
	Plan     string        `json:"plan"`
	Limit    string        `json:"limit"`
	Meter    string        `json:"meter"`
	Windows  int           `json:"windows" doc:"In how many windows the limit would have been passed"`
	Over     money.Decimal `json:"over" doc:"Units above it, in all of them"`
	First    time.Time     `json:"first" doc:"Start of the first such window"`
}

func whatIfSpan() []*huma.Param {
	at := &huma.Schema{Type: huma.TypeString, Format: "date-time"}
	return []*huma.Param{
		{Name: "from", In: "query", Description: "Begin of the replay; usual: 30 days before its end", Schema: at},
		{Name: "to", In: "query", Description: "End of the replay; usual: now", Schema: at},
	}
}

// replay runs recorded usage through a catalog, which is valid. nil without the service, which only a server has.
func (a *api) whatIf(r *http.Request, file string, yaml []byte) (*whatIfBody, error) {
	in, err := spanIn(r.URL.Query())
	if err != nil || a.cfg.WhatIf == nil {
		return nil, err
	}
	c, faults := declare.Decode(file, yaml)
	if len(faults) > 0 {
		return nil, nil
	}
	proposed, err := catalog.Compile(0, c)
	if err != nil {
		return nil, err
	}
	report, err := a.cfg.WhatIf.Replay(r.Context(), proposed, in)
	if err != nil {
		return nil, err
	}
	return whatIfOf(report), nil
}

func spanIn(q url.Values) (in period.Interval, err error) {
	for name, at := range map[string]*time.Time{"from": &in.Start, "to": &in.End} {
		if q.Get(name) == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339Nano, q.Get(name))
		if err != nil {
			return in, invalid(name, "is not a time", "write it as 2026-10-01T00:00:00Z")
		}
		*at = period.Truncate(t)
	}
	return in, nil
}

func whatIfOf(r whatif.Report) *whatIfBody {
	out := &whatIfBody{
		From: instant(r.Span.Start), To: instant(r.Span.End), CustomersUp: r.Up, CustomersDown: r.Down, CustomersSame: r.Same,
		Revenue: []revenueBody{}, Customers: []impactBody{}, Refused: refusalsOf(r.Refused), Relieved: refusalsOf(r.Relieved),
		Apart: append([]string{}, r.Apart...), Errors: append([]string{}, r.Errors...), More: r.Beyond.Impacts + r.Beyond.Refused,
	}
	for _, x := range r.Revenue {
		out.Revenue = append(out.Revenue, revenueBody{moneyOf(x.Before), moneyOf(x.After), moneyOf(x.Difference)})
	}
	for _, i := range r.Impacts {
		out.Customers = append(out.Customers, impactBody{i.Customer, i.Plan, moneyOf(i.Before), moneyOf(i.After), moneyOf(i.Difference)})
	}
	return out
}

func refusalsOf(list []whatif.Refusal) []refusalBody {
	out := make([]refusalBody, 0, len(list))
	for _, f := range list {
		out = append(out, refusalBody{f.Customer, f.Plan, f.Limit, f.Meter, f.Windows, f.Over, instant(f.First)})
	}
	return out
}
