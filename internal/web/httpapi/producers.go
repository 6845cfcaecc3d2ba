package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

// ProducerBody is a producer as it is shown; it never holds a secret.
type ProducerBody struct {
	ID        string              `json:"id"`
	Key       string              `json:"key"`
	Sources   []string            `json:"sources" doc:"Exact, or with a * at the end"`
	Types     []string            `json:"types" doc:"Exact, or with a * at the end"`
	Status    string              `json:"status" enum:"active,revoked,expired"`
	CreatedAt time.Time           `json:"created_at"`
	ExpiresAt time.Time           `json:"expires_at,omitzero"`
	RevokedAt time.Time           `json:"revoked_at,omitzero"`
	Tokens    []ProducerTokenBody `json:"tokens" doc:"Oldest first; at most two are live"`
}

// ProducerTokenBody is one token without its secret.
type ProducerTokenBody struct {
	ID        string    `json:"id"`
	Hint      string    `json:"hint" doc:"The end of the secret"`
	CreatedAt time.Time `json:"created_at"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

type newProducerBody struct {
	Key       string    `json:"key"`
	Sources   []string  `json:"sources" doc:"Exact, or with a * at the end; no other producer's"`
	Types     []string  `json:"types" doc:"Exact, or with a * at the end"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"On the business clock; default: never"`
}

type issuedProducerBody struct {
	ProducerBody
	Token   string `json:"token" doc:"Id of the new token"`
	Secret  string `json:"secret" doc:"Shown once" example:"tally_prd_…"`
	Replace string `json:"replaces,omitempty" doc:"Id of the other live token, to be revoked when the new one is in use"`
}

type revokeProducerBody struct {
	Token string `json:"token,omitempty" doc:"Only this token; default: the producer"`
}

// ProducerRef names a producer in the path.
type ProducerRef struct {
	Ref string `path:"ref" doc:"Id or key"`
}

func (a *api) producerOf(p account.Producer) ProducerBody {
	out := ProducerBody{
		ID: p.ID, Key: p.Key, Sources: p.Sources, Types: p.Types, Status: p.Status(a.cfg.Clock.Now()).String(),
		CreatedAt: instant(p.CreatedAt), ExpiresAt: instant(p.ExpiresAt), RevokedAt: instant(p.RevokedAt), Tokens: []ProducerTokenBody{},
	}
	for _, t := range a.cfg.Govern.ProducerTokens(p.ID) {
		out.Tokens = append(out.Tokens, ProducerTokenBody{t.ID, t.Hint, instant(t.CreatedAt), instant(t.RevokedAt)})
	}
	return out
}

func (a *api) issuedOf(p account.Producer, t govern.IssuedToken) issuedProducerBody {
	out := issuedProducerBody{ProducerBody: a.producerOf(p), Token: t.ID, Secret: t.Secret}
	for _, other := range out.Tokens {
		if other.ID != t.ID && other.RevokedAt.IsZero() {
			out.Replace = other.ID
		}
	}
	return out
}

func (a *api) producers() {
	const tag = "producers"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/producers", id: "create-producer", tag: tag, status: http.StatusCreated,
		summary: "Create a producer with its first token, whose secret is shown once",
	}, func(ctx context.Context, in *struct{ Body newProducerBody }) (issuedProducerBody, error) {
		b := in.Body
		p, t, err := a.cfg.Govern.CreateProducer(ctx, operator, govern.NewProducer{Key: b.Key, Sources: b.Sources, Types: b.Types, ExpiresAt: b.ExpiresAt})
		return a.issuedOf(p, t), err
	})
	handle(a, operation{method: http.MethodGet, path: "/v1/producers", id: "list-producers", tag: tag, summary: "List producers, newest first"}, a.listProducers)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/producers/{ref}", id: "get-producer", tag: tag, summary: "Show a producer and its tokens",
	}, func(_ context.Context, in *ProducerRef) (ProducerBody, error) {
		p, err := a.cfg.Govern.Producer(in.Ref)
		return a.producerOf(p), err
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/producers/{ref}/rotate", id: "rotate-producer", tag: tag,
		summary: "Draw a second token, whose secret is shown once; the first one stays until it is revoked",
	}, func(ctx context.Context, in *struct {
		ProducerRef
		Body *struct{}
	},
	) (issuedProducerBody, error) {
		p, t, err := a.cfg.Govern.RotateProducer(ctx, operator, in.Ref)
		return a.issuedOf(p, t), err
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/producers/{ref}/revoke", id: "revoke-producer", tag: tag,
		summary: "Revoke a producer, or one of its tokens, for ever; doing it again changes nothing",
	}, func(ctx context.Context, in *struct {
		ProducerRef
		Body *revokeProducerBody
	},
	) (ProducerBody, error) {
		if in.Body != nil && in.Body.Token != "" {
			p, err := a.cfg.Govern.RevokeProducerToken(ctx, operator, in.Ref, in.Body.Token)
			return a.producerOf(p), err
		}
		p, err := a.cfg.Govern.RevokeProducer(ctx, operator, in.Ref)
		return a.producerOf(p), err
	})
}

func (a *api) listProducers(ctx context.Context, in *Paging) (listBody[ProducerBody], error) {
	const kind = "producers"
	from, err := placeOfID(kind, "prd_", in.Cursor)
	if err != nil {
		return listBody[ProducerBody]{}, err
	}
	rows, err := a.cfg.Govern.ListProducers(ctx, store.Query{Cursor: from, Limit: in.fetch()})
	return listOf(*in, kind, rows, func(p account.Producer) string { return p.ID }, a.producerOf), err
}

// authenticateProducer lets a producer's token report usage, and do nothing else.
func (a *api) authenticateProducer(r *http.Request, c *call, token string) *problem {
	sender, fault := a.cfg.Govern.ProducerSender(token, a.cfg.Clock.Now())
	switch fault {
	case "":
	case account.FaultRevoked:
		return newProblem(codeTokenRevoked, "")
	case account.FaultExpired:
		return newProblem(codeTokenExpired, "")
	case account.FaultUnknown, account.FaultMissing:
		return newProblem(codeTokenUnknown, "")
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1/events" {
		return newProblem(codeTokenScope, "")
	}
	c.actor, c.sender = sender.Producer, sender
	return nil
}

// permit tells ingest which events a sender may report.
func permit(from govern.Sender) func(source, eventType string) error {
	return func(source, eventType string) error {
		err := from.Check(source, eventType)
		if broken, ok := errors.AsType[*govern.Invalid](err); ok {
			return &ingest.Invalid{Pointer: broken.Pointer, Rule: broken.Rule, Fix: broken.Fix}
		}
		return err
	}
}
