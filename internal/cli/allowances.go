package cli

import (
	"io"
	"net/url"
	"time"
)

type overridesCmd struct {
	Create overridesCreateCmd `cmd:"" help:"Replace a limit's number for one customer or key, at once."`
	List   overridesListCmd   `cmd:"" help:"List overrides."`
	End    overridesEndCmd    `cmd:"" help:"Take an override back."`
}

type overridesCreateCmd struct {
	Customer string `arg:"" help:"Id or key."`
	Limit    string `arg:"" help:"Key of the limit in the customer's plan."`
	Value    string `arg:"" optional:"" help:"A quota, cap or number at once; of a bucket a rate such as 400/s."`
	Burst    string `help:"Of a token bucket; default: as in the plan." placeholder:"N"`
	KeyID    string `help:"Only for this API key." placeholder:"key_…"`
	Reason   string `help:"Why; it stands in the audit log." required:"" placeholder:"TEXT"`
	expiry
}

// expiry is until when something holds.
type expiry struct {
	ExpiresIn time.Duration `help:"How long it holds." placeholder:"DURATION" xor:"expiry"`
	ExpiresAt string        `help:"Until when it holds, RFC 3339." placeholder:"T" xor:"expiry"`
}

// at is the instant as the API takes it, "" for never.
func (x expiry) at(e *Env) (string, error) {
	if x.ExpiresIn <= 0 {
		return x.ExpiresAt, nil
	}
	now, err := businessNow(e)
	if err != nil {
		return "", err
	}
	return now.Add(x.ExpiresIn).Format(time.RFC3339), nil
}

func (c *overridesCreateCmd) Run(e *Env) error {
	until, err := c.at(e)
	if err != nil {
		return err
	}
	return send(e, "/v1/overrides", put("customer", c.Customer, "limit", c.Limit, "value", c.Value, "burst", c.Burst, "key_id", c.KeyID,
		"reason", c.Reason, "expires_at", until), overrideText())
}

func overrideText() func(w io.Writer, d doc) error {
	return fields("id", "customer", "key_id", "limit", "value", "burst", "status", "reason", "author", "created_at", "expires_at", "ended_at")
}

type overridesListCmd struct {
	Customer string `help:"Only this customer's; id or key."`
	pages
}

func (c *overridesListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/overrides", only("customer", c.Customer),
		table("ID|CUSTOMER|KEY|LIMIT|VALUE|BURST|STATUS|EXPIRES|REASON", "id", "customer", "key_id", "limit", "value", "burst", "status", "expires_at", "reason"))
}

type overridesEndCmd struct {
	ID string `arg:"" help:"ovr_…"`
}

func (c *overridesEndCmd) Run(e *Env) error {
	return send(e, "/v1/overrides/"+url.PathEscape(c.ID)+"/end", put(), overrideText())
}
