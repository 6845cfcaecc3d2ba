package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

type usageBody struct {
	Customer    string            `json:"customer,omitempty" doc:"The customer's key, where one is asked for"`
	CustomerID  string            `json:"customer_id,omitempty"`
	Meter       string            `json:"meter"`
	Aggregation string            `json:"aggregation" enum:"count,sum,min,max,latest,unique,time_weighted,custom"`
	Unit        string            `json:"unit,omitempty"`
	From        time.Time         `json:"from,omitzero" doc:"Absent: open"`
	To          time.Time         `json:"to,omitzero" doc:"Not included; absent: open"`
	Zone        string            `json:"zone" doc:"Of the windows"`
	Value       *money.Decimal    `json:"value,omitempty" doc:"That of the only item, where nothing is grouped"`
	Position    uint64            `json:"position" doc:"Journal position that all figures are of"`
	Windows     []usageWindowBody `json:"windows,omitzero" doc:"Those of the only item, where nothing is grouped"`
	Items       []usageItemBody   `json:"items" doc:"One a group: by name, or by value where top is asked for"`
	Next        *string           `json:"next" doc:"Cursor of the next page, which is of the same position; null on the last"`
	Freshness   freshnessBody     `json:"freshness"`
}

type usageItemBody struct {
	Customer   string            `json:"customer,omitempty" doc:"The customer's key; absent where several are added up"`
	CustomerID string            `json:"customer_id,omitempty"`
	Dimensions map[string]string `json:"dimensions" doc:"What is grouped by; empty: the events have no such dimension"`
	Value      money.Decimal     `json:"value"`
	Events     int64             `json:"events"`
	Inexact    bool              `json:"inexact,omitempty" doc:"34 significant digits of a division that does not end"`
	Windows    []usageWindowBody `json:"windows,omitzero" doc:"Those that hold usage, oldest first; absent where no window is asked for"`
}

type usageWindowBody struct {
	Start   time.Time     `json:"start"`
	End     time.Time     `json:"end,omitzero"`
	Value   money.Decimal `json:"value"`
	Inexact bool          `json:"inexact,omitempty"`
}

type freshnessBody struct {
	Position     uint64    `json:"position" doc:"Journal position that all figures are of"`
	AsOf         time.Time `json:"as_of" doc:"Business time; all that was accepted before is counted"`
	SpooledBytes int64     `json:"spooled_bytes" doc:"Decided by the gateway and not in the journal yet: requests on their way"`
}

type usageInput struct {
	Customer []string  `query:"customer,explode" nullable:"false" doc:"Id or key; repeatable; absent: all customers"`
	Meter    string    `query:"meter" required:"true"`
	From     time.Time `query:"from" doc:"Default: the current billing period of the one customer; of several the current month"`
	To       time.Time `query:"to" doc:"Not included"`
	Window   string    `query:"window" enum:"15m,hour,day,week,month,billing_period" doc:"Absent: day for one customer without groups, else one figure for the whole time"`
	Zone     string    `query:"zone" maxLength:"64" doc:"IANA name; default: the customer's, of several UTC"`
	GroupBy  []string  `query:"group_by,explode" nullable:"false" doc:"A dimension of the meter, or customer; repeatable. Absent: one figure over all customers asked for"`
	Where    []string  `query:"where,explode" nullable:"false" doc:"DIMENSION:VALUE; repeatable, all must hold. An event without the dimension has the empty value"`
	Top      int       `query:"top" minimum:"1" maximum:"50000" doc:"So many groups of the greatest value, greatest first"`
	Paging
}

const usageRoute = "Bounds lie on whole quarters of an hour (UTC) or where a subscription of the customer starts. Windows follow the zone's calendar, " +
	"DST included. The answer counts every event that was accepted before the call, and all its pages show one journal position."

func (a *api) usage() {
	handle(a, operation{
		method: http.MethodGet, path: "/v1/usage", id: "get-usage", tag: "usage", summary: "Metered usage by customers, time, windows and dimensions",
		description: usageRoute,
	}, a.usageOf)
}

func (a *api) usageOf(ctx context.Context, in *usageInput) (usageBody, error) {
	const kind = "usage"
	q := usage.Query{
		Meter: in.Meter, In: period.Interval{Start: instant(in.From), End: instant(in.To)}, Zone: in.Zone, GroupBy: in.GroupBy, Top: in.Top, Limit: in.Limit,
	}
	for _, ref := range in.Customer {
		c, err := a.customer(ref)
		if err != nil {
			return usageBody{}, err
		}
		q.Customers = append(q.Customers, c.ID)
	}
	for _, where := range in.Where {
		name, value, ok := strings.Cut(where, ":")
		if !ok {
			return usageBody{}, invalid("where", "must be DIMENSION:VALUE", "for example where=route:/hello")
		}
		q.Where = append(q.Where, meter.Dimension{Name: name, Value: value})
	}
	alone := len(q.Customers) == 1 && len(in.GroupBy) == 0
	if in.Window == "" && alone {
		in.Window = "day"
	}
	var err error
	if q.Window, err = usage.ParseWindow(in.Window); err != nil {
		return usageBody{}, err
	}
	if q.Cursor, err = place(kind, in.Cursor); err != nil {
		return usageBody{}, err
	}
	u, err := a.cfg.Usage.Ask(ctx, q)
	switch {
	case errors.Is(err, usage.ErrCursor):
		return usageBody{}, newProblem(codeCursorInvalid, "")
	case errors.Is(err, account.ErrNotFound):
		return usageBody{}, a.noMeter()
	case err != nil:
		return usageBody{}, err
	}
	out := usageBodyOf(u, q.Window != 0)
	if u.Next != "" {
		next := cursor(kind, u.Next)
		out.Next = &next
	}
	if alone && len(out.Items) == 1 {
		it := out.Items[0]
		out.Customer, out.CustomerID, out.Value, out.Windows = it.Customer, it.CustomerID, &it.Value, it.Windows
	}
	return out, nil
}

func usageBodyOf(u usage.Answer, windows bool) usageBody {
	out := usageBody{
		Meter: u.Meter.Key, Aggregation: u.Meter.Word(), Unit: u.Meter.Unit, From: instant(u.In.Start), To: instant(u.In.End),
		Zone: u.Zone.String(), Position: u.Position, Items: make([]usageItemBody, 0, len(u.Items)),
		Freshness: freshnessBody{u.Position, instant(u.AsOf), u.Lag},
	}
	for _, it := range u.Items {
		item := usageItemBody{
			Customer: it.Customer.Key, CustomerID: it.Customer.ID, Dimensions: make(map[string]string, len(it.Dimensions)),
			Value: it.Value, Events: it.Events, Inexact: it.Inexact,
		}
		for _, d := range it.Dimensions {
			item.Dimensions[d.Name] = d.Value
		}
		if windows {
			item.Windows = make([]usageWindowBody, 0, len(it.Windows))
		}
		for _, w := range it.Windows {
			item.Windows = append(item.Windows, usageWindowBody{instant(w.Start), instant(w.End), w.Value, w.Inexact})
		}
		out.Items = append(out.Items, item)
	}
	return out
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
