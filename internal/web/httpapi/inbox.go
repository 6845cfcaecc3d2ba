package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/inbox"
	"github.com/tallystick/tallystick/internal/store"
)

type groupBody struct {
	Cause      string    `json:"cause" enum:"unknown_type,no_subject,unknown_customer,unreadable,filtered,ready"`
	Value      string    `json:"value" doc:"The subject of unknown_customer, else the type"`
	Events     int64     `json:"events"`
	FirstSeen  time.Time `json:"first_seen"`
	LastSeen   time.Time `json:"last_seen"`
	Source     string    `json:"source" doc:"Of the newest one"`
	ExampleID  string    `json:"example_id"`
	Suggestion string    `json:"suggestion,omitempty" doc:"What may have been meant"`
}

type groupsBody struct {
	Items    []groupBody `json:"items" doc:"The largest first"`
	Next     *string     `json:"next" doc:"Always null"`
	Events   int64       `json:"events" doc:"Looked at"`
	Complete bool        `json:"complete" doc:"false: there are more events or groups than one call tells apart"`
}

type unmatchedBody struct {
	EventBody
	Cause string `json:"cause" enum:"unknown_type,no_subject,unknown_customer,unreadable,filtered,ready" doc:"Of today; ready: it would count, replay it"`
	Rule  string `json:"rule,omitempty" doc:"That the data of an unreadable one breaks"`
}

type replayBody struct {
	Cause  string `json:"cause,omitempty" doc:"Of the group; default: all"`
	Value  string `json:"value,omitempty" doc:"Of the group"`
	Reason string `json:"reason,omitempty" maxLength:"256" doc:"Kept in the events' history"`
	DryRun bool   `json:"dry_run,omitempty" doc:"Only count"`
	Cursor string `json:"cursor,omitempty" maxLength:"1024" doc:"next of the call before"`
}

type replayedBody struct {
	Replayed       int64   `json:"replayed" doc:"They count now, at their own time"`
	StillUnmatched int64   `json:"still_unmatched"`
	Next           *string `json:"next" doc:"There are more: call again with this cursor; null: all were looked at"`
}

type aliasBody struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind" enum:"type,customer"`
	From      string    `json:"from"`
	To        string    `json:"to" doc:"An event type, or the customer's key"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by"`
}

type newAliasBody struct {
	Kind string `json:"kind" enum:"type,customer"`
	From string `json:"from" doc:"As events carry it: their type, or their subject"`
	To   string `json:"to" doc:"A type that a meter reads, or that meter's key; or a customer's id or key"`
}

func (a *api) aliasOf(al store.Alias) aliasBody {
	out := aliasBody{ID: al.ID, Kind: string(al.Kind), From: al.From, To: al.To, CreatedAt: instant(al.CreatedAt), CreatedBy: al.CreatedBy}
	if al.Kind == store.AliasCustomer {
		out.To = a.customerKey(al.To)
	}
	return out
}

func (a *api) inbox() {
	const tag = "unmatched events"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/unmatched", id: "list-unmatched", tag: tag, summary: "Events that count for nothing, by why",
	}, a.unmatchedGroups)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/unmatched/events", id: "list-unmatched-events", tag: tag, summary: "List unmatched events, newest first",
		description: "A page may hold fewer events than limit and yet have a next one.",
	}, a.unmatchedEvents)
	handle(a, operation{
		method: http.MethodPost, path: "/v1/unmatched/replay", id: "replay-unmatched", tag: tag, summary: "Judge unmatched events anew",
		description: "By the catalog, customers and aliases of now. One call looks at 50,000 events.",
	}, a.replayUnmatched)
	handle(a, operation{
		method: http.MethodPost, path: "/v1/aliases", id: "create-alias", tag: tag, summary: "Read a type or subject as another one",
		description: "New events count by it at once; replay those that came before.", status: http.StatusCreated,
	}, func(ctx context.Context, in *struct{ Body newAliasBody }) (aliasBody, error) {
		al, err := a.cfg.Govern.CreateAlias(ctx, operator, govern.NewAlias(in.Body))
		return a.aliasOf(al), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/aliases", id: "list-aliases", tag: tag, summary: "List aliases, newest first",
	}, func(ctx context.Context, in *Paging) (listBody[aliasBody], error) {
		from, err := placeOfID("aliases", "als_", in.Cursor)
		if err != nil {
			return listBody[aliasBody]{}, err
		}
		rows, err := a.cfg.Govern.ListAliases(ctx, store.Query{Cursor: from, Limit: in.fetch()})
		return listOf(*in, "aliases", rows, func(al store.Alias) string { return al.ID }, a.aliasOf), err
	})
	handle(a, operation{
		method: http.MethodDelete, path: "/v1/aliases", id: "delete-alias", tag: tag, summary: "Delete an alias",
		description: "What it made count goes on counting.",
	}, func(ctx context.Context, in *struct {
		Kind string `query:"kind" required:"true" enum:"type,customer"`
		From string `query:"from" required:"true"`
	},
	) (aliasBody, error) {
		al, err := a.cfg.Govern.DeleteAlias(ctx, operator, in.Kind, in.From)
		return a.aliasOf(al), notFoundAs(err, "alias")
	})
}

func (a *api) unmatchedGroups(ctx context.Context, in *struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most so many groups"`
},
) (groupsBody, error) {
	g, err := a.cfg.Inbox.Groups(ctx, in.Limit)
	out := groupsBody{Items: make([]groupBody, 0, len(g.List)), Events: g.Events, Complete: g.Complete}
	for _, x := range g.List {
		out.Items = append(out.Items, groupBody{
			string(x.Cause), x.Value, x.Events, instant(x.First), instant(x.Last), x.Source, x.Example, x.Suggestion,
		})
	}
	return out, err
}

type unmatchedInput struct {
	Paging
	Cause string `query:"cause"`
	Value string `query:"value"`
}

func (a *api) unmatchedEvents(ctx context.Context, in *unmatchedInput) (listBody[unmatchedBody], error) {
	const kind = "unmatched"
	from, err := place(kind, in.Cursor)
	if err != nil {
		return listBody[unmatchedBody]{}, err
	}
	list, next, err := a.cfg.Inbox.Events(ctx, inbox.Query{Cause: inbox.Cause(in.Cause), Value: in.Value, Cursor: from, Limit: in.Limit})
	if errors.Is(err, store.ErrInvalid) {
		return listBody[unmatchedBody]{}, newProblem(codeCursorInvalid, "")
	}
	out := pageOf[unmatchedBody](kind, len(list), next)
	for _, e := range list {
		out.Items = append(out.Items, unmatchedBody{a.eventOf(e.Record, "", ""), string(e.Cause), e.Rule})
	}
	return out, err
}

func (a *api) replayUnmatched(ctx context.Context, in *struct{ Body replayBody }) (replayedBody, error) {
	const kind = "replay"
	from, err := place(kind, in.Body.Cursor)
	if err != nil {
		return replayedBody{}, err
	}
	done, err := a.cfg.Inbox.Replay(ctx, inbox.Replay{
		Actor: operator, Reason: in.Body.Reason, Cause: inbox.Cause(in.Body.Cause), Value: in.Body.Value, Dry: in.Body.DryRun, Cursor: from,
	})
	if from != "" && errors.Is(err, store.ErrInvalid) {
		return replayedBody{}, newProblem(codeCursorInvalid, "")
	}
	out := replayedBody{Replayed: done.Replayed, StillUnmatched: done.StillUnmatched}
	if done.Next != "" {
		next := cursor(kind, done.Next)
		out.Next = &next
	}
	return out, err
}
