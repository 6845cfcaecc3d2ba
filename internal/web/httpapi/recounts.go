package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/recount"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

type recountBody struct {
	ID             string        `json:"id"`
	Meter          string        `json:"meter"`
	State          string        `json:"state" enum:"running,done,cancelled,failed"`
	From           time.Time     `json:"from,omitzero" doc:"Event time; absent: open"`
	To             time.Time     `json:"to,omitzero" doc:"Not included; absent: open"`
	DryRun         bool          `json:"dry_run" doc:"It changes nothing"`
	IncludeClosed  bool          `json:"include_closed" doc:"Also in closed billing periods, where the difference is late usage"`
	Actor          string        `json:"actor"`
	Reason         string        `json:"reason"`
	CatalogVersion int64         `json:"catalog_version" doc:"That the meter is of; a newer version begins the job again"`
	CreatedAt      time.Time     `json:"created_at"`
	UpdatedAt      time.Time     `json:"updated_at"`
	Done           uint64        `json:"done" doc:"Journal position that it has reached"`
	Total          uint64        `json:"total" doc:"Journal position that it goes to; may grow once"`
	Read           int64         `json:"read" doc:"Events"`
	Changed        int64         `json:"changed" doc:"Events that count otherwise now; of a dry run: would"`
	Difference     money.Decimal `json:"difference" doc:"The changed events' new values less their old ones"`
	Closed         int64         `json:"closed" doc:"Left alone: their billing period is closed"`
	Admitted       int64         `json:"admitted" doc:"Left alone: a gateway admitted them by this meter, and its totals would not match any more"`
	Unreadable     int64         `json:"unreadable" doc:"Left alone: the meter cannot read them; problem tells the first"`
	Problem        string        `json:"problem,omitempty"`
}

func recountOf(j recount.Job) recountBody {
	return recountBody{
		ID: j.ID, Meter: j.Meter, State: string(j.State), From: instant(j.In.Start), To: instant(j.In.End), DryRun: j.DryRun, IncludeClosed: j.IncludeClosed,
		Actor: j.Actor, Reason: j.Reason, CatalogVersion: j.CatalogVersion, CreatedAt: instant(j.CreatedAt), UpdatedAt: instant(j.UpdatedAt),
		Done: j.Done, Total: j.Total, Read: j.Read, Changed: j.Changed, Difference: j.Difference, Closed: j.Closed, Admitted: j.Admitted,
		Unreadable: j.Unreadable, Problem: j.Problem,
	}
}

type newRecountBody struct {
	Meter         string    `json:"meter" doc:"Of the newest catalog version" maxLength:"64"`
	From          time.Time `json:"from,omitzero" doc:"Only events from this time on"`
	To            time.Time `json:"to,omitzero" doc:"Not included"`
	DryRun        bool      `json:"dry_run,omitempty" doc:"Count what would change, change nothing"`
	IncludeClosed bool      `json:"include_closed,omitempty" doc:"Also in closed billing periods; the difference is late usage there"`
	Reason        string    `json:"reason,omitempty" maxLength:"256" doc:"Stands in the history of each event"`
}

func (a *api) recounts() {
	const tag = "meters"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/recounts", id: "create-recount", tag: tag, status: http.StatusCreated,
		summary:     "Apply a meter, as it is now, to the events that are kept",
		description: "A job: ask for it again to see how far it is. Running it again changes nothing.",
	}, func(ctx context.Context, in *struct{ Body newRecountBody }) (recountBody, error) {
		b := in.Body
		j, err := a.cfg.Recount.Begin(ctx, operator, recount.Order{
			Meter: b.Meter, In: period.Interval{Start: instant(b.From), End: instant(b.To)}, DryRun: b.DryRun, IncludeClosed: b.IncludeClosed, Reason: b.Reason,
		})
		if _, ok := a.cfg.Govern.Current().Meter(b.Meter); err != nil && !ok {
			return recountBody{}, a.noMeter()
		}
		return recountOf(j), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/recounts", id: "list-recounts", tag: tag, summary: "List recounts, newest first",
	}, func(ctx context.Context, in *Paging) (listBody[recountBody], error) {
		from, err := placeOfID("recounts", "rcn_", in.Cursor)
		if err != nil {
			return listBody[recountBody]{}, err
		}
		rows, err := a.cfg.Recount.Jobs(ctx, recount.Query{Cursor: from, Limit: in.fetch()})
		return listOf(*in, "recounts", rows, func(j recount.Job) string { return j.ID }, recountOf), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/recounts/{id}", id: "get-recount", tag: tag, summary: "Show a recount and how far it is",
	}, func(ctx context.Context, in *recountInput) (recountBody, error) {
		j, err := a.cfg.Recount.Job(ctx, in.ID)
		return recountOf(j), notFoundAs(err, "recount")
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/recounts/{id}/cancel", id: "cancel-recount", tag: tag,
		summary: "End a recount; what it has changed stays",
	}, func(ctx context.Context, in *recountInput) (recountBody, error) {
		j, err := a.cfg.Recount.Cancel(ctx, operator, in.ID)
		return recountOf(j), notFoundAs(err, "recount")
	})
}

type recountInput struct {
	ID string `path:"id"`
}
