package gateways

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
)

// metered is what a customer had used of a meter before the examination.
type metered struct {
	customer, meter string
	value           money.Decimal
	why             string // it cannot be told; "" when it can
}

// usage finds the key's customer and reads what they used.
func (x *exam) usage() metered {
	if !x.known {
		return metered{why: "the server is not known here"}
	}
	m, err := x.whose()
	if err == nil {
		m.value, err = x.read(m)
	}
	if err != nil {
		return metered{why: err.Error()}
	}
	return m
}

// whose asks the server who the key belongs to. The meter is the one of their first limit that has one.
func (x *exam) whose() (metered, error) {
	b, err := x.api.Ask(x.e, x.Key, "/v1/limits/me", nil)
	if err != nil {
		return metered{}, err
	}
	var me struct {
		Customer string
		Items    []struct{ Meter string }
	}
	if err := json.Unmarshal(b, &me); err != nil {
		return metered{}, err
	}
	for _, l := range me.Items {
		if l.Meter != "" {
			return metered{customer: me.Customer, meter: l.Meter}, nil
		}
	}
	return metered{}, errors.New("the key's plan has no limit with a meter")
}

// read is the usage of the customer up to now; the server ships what was decided before it answers.
func (x *exam) read(m metered) (money.Decimal, error) {
	b, err := x.api.Ask(x.e, "", "/v1/usage?"+url.Values{"customer": {m.customer}, "meter": {m.meter}}.Encode(), nil)
	if err != nil {
		return money.Decimal{}, err
	}
	var u struct{ Value money.Decimal }
	if err := json.Unmarshal(b, &u); err != nil {
		return money.Decimal{}, err
	}
	return u.Value, nil
}

// settleWait bounds how long what was sent may take to be charged.
const settleWait = 5 * time.Second

// attribution compares the customer's usage with what was sent.
func (x *exam) attribution(ctx context.Context, before metered) {
	const name = "cost attribution"
	if before.why != "" {
		x.skip(name, before.why, "Name the server's folder with --dir, or set TALLY_URL and TALLY_TOKEN.")
		return
	}
	var grew money.Decimal
	for until := x.e.Now().Add(settleWait); ; {
		now, err := x.read(before)
		if err == nil {
			grew, err = now.Sub(before.value)
		}
		if err != nil {
			x.add(name, "fail", err.Error(), "")
			return
		}
		if grew.Cmp(money.FromInt(int64(x.sent))) == 0 {
			x.add(name, "ok", fmt.Sprintf("%d requests, %s of %s charged to %s", x.sent, grew, before.meter, before.customer), "")
			return
		}
		if x.e.Now().After(until) || x.e.Wait(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	x.add(name, "fail", fmt.Sprintf("%d requests were answered, %s of %s was charged to %s", x.sent, grew, before.meter, before.customer),
		"Where each costs 1: something repeats requests, answers from a cache, or uses the key at the same time.")
}
