package cli

import (
	"fmt"
	"io"
	"net/url"
)

// GatewayCommands are about our own gateways in processes of their own.
type GatewayCommands struct {
	Token  gatewayTokenCmd  `cmd:"" help:"Draw a token with which a gateway process joins; it is shown once."`
	List   gatewayListCmd   `cmd:"" help:"List gateway processes and how they stand."`
	Revoke gatewayRevokeCmd `cmd:"" help:"Revoke a gateway, or one of its tokens, at once and for ever."`
}

type gatewayTokenCmd struct {
	Name string `arg:"" help:"Your name for the gateway; one that is there gets a second token."`
}

func (c *gatewayTokenCmd) Run(e *Env) error {
	return send(e, "/v1/gateways", put("name", c.Name), func(w io.Writer, d doc) error {
		if err := fields("node", "name", "token", "secret")(w, d); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, "Keep the secret now: it is not shown again. The gateway takes it from TALLY_SERVER_TOKEN, or a file: tally serve --role gateway --server URL --server-token-file FILE")
		return err
	})
}

type gatewayListCmd struct{}

func (c *gatewayListCmd) Run(e *Env) error {
	return ask(e, "/v1/gateways", nil, table("NODE|NAME|STATUS|EPOCH|BEHIND|SPOOL LAG|OPEN|SKEW MS|LAST SEEN",
		"node", "name", "status", "epoch", "changes_behind", "spool_lag_bytes", "open", "clock_skew_ms", "last_seen"))
}

type gatewayRevokeCmd struct {
	Name  string `arg:"" help:"The gateway's name."`
	Token string `help:"Only this token (gwt_…)." placeholder:"ID"`
}

func (c *gatewayRevokeCmd) Run(e *Env) error {
	return send(e, "/v1/gateways/"+url.PathEscape(c.Name)+"/revoke", put("token", c.Token), fields("node", "name", "status", "created_at", "revoked_at"))
}
