package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

type usageBody struct {
	Customer   string            `json:"customer" doc:"The customer's key"`
	CustomerID string            `json:"customer_id"`
	Meter      string            `json:"meter"`
	From       time.Time         `json:"from,omitzero" doc:"Absent: open"`
	To         time.Time         `json:"to,omitzero" doc:"Not included; absent: open"`
	Zone       string            `json:"zone" doc:"Of the windows"`
	Value      money.Decimal     `json:"value"`
	Position   uint64            `json:"position" doc:"Journal position that all figures are of"`
	Windows    []usageWindowBody `json:"windows" doc:"Those that hold usage, oldest first"`
}

type usageWindowBody struct {
	Start time.Time     `json:"start"`
	End   time.Time     `json:"end,omitzero"`
	Value money.Decimal `json:"value"`
}

type usageInput struct {
	Customer string    `query:"customer" required:"true" doc:"Id or key"`
	Meter    string    `query:"meter" required:"true"`
	From     time.Time `query:"from" doc:"Default: the current billing period"`
	To       time.Time `query:"to" doc:"Not included"`
	Window   string    `query:"window" enum:"hour,day,week,month,billing_period" default:"day"`
}

func (a *api) usage() {
	handle(a, operation{
		method: http.MethodGet, path: "/v1/usage", id: "get-usage", tag: "usage", summary: "A customer's metered usage",
		description: "Bounds lie on whole quarters of an hour (UTC) or where a subscription of the customer starts.",
	}, a.usageOf)
}

func (a *api) usageOf(ctx context.Context, in *usageInput) (usageBody, error) {
	c, err := a.customer(in.Customer)
	if err != nil {
		return usageBody{}, err
	}
	window, err := period.ParseWindow(in.Window)
	if err != nil {
		return usageBody{}, invalid("window", "must be hour, day, week, month or billing_period", "")
	}
	u, err := a.cfg.Ingest.Usage(ctx, c.ID, in.Meter, period.Interval{Start: instant(in.From), End: instant(in.To)}, window)
	if errors.Is(err, account.ErrNotFound) {
		return usageBody{}, a.noMeter()
	}
	if err != nil {
		return usageBody{}, err
	}
	out := usageBody{
		Customer: c.Key, CustomerID: c.ID, Meter: u.Meter, From: instant(u.In.Start), To: instant(u.In.End), Zone: c.Zone.String(),
		Value: u.Value, Position: u.Position, Windows: make([]usageWindowBody, 0, len(u.Windows)),
	}
	for _, w := range u.Windows {
		out.Windows = append(out.Windows, usageWindowBody{instant(w.Start), instant(w.End), w.Value})
	}
	return out, nil
}

// metersNamed bounds how many meters an answer names.
const metersNamed = 20

// noMeter names the meters that there are.
func (a *api) noMeter() *problem {
	p := newProblem(codeNotFound, "There is no such meter.")
	var names []string
	for _, m := range a.cfg.Govern.Current().Meters {
		if len(names) == metersNamed {
			names = append(names, "…")
			break
		}
		names = append(names, m.Key)
	}
	if len(names) > 0 {
		p.Fix = "The catalog has: " + strings.Join(names, ", ") + "."
	}
	return p
}
