package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
)

// Erasures takes the content of a person's events away; the journal in files fits.
type Erasures interface {
	// Erase orders it, and returns the order's position in the journal. From then on nothing is served.
	Erase(ctx context.Context, subject, actor, reason string, at time.Time) (uint64, error)
	// Erasing is how many orders are not carried out on the disk yet.
	Erasing() int
}

type erasureBody struct {
	Subject string `json:"subject" minLength:"1" maxLength:"256" doc:"The subject of the events, as they were sent"`
	Reason  string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why, such as a request's number; it stays in the journal, so name no person"`
}

type orderedBody struct {
	Position uint64 `json:"position" doc:"Of the order in the journal"`
	Waiting  int    `json:"waiting" doc:"Orders that are not carried out on the disk yet"`
}

type erasingBody struct {
	Waiting int `json:"waiting" doc:"Orders that are not carried out on the disk yet"`
}

func (a *api) erasures() {
	const tag = "events"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/erasures", id: "erase-subject", tag: tag,
		summary: "Erase subject, data, trace, receipt and key of all events of a subject so far; what they count for, their ids, and proofs stay",
	}, func(ctx context.Context, in *struct{ Body erasureBody }) (orderedBody, error) {
		e := a.cfg.Erasures
		if e == nil {
			return orderedBody{}, fmt.Errorf("this server's journal cannot erase: %w", account.ErrInvalid)
		}
		if err := a.cfg.Flush(ctx); err != nil {
			return orderedBody{}, err
		}
		position, err := e.Erase(ctx, in.Body.Subject, operator, in.Body.Reason, a.cfg.Clock.Now())
		return orderedBody{position, e.Erasing()}, err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/erasures", id: "get-erasures", tag: tag, summary: "How many erasures are not carried out on the disk yet",
	}, func(context.Context, *struct{}) (erasingBody, error) {
		if a.cfg.Erasures == nil {
			return erasingBody{}, nil
		}
		return erasingBody{a.cfg.Erasures.Erasing()}, nil
	})
}
