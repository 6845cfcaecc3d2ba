package cli

import (
	"fmt"
	"io"
	"net/url"
)

type webhooksCmd struct {
	Create  webhooksCreateCmd  `cmd:"" help:"Send notices to a URL; shows the secret that signs them."`
	List    webhooksListCmd    `cmd:"" help:"List webhooks."`
	Disable webhooksDisableCmd `cmd:"" help:"Send nothing to a webhook any more."`
}

type webhooksCreateCmd struct {
	URL  string   `arg:"" help:"Where notices are posted."`
	Kind []string `help:"Only notices of this kind, such as limit.threshold. Can be repeated." placeholder:"KIND" sep:"none"`
}

func (c *webhooksCreateCmd) Run(e *Env) error {
	body := put("url", c.URL)
	if len(c.Kind) > 0 {
		body["kinds"] = c.Kind
	}
	return send(e, "/v1/webhooks", body, fields("id", "url", "kinds", "status", "created_at", "secret"))
}

type webhooksListCmd struct{ pages }

func (c *webhooksListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/webhooks", nil, table("ID|URL|KINDS|STATUS|CREATED", "id", "url", "kinds", "status", "created_at"))
}

type webhooksDisableCmd struct {
	ID string `arg:"" help:"whk_…"`
}

func (c *webhooksDisableCmd) Run(e *Env) error {
	return send(e, "/v1/webhooks/"+url.PathEscape(c.ID)+"/disable", put(), fields("id", "url", "status", "disabled_at"))
}

type noticesCmd struct {
	List      noticesListCmd      `cmd:"" help:"List notices."`
	Get       noticesGetCmd       `cmd:"" help:"Show a notice and its deliveries."`
	Redeliver noticesRedeliverCmd `cmd:"" help:"Send a notice again."`
}

type noticesListCmd struct {
	Customer string `help:"Only this customer's; id or key."`
	pages
}

func (c *noticesListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/notices", only("customer", c.Customer), table("ID|TIME|CUSTOMER|KIND|TEXT", "id", "time", "customer", "kind", "text"))
}

type noticesGetCmd struct {
	ID string `arg:"" help:"ntc_…"`
}

func (c *noticesGetCmd) Run(e *Env) error {
	return ask(e, "/v1/notices/"+url.PathEscape(c.ID), nil, noticeText)
}

type noticesRedeliverCmd struct {
	ID string `arg:"" help:"ntc_…"`
}

func (c *noticesRedeliverCmd) Run(e *Env) error {
	return send(e, "/v1/notices/"+url.PathEscape(c.ID)+"/redeliver", put(), noticeText)
}

func noticeText(w io.Writer, d doc) error {
	if err := fields("id", "time", "customer", "kind", "text")(w, d); err != nil {
		return err
	}
	for _, x := range d.list("deliveries") {
		line := fmt.Sprintf("%s\t%s\t%s attempts", x.s("webhook"), x.s("state"), x.s("attempts"))
		if at := x.s("next_at"); at != "" {
			line += "\tnext " + at
		}
		if _, err := fmt.Fprintln(w, line+"\t"+x.s("last_error")); err != nil {
			return err
		}
	}
	return nil
}
