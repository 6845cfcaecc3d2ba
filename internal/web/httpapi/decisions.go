package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
)

type decisionBody struct {
	DecisionID string        `json:"decision_id"`
	Time       time.Time     `json:"time"`
	Customer   string        `json:"customer" doc:"The customer's key; empty when the caller is not known"`
	Plan       string        `json:"plan"`
	Route      string        `json:"route"`
	Outcome    string        `json:"outcome" enum:"allowed,denied,unavailable"`
	Code       string        `json:"code" doc:"Problem code; empty when allowed"`
	Limit      string        `json:"limit" doc:"The deciding limit; empty when none decided"`
	Cost       money.Decimal `json:"cost"`
}

type decisionsInput struct {
	Customer string `query:"customer" doc:"Only this customer's; id or key"`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (a *api) decisions() {
	const tag = "decisions"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/decisions/explain", id: "explain-decision", tag: tag, summary: "Say why a request was allowed or denied",
	}, func(_ context.Context, in *struct {
		Body struct {
			DecisionID string `json:"decision_id" maxLength:"1024" doc:"The Decision-Id header of an answer"`
		}
	},
	) (ExplanationBody, error) {
		r, err := a.cfg.Enforce.Explain(in.Body.DecisionID)
		if err != nil {
			return ExplanationBody{}, err
		}
		return Explanation(in.Body.DecisionID, r), nil
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/decisions", id: "list-decisions", tag: tag,
		summary: "The last decisions, newest first; they are kept in memory, at most 1024",
	}, a.recentDecisions)
}

func (a *api) recentDecisions(_ context.Context, in *decisionsInput) (listBody[decisionBody], error) {
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[decisionBody]{}, err
	}
	out := listBody[decisionBody]{Items: []decisionBody{}}
	for _, d := range a.cfg.Enforce.Recent(id, in.Limit) {
		out.Items = append(out.Items, decisionBody{
			DecisionID: d.DecisionID, Time: instant(d.Time), Customer: firstOf(d.Customer, d.CustomerID), Plan: d.Plan, Route: d.Route,
			Outcome: d.Outcome.String(), Code: d.Code, Limit: d.Limit, Cost: d.Cost,
		})
	}
	return out, nil
}
