package cli

import (
	"fmt"
	"io"
	"net/url"
	"time"
)

type producersCmd struct {
	Create producersCreateCmd `cmd:"" help:"Create a producer; its token is shown once."`
	List   producersListCmd   `cmd:"" help:"List producers."`
	Get    producersGetCmd    `cmd:"" help:"Show a producer and its tokens."`
	Rotate producersRotateCmd `cmd:"" help:"Draw a second token; the first stays until it is revoked."`
	Revoke producersRevokeCmd `cmd:"" help:"Revoke a producer, or one of its tokens, for ever."`
}

type producersCreateCmd struct {
	Key       string        `arg:"" help:"Your name for it."`
	Source    []string      `help:"A source that it may send for; exact, or with a * at the end. Can be repeated." required:"" placeholder:"SOURCE" sep:"none"`
	Type      []string      `help:"An event type that it may send; the same." required:"" placeholder:"TYPE" sep:"none"`
	ExpiresIn time.Duration `help:"How long it works." placeholder:"DURATION" xor:"expiry"`
	ExpiresAt string        `help:"Until when it works, RFC 3339." placeholder:"T" xor:"expiry"`
}

func (c *producersCreateCmd) Run(e *Env) error {
	body := put("key", c.Key, "sources", c.Source, "types", c.Type, "expires_at", c.ExpiresAt)
	if c.ExpiresIn > 0 {
		now, err := businessNow(e)
		if err != nil {
			return err
		}
		body["expires_at"] = now.Add(c.ExpiresIn).Format(time.RFC3339)
	}
	return send(e, "/v1/producers", body, issuedText)
}

type producersListCmd struct{ pages }

func (c *producersListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/producers", nil, table("ID|KEY|STATUS|SOURCES|TYPES|CREATED", "id", "key", "status", "sources", "types", "created_at"))
}

type producersGetCmd struct {
	Producer string `arg:"" help:"Id or key."`
}

func (c *producersGetCmd) Run(e *Env) error {
	return ask(e, "/v1/producers/"+url.PathEscape(c.Producer), nil, producerText)
}

type producersRotateCmd struct {
	Producer string `arg:"" help:"Id or key."`
}

func (c *producersRotateCmd) Run(e *Env) error {
	return send(e, "/v1/producers/"+url.PathEscape(c.Producer)+"/rotate", put(), issuedText)
}

type producersRevokeCmd struct {
	Producer string `arg:"" help:"Id or key."`
	Token    string `help:"Only this token (ptk_…)." placeholder:"ID"`
}

func (c *producersRevokeCmd) Run(e *Env) error {
	return send(e, "/v1/producers/"+url.PathEscape(c.Producer)+"/revoke", put("token", c.Token), producerText)
}

func producerText(w io.Writer, d doc) error {
	if err := fields("id", "key", "status", "sources", "types", "created_at", "expires_at", "revoked_at")(w, d); err != nil {
		return err
	}
	out := lines{w: w}
	for _, t := range d.list("tokens") {
		state := "live"
		if d.s("revoked_at") != "" {
			state = "ended with the producer"
		}
		if at := t.s("revoked_at"); at != "" {
			state = "revoked " + at
		}
		out.put("token "+t.s("id"), "…"+t.s("hint"), state)
	}
	return out.err
}

// issuedText is a producer with a new token's secret.
func issuedText(w io.Writer, d doc) error {
	if err := producerText(w, d); err != nil {
		return err
	}
	out := lines{w: w}
	out.put("secret", d.s("secret"))
	if out.err != nil {
		return out.err
	}
	if other := d.s("replaces"); other != "" {
		_, err := fmt.Fprintf(w, "Keep the secret now: it is not shown again. When it is in use: tally producers revoke %s --token %s\n", d.s("key"), other)
		return err
	}
	_, err := fmt.Fprintln(w, "Keep the secret now: it is not shown again.")
	return err
}
