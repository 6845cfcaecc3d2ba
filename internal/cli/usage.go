package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

type usageCmd struct {
	Customer     []string `arg:"" optional:"" help:"Ids or keys."`
	AllCustomers bool     `help:"All customers instead of named ones."`
	Meter        string   `help:"Which meter." required:""`
	From         string   `help:"RFC 3339; default: the current billing period, of several customers the current month." placeholder:"T"`
	To           string   `help:"RFC 3339, not included." placeholder:"T"`
	Window       string   `help:"Length of the windows: 15m, hour, day, week, month, billing_period. Default: day for one customer without groups, else none." enum:",15m,hour,day,week,month,billing_period" default:"" placeholder:"W"`
	Zone         string   `help:"IANA zone of the windows; default: the customer's, of several UTC." placeholder:"ZONE"`
	GroupBy      []string `help:"A dimension of the meter, or customer; may be repeated." placeholder:"NAME" sep:"none"`
	Where        []string `help:"Only events with this value of a dimension, DIMENSION:VALUE; may be repeated." placeholder:"D:V" sep:"none"`
	Top          int      `help:"So many groups of the greatest value, greatest first." placeholder:"N"`
	Limit        int      `help:"At most so many groups." default:"1000"`
}

func (c *usageCmd) Run(e *Env) error {
	switch {
	case len(c.Customer) == 0 && !c.AllCustomers:
		return errors.New("name a customer, or ask for --all-customers")
	case len(c.Customer) > 0 && c.AllCustomers:
		return errors.New("name customers, or ask for --all-customers; not both")
	case c.Limit < 1:
		return errors.New("--limit must be at least 1")
	case c.Top < 0:
		return errors.New("--top must be at least 1")
	}
	q := url.Values{"meter": {c.Meter}, "customer": c.Customer, "group_by": c.GroupBy, "where": c.Where}
	for name, value := range map[string]string{"from": c.From, "to": c.To, "window": c.Window, "zone": c.Zone} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if c.Top > 0 {
		q.Set("top", strconv.Itoa(c.Top))
	}
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.gather(e.Ctx, "/v1/usage", q, "items", c.Limit)
	if err != nil {
		return err
	}
	return e.print(b, usageText)
}

// usageText is one customer's usage by windows, or one line a group with its windows below.
func usageText(w io.Writer, d doc) error {
	if err := fields("customer", "meter", "from", "to", "zone", "value")(w, d); err != nil {
		return err
	}
	out := lines{w: w}
	if _, one := d["value"]; one {
		usageWindows(&out, d)
		return out.err
	}
	for _, it := range d.list("items") {
		names := []string{}
		if customer := it.s("customer"); customer != "" {
			names = append(names, customer)
		}
		dimensions, _ := it["dimensions"].(map[string]any) // absent: none
		for _, name := range slices.Sorted(maps.Keys(dimensions)) {
			names = append(names, name+"="+fmt.Sprint(dimensions[name]))
		}
		out.put(cmp.Or(strings.Join(names, " "), "all"), it.s("value"))
		usageWindows(&out, it)
	}
	return out.err
}

func usageWindows(out *lines, d doc) {
	for _, x := range d.list("windows") {
		out.put(x.s("start"), x.s("value"))
	}
}
