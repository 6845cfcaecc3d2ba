package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/web/node"
)

// Gateways are the gateways in processes of their own.
type Gateways struct {
	Nodes *nodes.Service
	List  func() []node.Status
}

type gatewayBody struct {
	Node      uint16             `json:"node"`
	Name      string             `json:"name"`
	Status    string             `json:"status" enum:"connected,away,revoked"`
	CreatedAt time.Time          `json:"created_at"`
	RevokedAt time.Time          `json:"revoked_at,omitzero"`
	LastSeen  time.Time          `json:"last_seen,omitzero" doc:"On the machine's clock; absent: not since the server was started"`
	Epoch     uint32             `json:"epoch,omitzero" doc:"Its run"`
	Version   string             `json:"version,omitzero" doc:"Of its program"`
	Behind    uint64             `json:"changes_behind" doc:"Changes of catalog, customers and keys that it does not have yet"`
	SkewMS    int64              `json:"clock_skew_ms" doc:"Its business time less the server's, when it was last seen"`
	Spool     int64              `json:"spool_bytes"`
	Lag       int64              `json:"spool_lag_bytes" doc:"In its spool and not in the journal yet"`
	Open      int64              `json:"open" doc:"Requests that run"`
	Tokens    []gatewayTokenBody `json:"tokens" doc:"Oldest first; at most two are live"`
}

type gatewayTokenBody struct {
	ID        string    `json:"id"`
	Hint      string    `json:"hint" doc:"The end of the secret"`
	CreatedAt time.Time `json:"created_at"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

type issuedGatewayBody struct {
	Node   uint16 `json:"node"`
	Name   string `json:"name"`
	Token  string `json:"token" doc:"Id of the new token"`
	Secret string `json:"secret" doc:"Shown once" example:"tally_gw_…"`
}

type gatewaysBody struct {
	Items []gatewayBody `json:"items"`
}

type newGatewayBody struct {
	Name string `json:"name" doc:"Of a new gateway, or of one that is to get a second token"`
}

type revokeGatewayBody struct {
	Token string `json:"token,omitempty" doc:"Only this token; default: the gateway"`
}

var errNoGateways = fmt.Errorf("this server takes no gateways of other processes: %w", account.ErrState)

func (a *api) gateways() {
	const tag = "gateways"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/gateways", id: "create-gateway-token", tag: tag, status: http.StatusCreated,
		summary: "Draw a token with which a gateway process joins; its secret is shown once",
	}, func(ctx context.Context, in *struct{ Body newGatewayBody }) (issuedGatewayBody, error) {
		if a.cfg.Gateways.Nodes == nil {
			return issuedGatewayBody{}, errNoGateways
		}
		n, t, err := a.cfg.Gateways.Nodes.Issue(ctx, operator, in.Body.Name)
		return issuedGatewayBody{n.Node, n.Name, t.ID, t.Secret}, err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/gateways", id: "list-gateways", tag: tag, summary: "List gateway processes, by number",
	}, func(context.Context, *struct{}) (gatewaysBody, error) {
		out := gatewaysBody{Items: []gatewayBody{}}
		if a.cfg.Gateways.Nodes == nil {
			return out, nil
		}
		for _, st := range a.cfg.Gateways.List() {
			out.Items = append(out.Items, a.gatewayOf(st))
		}
		return out, nil
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/gateways/{name}/revoke", id: "revoke-gateway", tag: tag,
		summary: "Revoke a gateway, or one of its tokens, at once and for ever; doing it again changes nothing",
	}, func(ctx context.Context, in *struct {
		Name string `path:"name"`
		Body *revokeGatewayBody
	},
	) (gatewayBody, error) {
		if a.cfg.Gateways.Nodes == nil {
			return gatewayBody{}, errNoGateways
		}
		token := ""
		if in.Body != nil {
			token = in.Body.Token
		}
		n, err := a.cfg.Gateways.Nodes.Revoke(ctx, operator, in.Name, token)
		if err != nil {
			return gatewayBody{}, err
		}
		for _, st := range a.cfg.Gateways.List() {
			if st.Node.Node == n.Node {
				return a.gatewayOf(st), nil
			}
		}
		return a.gatewayOf(node.Status{Node: n}), nil
	})
}

func (a *api) gatewayOf(st node.Status) gatewayBody {
	out := gatewayBody{
		Node: st.Node.Node, Name: st.Name, Status: "away", CreatedAt: instant(st.CreatedAt), RevokedAt: instant(st.RevokedAt), LastSeen: instant(st.LastSeen),
		Epoch: st.Epoch, Version: st.Version, Behind: st.Behind, SkewMS: st.Skew.Milliseconds(), Spool: st.Spool, Lag: st.Lag, Open: st.Open,
		Tokens: []gatewayTokenBody{},
	}
	switch {
	case !st.RevokedAt.IsZero():
		out.Status = "revoked"
	case st.Connected:
		out.Status = "connected"
	}
	for _, t := range a.cfg.Gateways.Nodes.Tokens(st.Node.Node) {
		out.Tokens = append(out.Tokens, gatewayTokenBody{t.ID, t.Hint, instant(t.CreatedAt), instant(t.RevokedAt)})
	}
	return out
}
