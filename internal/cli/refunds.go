package cli

type refundsCmd struct {
	List refundsListCmd `cmd:"" default:"1" help:"List what was given back, by customer, day, route and reason."`
}

type refundsListCmd struct {
	Customer string `help:"Only this customer's; id or key."`
	pages
}

func (c *refundsListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/refunds", only("customer", c.Customer),
		table("DAY|CUSTOMER|ROUTE|METER|REASON|REFUSED|COUNT|COST", "day", "customer", "route", "meter", "reason", "refused", "count", "cost"))
}
