package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// TimelineBody is a subscription over time.
type TimelineBody struct {
	Subscription subscriptionBody         `json:"subscription"`
	Changes      []subscriptionChangeBody `json:"changes" doc:"In the order in which they were decided"`
	Segments     []segmentBody            `json:"segments" doc:"What follows from them: spans in which nothing changes"`
	DryRun       bool                     `json:"dry_run,omitempty" doc:"The last change is not stored"`
	Money        *moneyChangeBody         `json:"money,omitempty" doc:"Of a dry run: the next invoice without and with the change; absent where no billing period runs"`
}

type subscriptionChangeBody struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at" doc:"When it takes effect"`
	Kind      string    `json:"kind" enum:"plan,version,quantity,add_on,price,pause,resume,trial,cancel,revive"`
	Plan      string    `json:"plan,omitempty"`
	Version   int64     `json:"version,omitempty" doc:"Catalog version of the prices"`
	Key       string    `json:"key,omitempty" doc:"Of the price or add-on"`
	Quantity  string    `json:"quantity,omitempty"`
	Price     string    `json:"price,omitempty" enum:"own,plan" doc:"own: a price of this customer alone; plan: it is taken back"`
	Until     time.Time `json:"until,omitzero" doc:"End of the trial"`
	Now       bool      `json:"invoice_now,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Actor     string    `json:"actor"`
	CreatedAt time.Time `json:"created_at"`
}

type segmentBody struct {
	Start      time.Time         `json:"start"`
	End        time.Time         `json:"end,omitzero" doc:"Not included; absent: open"`
	Plan       string            `json:"plan"`
	Version    int64             `json:"catalog_version"`
	Every      string            `json:"every" doc:"The billing period"`
	AnchorAt   time.Time         `json:"anchor_at" doc:"Billing periods are counted from it"`
	Quantities map[string]string `json:"quantities,omitempty"`
	AddOns     map[string]string `json:"add_ons,omitempty"`
	OwnPrices  []string          `json:"own_prices,omitempty" doc:"Keys of prices of this customer alone"`
	Paused     bool              `json:"paused,omitempty"`
	Trial      bool              `json:"trial,omitempty"`
}

type newSubscriptionChangeBody struct {
	Kind     string          `json:"kind" enum:"plan,version,quantity,add_on,price,pause,resume,trial,cancel,revive"`
	At       string          `json:"at,omitempty" maxLength:"40" doc:"RFC 3339, now, or period_end; default: now. The past is allowed"`
	Plan     string          `json:"plan,omitempty" doc:"kind plan: the new one"`
	Version  int64           `json:"version,omitempty" minimum:"1" doc:"kind plan, version, add_on: catalog version of the prices; default: the newest"`
	Key      string          `json:"key,omitempty" doc:"kind quantity, price: of the price; kind add_on: of the add-on"`
	Quantity string          `json:"quantity,omitempty" doc:"kind quantity, add_on; 0 ends an add-on"`
	Price    json.RawMessage `json:"price,omitempty" doc:"kind price: as in the catalog; without it the plan's holds again"`
	Until    time.Time       `json:"until,omitzero" doc:"kind trial: when the trial ends"`
	Now      bool            `json:"invoice_now,omitempty" doc:"Bill the difference at once; default: with the next invoice"`
	Reason   string          `json:"reason,omitempty"`
}

type whenBody struct {
	At     string `json:"at,omitempty" maxLength:"40" doc:"RFC 3339, now, or period_end; default: now"`
	Now    bool   `json:"invoice_now,omitempty" doc:"Bill the difference at once; default: with the next invoice"`
	Reason string `json:"reason,omitempty"`
}

type migrationBody struct {
	Plan      string `json:"plan"`
	Customer  string `json:"customer,omitempty" doc:"Id or key; default: all"`
	ToVersion int64  `json:"to_version,omitempty" minimum:"1" doc:"Default: the newest"`
	At        string `json:"at,omitempty" maxLength:"40" doc:"RFC 3339, now, or period_end of each; default: now"`
	Reason    string `json:"reason,omitempty"`
}

type migratedBody struct {
	DryRun bool              `json:"dry_run,omitempty" doc:"Nothing was changed"`
	Items  []migratedSubBody `json:"items"`
	Totals []TotalsBody      `json:"totals,omitempty" doc:"Of a dry run: sums of the items' money, by currency"`
}

type migratedSubBody struct {
	Customer     string    `json:"customer" doc:"The customer's key"`
	Subscription string    `json:"subscription_id"`
	Plan         string    `json:"plan"`
	FromVersion  int64     `json:"from_version"`
	ToVersion    int64     `json:"to_version"`
	At           time.Time `json:"at"`
	Refused      string    `json:"refused,omitempty" doc:"Why it stays as it is"`

	Money *TotalsBody `json:"money,omitempty" doc:"Of a dry run: totals of the next invoice without and with the move; at most 1,000 entries have it"`
}

// DryRun asks what would follow.
type DryRun struct {
	DryRun bool `query:"dry_run" doc:"Only say what would follow"`
}

// SubscriptionID names a subscription in the path.
type SubscriptionID struct {
	ID string `path:"id"`
}

func (a *api) timelineOf(t govern.Timeline, dry bool) TimelineBody {
	out := TimelineBody{Subscription: a.subscriptionOf(t.Subscription), Changes: []subscriptionChangeBody{}, Segments: []segmentBody{}, DryRun: dry}
	for i := range t.History.Changes {
		out.Changes = append(out.Changes, changeOf(&t.History.Changes[i]))
	}
	for i := range t.Segments {
		g := &t.Segments[i]
		s := segmentBody{
			Start: instant(g.Start), End: instant(g.End), Plan: g.Plan, Version: g.Version, Every: g.Anchor.Every.String(), AnchorAt: instant(g.Anchor.Start),
			Quantities: map[string]string{}, AddOns: map[string]string{}, Paused: g.Paused, Trial: g.Trial,
		}
		for key, q := range g.Quantities {
			s.Quantities[key] = q.String()
		}
		for _, x := range g.AddOns {
			s.AddOns[x.Key] = x.Quantity.String()
		}
		for j := range g.Prices {
			s.OwnPrices = append(s.OwnPrices, g.Prices[j].Key)
		}
		out.Segments = append(out.Segments, s)
	}
	return out
}

func changeOf(c *subscription.Change) subscriptionChangeBody {
	b := subscriptionChangeBody{
		ID: c.ID, At: instant(c.At), Kind: string(c.Kind), Plan: c.Plan, Version: c.Version, Key: c.Key, Until: instant(c.Until), Now: c.Now,
		Reason: c.Reason, Actor: c.Actor, CreatedAt: instant(c.CreatedAt),
	}
	switch c.Kind {
	case subscription.Quantity, subscription.SetAddOn:
		b.Quantity = c.Quantity.String()
	case subscription.SetPrice:
		b.Price = "plan"
		if c.Price != nil {
			b.Price = "own"
		}
	case subscription.ToPlan, subscription.ToPrices, subscription.Pause, subscription.Resume, subscription.Trial, subscription.Cancel, subscription.Revive:
	}
	return b
}

func (a *api) subscriptionChanges() {
	const tag = "subscriptions"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/subscriptions/{id}/changes", id: "get-timeline", tag: tag, summary: "A subscription over time",
	}, func(ctx context.Context, in *SubscriptionID) (TimelineBody, error) {
		t, err := a.cfg.Govern.Timeline(ctx, in.ID)
		if err != nil {
			return TimelineBody{}, err
		}
		return a.timelineOf(t, false), nil
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/subscriptions/{id}/changes", id: "change-subscription", tag: tag,
		summary: "Change a subscription, now, later or in the past; recorded usage stays as it is",
	}, func(ctx context.Context, in *struct {
		SubscriptionID
		DryRun
		Body newSubscriptionChangeBody
	},
	) (TimelineBody, error) {
		n, err := in.Body.value()
		if err != nil {
			return TimelineBody{}, err
		}
		return a.change(ctx, in.ID, n, in.DryRun.DryRun)
	})
	for _, verb := range []struct {
		kind    subscription.Kind
		summary string
	}{
		{subscription.Cancel, "End a subscription: now, with its billing period, or at an instant"},
		{subscription.Revive, "Take a cancellation back that is not in force yet"},
		{subscription.Pause, "Pause a subscription: nothing is admitted and nothing charged"},
		{subscription.Resume, "Go on with a paused subscription"},
	} {
		handle(a, operation{
			method: http.MethodPost, path: "/v1/subscriptions/{id}/" + string(verb.kind), id: string(verb.kind) + "-subscription", tag: tag, summary: verb.summary,
		}, func(ctx context.Context, in *struct {
			SubscriptionID
			DryRun
			Body *whenBody
		},
		) (TimelineBody, error) {
			n := govern.NewChange{Kind: verb.kind}
			if b := in.Body; b != nil {
				n.At, n.Now, n.Reason = b.At, b.Now, b.Reason
			}
			return a.change(ctx, in.ID, n, in.DryRun.DryRun)
		})
	}
	handle(a, operation{
		method: http.MethodPost, path: "/v1/subscriptions/migrate", id: "migrate-subscriptions", tag: tag,
		summary: "Move the subscriptions of a plan to the prices of another catalog version",
	}, a.migrate)
}

func (a *api) change(ctx context.Context, id string, n govern.NewChange, dry bool) (TimelineBody, error) {
	t, err := a.cfg.Govern.ChangeSubscription(ctx, operator, id, n, dry)
	if err != nil {
		return TimelineBody{}, err
	}
	out := a.timelineOf(t, dry)
	if dry {
		out.Money, err = a.moneyOfChange(ctx, &t.History)
	}
	return out, err
}

func (b *newSubscriptionChangeBody) value() (n govern.NewChange, err error) {
	n = govern.NewChange{
		Kind: subscription.Kind(b.Kind), At: b.At, Plan: b.Plan, Version: b.Version, Key: b.Key, Price: b.Price, Until: b.Until, Now: b.Now, Reason: b.Reason,
	}
	counted := n.Kind == subscription.Quantity || n.Kind == subscription.SetAddOn
	if counted || b.Quantity != "" {
		if n.Quantity, err = money.ParseDecimal(b.Quantity); err != nil {
			return n, &govern.Invalid{Pointer: "/quantity", Rule: fmt.Sprintf("%q is no quantity", b.Quantity), Fix: "write a plain number, such as 5 or 2.5"}
		}
	}
	return n, nil
}
