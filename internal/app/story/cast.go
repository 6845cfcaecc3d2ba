package story

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
)

// customer is one of the year. Seats 0: its plan has none. Daily is how many requests it makes on an average day of January.
type customer struct {
	key, name, country, region, zone, plan string
	joins                                  time.Month
	day                                    int
	daily                                  int64
	seats                                  int
	coupon                                 string // that it redeems when it joins
	habit                                  habit

	id, sub string // known once it has joined
}

// habit is how a customer pays.
type habit uint8

const (
	prompt habit = iota
	late
	stuck // nothing that was issued in summer is paid before October
)

// cast are the customers of the year, in the order in which they join within a day.
func cast() []customer {
	const jan, feb, mar, apr, may, jun = time.January, time.February, time.March, time.April, time.May, time.June
	return []customer{
		{key: "arbor", name: "Arbor Logistik GmbH", country: "DE", zone: "Europe/Berlin", plan: "scale", joins: jan, day: 1, daily: 41000, seats: 24},
		{key: "bluefin", name: "Bluefin Taxi SAS", country: "FR", zone: "Europe/Paris", plan: "team", joins: jan, day: 1, daily: 9000, seats: 6},
		{key: "cedar", name: "Cedar Homes Inc.", country: "US", region: "NY", zone: "America/New_York", plan: "scale-usd", joins: jan, day: 1, daily: 35000, seats: 14},
		{key: "delta", name: "Delta Deliveries LLC", country: "US", region: "CA", zone: "America/Los_Angeles", plan: "team-usd", joins: jan, day: 1, daily: 14000, seats: 9},
		{key: "ebisu", name: "Ebisu Mobility KK", country: "JP", zone: "Asia/Tokyo", plan: "team-jpy", joins: jan, day: 1, daily: 12000, seats: 12},
		{key: "fjord", name: "Fjord Ferries AS", country: "NO", zone: "Europe/Oslo", plan: "team", joins: jan, day: 3, daily: 6000, seats: 5},
		{key: "granit", name: "Granit Bau AG", country: "CH", zone: "Europe/Zurich", plan: "team", joins: jan, day: 4, daily: 4200, seats: 8},
		{key: "harbor", name: "Harbor Charts Ltd.", country: "CA", region: "QC", zone: "America/Toronto", plan: "team-usd", joins: jan, day: 5, daily: 8000, seats: 4},
		{key: "isola", name: "Isola Viaggi S.r.l.", country: "IT", zone: "Europe/Rome", plan: "starter", joins: jan, day: 5, daily: 2100, coupon: "welcome"},
		{key: "juniper", name: "Juniper Parks Inc.", country: "US", region: "WA", zone: "America/Los_Angeles", plan: "starter-usd", joins: jan, day: 6, daily: 1900, coupon: "welcome-usd"},
		{key: "kestrel", name: "Kestrel Drones GmbH", country: "AT", zone: "Europe/Vienna", plan: "team", joins: jan, day: 7, daily: 11000, seats: 7},
		{key: "lumen", name: "Lumen Energie SA", country: "FR", zone: "Europe/Paris", plan: "scale", joins: jan, day: 10, daily: 26000, seats: 11},
		{key: "mistral", name: "Mistral Vélos SARL", country: "FR", zone: "Europe/Paris", plan: "starter", joins: jan, day: 10, daily: 2500},
		{key: "nagoya", name: "Nagoya Kippu KK", country: "JP", zone: "Asia/Tokyo", plan: "starter-jpy", joins: jan, day: 11, daily: 2200},
		{key: "oak", name: "Oak & Elm Surveyors", country: "US", region: "NY", zone: "America/New_York", plan: "starter-usd", joins: jan, day: 12, daily: 1600},
		{key: "polder", name: "Polder Watch B.V.", country: "NL", zone: "Europe/Amsterdam", plan: "team", joins: jan, day: 14, daily: 7600, seats: 10},
		{key: "quarry", name: "Quarry Roads LLC", country: "US", region: "TX", zone: "America/Chicago", plan: "team-yearly", joins: jan, day: 15, daily: 9500, seats: 6},
		{key: "rhein", name: "Rhein Pegel GmbH", country: "DE", zone: "Europe/Berlin", plan: "starter", joins: jan, day: 15, daily: 1300, habit: late},
		{key: "sierra", name: "Sierra Rescue", country: "US", region: "CA", zone: "America/Los_Angeles", plan: "starter-usd", joins: jan, day: 16, daily: 2700},
		{key: "tulip", name: "Tulip Tours B.V.", country: "NL", zone: "Europe/Amsterdam", plan: "starter", joins: jan, day: 17, daily: 1500},
		{key: "umbra", name: "Umbra Film S.p.A.", country: "IT", zone: "Europe/Rome", plan: "team", joins: jan, day: 18, daily: 5200, seats: 4},
		{key: "vega", name: "Vega Cartografía S.L.", country: "ES", zone: "Europe/Madrid", plan: "team", joins: jan, day: 20, daily: 8300, seats: 6},
		{key: "willow", name: "Willow Care Inc.", country: "US", region: "NY", zone: "America/New_York", plan: "team-usd", joins: jan, day: 21, daily: 6100, seats: 7, habit: late},
		{key: "xenon", name: "Xenon Parking GmbH", country: "DE", zone: "Europe/Berlin", plan: "team", joins: jan, day: 22, daily: 7000, seats: 5, habit: stuck},
		{key: "yokohama", name: "Yokohama Port KK", country: "JP", zone: "Asia/Tokyo", plan: "team-jpy", joins: jan, day: 24, daily: 15000, seats: 8},
		{key: "zephyr", name: "Zephyr Sailing Co.", country: "US", region: "FL", zone: "America/New_York", plan: "starter-usd", joins: jan, day: 25, daily: 1200},
		{key: "alpaca", name: "Alpaca Trekking S.A.C.", country: "PE", zone: "America/Lima", plan: "starter-usd", joins: jan, day: 27, daily: 1100},
		{key: "basalt", name: "Basalt Geo ehf.", country: "IS", zone: "Atlantic/Reykjavik", plan: "starter", joins: jan, day: 29, daily: 1700},
		{key: "compass", name: "Compass Schools Pty", country: "AU", zone: "Australia/Sydney", plan: "team-usd", joins: jan, day: 30, daily: 5600, seats: 16},
		{key: "dune", name: "Dune Studio Pvt. Ltd.", country: "NP", zone: "Asia/Kathmandu", plan: "starter-usd", joins: jan, day: 31, daily: 1400},
		{key: "ember", name: "Ember Fire Watch", country: "US", region: "CA", zone: "America/Los_Angeles", plan: "scale-usd", joins: jan, day: 31, daily: 29000, seats: 8},
		{key: "fennel", name: "Fennel Foods GmbH", country: "DE", zone: "Europe/Berlin", plan: "starter", joins: jan, day: 31, daily: 1800},
		{key: "glacier", name: "Glacier Ski AG", country: "CH", zone: "Europe/Zurich", plan: "starter", joins: feb, day: 1, daily: 2300},
		{key: "hokkai", name: "Hokkai Yuki KK", country: "JP", zone: "Asia/Tokyo", plan: "starter-jpy", joins: feb, day: 3, daily: 1900},
		{key: "ivory", name: "Ivory Weddings LLC", country: "US", region: "NY", zone: "America/New_York", plan: "starter-usd", joins: feb, day: 8, daily: 1500},
		{key: "jade", name: "Jade Freight Ltd.", country: "HK", zone: "Asia/Hong_Kong", plan: "team-usd", joins: feb, day: 10, daily: 9100, seats: 5},
		{key: "krone", name: "Krone Hotels GmbH", country: "AT", zone: "Europe/Vienna", plan: "starter", joins: feb, day: 14, daily: 1600},
		{key: "lagoon", name: "Lagoon Charter S.r.l.", country: "IT", zone: "Europe/Rome", plan: "starter", joins: feb, day: 20, daily: 2000},
		{key: "mesa", name: "Mesa Solar Inc.", country: "US", region: "AZ", zone: "America/Phoenix", plan: "team-usd", joins: feb, day: 29, daily: 7400, seats: 6},
		{key: "nimbus", name: "Nimbus Wetter GmbH", country: "DE", zone: "Europe/Berlin", plan: "scale", joins: mar, day: 1, daily: 38000, seats: 12, coupon: "spring"},
		{key: "orchid", name: "Orchid Clinics Pte.", country: "SG", zone: "Asia/Singapore", plan: "starter-usd", joins: mar, day: 5, daily: 2600, coupon: "spring"},
		{key: "pampa", name: "Pampa Agro S.A.", country: "AR", zone: "America/Argentina/Buenos_Aires", plan: "team-usd", joins: mar, day: 12, daily: 6900, seats: 3, coupon: "spring"},
		{key: "quartz", name: "Quartz Uhren SARL", country: "FR", zone: "Europe/Paris", plan: "starter", joins: mar, day: 15, daily: 1400, coupon: "spring"},
		{key: "reef", name: "Reef Divers Ltd.", country: "NZ", zone: "Pacific/Auckland", plan: "starter-usd", joins: mar, day: 26, daily: 1900, coupon: "spring"},
		{key: "sakura", name: "Sakura Tabi KK", country: "JP", zone: "Asia/Tokyo", plan: "team-jpy", joins: apr, day: 1, daily: 8800, seats: 11, coupon: "spring"},
		{key: "tundra", name: "Tundra Oy", country: "FI", zone: "Europe/Helsinki", plan: "team", joins: apr, day: 7, daily: 5000, seats: 4, coupon: "spring"},
		{key: "ural", name: "Ural Wanderreisen GmbH", country: "DE", zone: "Europe/Berlin", plan: "starter", joins: apr, day: 18, daily: 1700, coupon: "spring"},
		{key: "volta", name: "Volta Charging LLC", country: "US", region: "CA", zone: "America/Los_Angeles", plan: "scale-usd", joins: may, day: 1, daily: 22000, seats: 15},
		{key: "wharf", name: "Wharf Museum", country: "GB", zone: "Europe/London", plan: "starter", joins: may, day: 20, daily: 1500},
		{key: "yarrow", name: "Yarrow Farms Inc.", country: "US", region: "IA", zone: "America/Chicago", plan: "starter-usd", joins: jun, day: 1, daily: 2400},
	}
}

// currency is that of the plan, which its key ends with.
func (c *customer) currency() string {
	_, suffix, _ := strings.Cut(c.plan, "-")
	switch suffix {
	case "usd", "yearly":
		return "USD"
	case "jpy":
		return "JPY"
	}
	return "EUR"
}

// quantities are the seats, under the key that the plan's price has.
func (c *customer) quantities() map[string]money.Decimal {
	if c.seats == 0 {
		return nil
	}
	return map[string]money.Decimal{c.seatsKey(): money.MustDecimal(fmt.Sprint(c.seats))}
}

// seatsKey is the price of seats of the plan that it joined with.
func (c *customer) seatsKey() string {
	family, _, _ := strings.Cut(c.plan, "-")
	if c.plan == "team-yearly" {
		family = "yearly"
	}
	return family + "-seats"
}

// vat are the countries of the EU other than the seller's, whose companies have a number for reverse charge.
func (c *customer) vat() bool { return strings.Contains("AT ES FI FR IT NL", c.country) }

// details are what its invoices are addressed to. One company in France has no tax id, and pays the tax.
func (c *customer) details(d *account.BillingDetails) {
	place := map[string][2]string{
		"AT": {"Wien", "1010"}, "AU": {"Sydney", "2000"}, "CA": {"Montréal", "H2Y 1C6"}, "CH": {"Zürich", "8001"}, "DE": {"Köln", "50667"},
		"ES": {"Madrid", "28013"}, "FI": {"Helsinki", "00100"}, "FR": {"Lyon", "69001"}, "GB": {"London", "SE1 9TG"}, "IT": {"Roma", "00184"},
		"JP": {"Tokyo", "100-0001"}, "NL": {"Amsterdam", "1012"}, "NO": {"Oslo", "0150"}, "NZ": {"Auckland", "1010"}, "US": {"Springfield", "12345"},
	}[c.country]
	d.LegalName, d.Country, d.Region, d.City, d.PostalCode = c.name, c.country, c.region, place[0], place[1]
	d.Street = fmt.Sprintf("Example Street %d", 1+c.chance("street").IntN(200))
	d.Email = "accounts@" + c.key + ".example"
	if c.vat() && c.key != "mistral" {
		d.TaxID = fmt.Sprintf("%s%011d", c.country, c.chance("tax").Int64N(99_999_999_999))
	}
}

// pays is when it pays an invoice of an instant.
func (c *customer) pays(issued time.Time) time.Time {
	switch {
	case c.habit == stuck && issued.After(noon(time.June, 1)) && issued.Before(noon(time.October, 1)):
		return noon(time.October, 1)
	case c.habit == late:
		return issued.AddDate(0, 0, 40)
	}
	return issued.AddDate(0, 0, 2+c.chance(issued.Format(time.DateOnly)).IntN(9))
}

// chance is a source of numbers of this customer's own, the same in each run.
func (c *customer) chance(of string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.key + "/" + of))      // a hash takes everything
	return rand.New(rand.NewPCG(h.Sum64(), Year)) //nolint:gosec // the year must be the same each time
}
