package cli

import (
	"io"
	"net/url"
	"time"
)

type reservationsCmd struct {
	Create  reservationsCreateCmd  `cmd:"" help:"Take quota before the work is done."`
	Get     reservationsGetCmd     `cmd:"" help:"Show a reservation."`
	Extend  reservationsExtendCmd  `cmd:"" help:"Let a reservation live longer, or reserve more with it."`
	Settle  reservationsSettleCmd  `cmd:"" help:"Charge what the work did cost."`
	Release reservationsReleaseCmd `cmd:"" help:"Give a reservation back."`
}

type reservationsCreateCmd struct {
	Customer string        `arg:"" help:"Id or key."`
	Meter    string        `arg:"" optional:"" help:"What is measured; or --route."`
	Cost     string        `arg:"" optional:"" help:"In the meter's unit; default: the route's, or 1."`
	Route    string        `help:"A route's match in the catalog: its meter, limits and cost are used." placeholder:"MATCH"`
	KeyID    string        `help:"An API key's id, where limits are per key or project." placeholder:"key_…"`
	User     string        `help:"The end user, where limits are per user."`
	TTL      time.Duration `help:"Until it expires." default:"1m"`
	OnExpiry string        `help:"charge or release." enum:"charge,release" default:"charge"`
}

func (c *reservationsCreateCmd) Run(e *Env) error {
	return send(e, "/v1/reservations", put("customer", c.Customer, "meter", c.Meter, "cost", c.Cost, "route", c.Route, "key_id", c.KeyID, "user", c.User,
		"ttl_s", wholeSeconds(c.TTL), "on_expiry", c.OnExpiry), reservationText())
}

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

func reservationText() func(io.Writer, doc) error {
	return fields("id", "customer", "meter", "route", "state", "reserved", "charged", "expires_at", "on_expiry", "decision_id")
}

type reservationsGetCmd struct {
	ID string `arg:"" help:"res_…"`
}

func (c *reservationsGetCmd) Run(e *Env) error {
	return ask(e, "/v1/reservations/"+url.PathEscape(c.ID), nil, reservationText())
}

type reservationsExtendCmd struct {
	ID   string        `arg:"" help:"res_…"`
	Cost string        `arg:"" optional:"" help:"More to reserve."`
	TTL  time.Duration `help:"From now on; never shortens." default:"1m"`
}

func (c *reservationsExtendCmd) Run(e *Env) error {
	return send(e, "/v1/reservations/"+url.PathEscape(c.ID)+"/extend", put("cost", c.Cost, "ttl_s", wholeSeconds(c.TTL)), reservationText())
}

type reservationsSettleCmd struct {
	ID     string `arg:"" help:"res_…"`
	Cost   string `arg:"" optional:"" help:"What it did cost; default: what was reserved."`
	Status int    `help:"HTTP status of the work." placeholder:"N"`
}

func (c *reservationsSettleCmd) Run(e *Env) error {
	return send(e, "/v1/reservations/"+url.PathEscape(c.ID)+"/settle", put("cost", c.Cost, "status", c.Status), reservationText())
}

type reservationsReleaseCmd struct {
	ID string `arg:"" help:"res_…"`
}

func (c *reservationsReleaseCmd) Run(e *Env) error {
	return send(e, "/v1/reservations/"+url.PathEscape(c.ID)+"/release", put(), reservationText())
}
