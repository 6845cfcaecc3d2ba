// Package catalogtest has a catalog for tests.
package catalogtest

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

func dec(s string) money.Decimal   { return money.MustDecimal(s) }
func decp(s string) *money.Decimal { d := dec(s); return &d }

// Sample is a valid catalog with one of everything.
func Sample() *catalog.Catalog {
	return &catalog.Catalog{
		Meters: []catalog.Meter{
			{Key: "calls", Event: "request", Aggregation: meter.Count, Dimensions: []string{"route"}},
			{Key: "gb", Event: "transfer", Aggregation: meter.Sum, Value: "data.size.gb", Unit: "GB", Scale: 3},
		},
		Plans: []catalog.Plan{
			{Key: "free", Currency: money.MustCurrency("USD"), Limits: []catalog.Limit{
				{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("200"), Burst: dec("200"), Per: time.Second}},
				{Key: "daily", Meter: "calls", Quota: decp("100"), Window: period.Day},
			}},
			{
				Key: "pro", Name: "Pro", Currency: money.MustCurrency("EUR"),
				Prices: []price.Price{
					{Key: "base", Model: price.Flat, Amount: dec("20"), Charge: price.InAdvance},
					{Key: "traffic", Meter: "gb", Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
						{UpTo: decp("0")}, {UpTo: decp("10.5"), UnitAmount: dec("0.1"), FlatAmount: dec("1")}, {UnitAmount: dec("0.05")},
					}},
				},
				Limits: []catalog.Limit{
					{Key: "spend", SpendCap: decp("500"), Window: period.BillingPeriod},
					{Key: "slow", Meter: "gb", Bucket: &catalog.Bucket{Rate: dec("1.5"), Burst: dec("2"), Per: time.Minute}},
				},
			},
		},
		KeyHeader: "X-Api-Key",
		Routes: []catalog.Route{
			{Match: "GET /a", Upstream: "http://127.0.0.1:9000", Meter: "calls", Cost: dec("1"), Refund: catalog.RefundDefault(), Timeout: time.Second},
			{Match: "/free", Upstream: "https://[::1]/base", Refund: catalog.RefundDefault(), Timeout: time.Minute},
		},
	}
}
