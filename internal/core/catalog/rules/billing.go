package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/price"
)

// The bounds of billing.
const (
	maxSeries   = 16 // characters
	graceMax    = 31 * day
	dunningMax  = 365 // days
	maxReminder = 10
	maxNote     = 1000 // characters
	ibanMin     = 15
	ibanMax     = 34
)

func (v *validator) taxes() {
	rules := v.catalog.Taxes.Rules
	v.count("taxes.rules", len(rules), catalog.MaxTaxRules)
	used, sold := map[string]string{}, v.sold()
	for i := range rules {
		r, path := &rules[i], fmt.Sprintf("taxes.rules[%d]", i)
		v.key(path, r.Key, used)
		v.text(path+".name", r.Name)
		v.percent(path+".percent", r.Percent, taxMax)
		v.country(path+".country", r.Country)
		v.text(path+".region", r.Region)
		if r.Region != "" && r.Country == "" {
			v.add(path+".region", "is of no country"+got(r.Region), "country beside it", "")
		}
		v.count(path+".products", len(r.Products), catalog.MaxProducts)
		for j, product := range r.Products[:min(len(r.Products), catalog.MaxProducts)] {
			at := fmt.Sprintf("%s.products[%d]", path, j)
			switch {
			case slices.Contains(r.Products[:j], product):
				v.add(at, "is listed twice"+got(product), "each product once", "")
			case !slices.Contains(sold, product):
				v.add(at, "is the product of no price"+got(product), "a product that a price names", v.suggest(product, sold))
			}
		}
		if r.Compound && !slices.ContainsFunc(rules[:min(i, catalog.MaxTaxRules)], func(o catalog.TaxRule) bool { return together(&o, r) }) {
			v.add(path+".compound", "has no rate before it to stand on", "a rule before it that holds for the same customers and products", "")
		}
	}
}

// together says that two rules can hold for one line.
func together(a, b *catalog.TaxRule) bool {
	same := func(a, b string) bool { return a == "" || b == "" || a == b }
	return same(a.Country, b.Country) && same(a.Region, b.Region) && (len(a.Products) == 0 || len(b.Products) == 0 ||
		slices.ContainsFunc(a.Products, func(p string) bool { return slices.Contains(b.Products, p) }))
}

// sold are the products that prices name.
func (v *validator) sold() (out []string) {
	add := func(prices []price.Price) {
		for i := range prices {
			if p := prices[i].Product; p != "" && !slices.Contains(out, p) && len(out) < catalog.MaxTaxRules {
				out = append(out, p)
			}
		}
	}
	for i := range v.catalog.Plans {
		add(v.catalog.Plans[i].Prices)
	}
	for i := range v.catalog.AddOns {
		add(v.catalog.AddOns[i].Prices)
	}
	return out
}

func (v *validator) country(path, code string) {
	if code == "" || len(code) == 2 && strings.Trim(code, capitals) == "" {
		return
	}
	suggestion := ""
	if upper := strings.ToUpper(code); len(upper) == 2 && strings.Trim(upper, capitals) == "" {
		suggestion = upper
	}
	v.add(path, "is not a country"+got(code), "two capitals of ISO 3166, such as DE", suggestion)
}

const (
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits   = "0123456789"
)

func (v *validator) billing() {
	b := &v.catalog.Billing
	if len(b.Series) > maxSeries || strings.Trim(b.Series, capitals+strings.ToLower(capitals)+digits+"-_/.") != "" {
		v.add("billing.series", "is no prefix of invoice numbers"+got(b.Series), fmt.Sprintf(`up to %d of A-Z a-z 0-9 - _ / ., such as "INV-"`, maxSeries), "")
	}
	if b.Grace != "" {
		switch d, err := time.ParseDuration(b.Grace); {
		case err != nil:
			v.add("billing.grace", "is not a duration"+got(b.Grace), `a duration, such as "2h"`, "")
		case d < 0 || d > graceMax:
			v.add("billing.grace", "is out of range"+got(catalog.FormatSpan(d)), "0s to "+catalog.FormatSpan(graceMax), "")
		}
	}
	v.seller("billing.seller", &b.Seller)
	v.dunning("billing.dunning", &b.Dunning)
}

func (v *validator) seller(path string, s *catalog.Seller) {
	if *s == (catalog.Seller{}) {
		return
	}
	if strings.TrimSpace(s.Name) == "" {
		v.add(path+".name", "is missing", "the seller's legal name", "")
	}
	for _, f := range []struct{ name, value string }{
		{"name", s.Name}, {"tax_id", s.TaxID}, {"street", s.Street}, {"city", s.City}, {"postal_code", s.PostalCode}, {"region", s.Region},
	} {
		v.text(path+"."+f.name, f.value)
	}
	v.country(path+".country", s.Country)
	if user, host, ok := strings.Cut(s.Email, "@"); s.Email != "" && (!ok || user == "" || !strings.Contains(host, ".") ||
		strings.ContainsAny(s.Email, " <>,;") || strings.Contains(host, "@") || !plainText(s.Email)) {
		v.add(path+".email", "is not an address"+got(s.Email), "an address such as billing@example.com", "")
	}
	if s.IBAN != "" && !soundIBAN(s.IBAN) {
		v.add(path+".iban", "is not an IBAN: its check digits do not fit"+got(s.IBAN), "an IBAN, with or without spaces", "")
	}
	if utf8.RuneCountInString(s.Note) > maxNote || !utf8.ValidString(s.Note) || strings.ContainsFunc(s.Note, func(r rune) bool { return !unicode.IsPrint(r) }) {
		v.add(path+".note", "is too long or has characters that do not print"+got(s.Note), fmt.Sprintf("at most %d printable characters", maxNote), "")
	}
}

// soundIBAN checks form and check digits of ISO 13616.
func soundIBAN(s string) bool {
	s = strings.ReplaceAll(s, " ", "")
	if len(s) < ibanMin || len(s) > ibanMax || strings.Trim(s[:2], capitals) != "" || strings.Trim(s, capitals+digits) != "" {
		return false
	}
	const modulus, letters = 97, 10
	rest := 0
	for _, c := range s[4:] + s[:4] {
		if c >= 'A' {
			rest = (rest*letters*letters + int(c-'A') + letters) % modulus
		} else {
			rest = (rest*letters + int(c-'0')) % modulus
		}
	}
	return rest == 1
}

func (v *validator) dunning(path string, d *catalog.Dunning) {
	v.count(path+".reminders", len(d.Reminders), maxReminder)
	last := 0
	for i, n := range d.Reminders {
		at := fmt.Sprintf("%s.reminders[%d]", path, i)
		switch {
		case n < 1 || n > dunningMax:
			v.add(at, "is out of range"+got(strconv.Itoa(n)), fmt.Sprintf("1 to %d days after the due date", dunningMax), "")
		case n <= last:
			v.add(at, "does not rise"+got(strconv.Itoa(n)), fmt.Sprintf("more than %d", last), "")
		}
		last = max(last, n)
	}
	switch {
	case d.Then != "" && d.Then != catalog.ThenSuspend && d.Then != catalog.ThenUncollectible:
		v.add(path+".then", "is unknown"+got(d.Then), "suspend or uncollectible", "")
	case d.Then != "" && d.After == 0:
		v.add(path+".after", "is missing", "how many days after the due date it happens, such as 30", "")
	case d.Then == "" && d.After != 0:
		v.add(path+".then", "is missing", "suspend or uncollectible", "")
	case d.After < 0 || d.After > dunningMax:
		v.add(path+".after", "is out of range"+got(strconv.Itoa(d.After)), fmt.Sprintf("1 to %d days after the due date", dunningMax), "")
	case d.After != 0 && d.After < last:
		v.add(path+".after", "comes before the last reminder"+got(strconv.Itoa(d.After)), fmt.Sprintf("at least %d", last), "")
	}
}
