package document_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

func dec(s string) money.Decimal { return money.MustDecimal(s) }

func eur(minor int64) money.Amount { return money.NewAmount(minor, money.MustCurrency("EUR")) }

func berlin() period.Zone { return period.MustZone("Europe/Berlin") }

// october is a local month of Berlin, november the next one.
func october() period.Interval {
	return period.Interval{Start: time.Date(2026, 9, 30, 22, 0, 0, 0, time.UTC), End: time.Date(2026, 10, 31, 23, 0, 0, 0, time.UTC)}
}

func november() period.Interval {
	return period.Interval{Start: october().End, End: time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)}
}

// in is an invoice's bare form in a currency.
func in(currency string) invoice.Invoice {
	c := money.MustCurrency(currency)
	return invoice.Invoice{
		ID: "inv_01K6Z0000000000000000000CC", Number: 1042, Series: "INV-2026", CustomerID: "cus_01K6Z0000000000000000000BB",
		SubscriptionID: "sub_01K6Z0000000000000000000AA", Plan: "scale", Status: invoice.Finalized, Currency: c, Period: october(),
		CatalogVersion: 7, TZVersion: "golden", Position: 4711, FinalizedAt: time.Date(2026, 11, 1, 0, 5, 0, 0, time.UTC),
		DueAt:  time.Date(2026, 11, 15, 0, 5, 0, 0, time.UTC),
		Seller: invoice.Party{Name: "Nordwind Interfaces GmbH", Street: "Hafenstraße 12", City: "Hamburg", PostalCode: "20457", Country: "DE", TaxID: "DE123456789", Email: "billing@nordwind.example", IBAN: "DE89370400440532013000"},
		Buyer:  invoice.Party{Name: "Acme Robotics B.V.", Street: "Keizersgracht 241", City: "Amsterdam", PostalCode: "1016 EA", Country: "NL", TaxID: "NL001234567B01", Email: "ap@acme.example"},
	}
}

// total sums the lines up and adds the taxes, one rate over all lines that name it.
func total(inv *invoice.Invoice) {
	c := inv.Currency
	subtotal, tax := money.NewAmount(0, c), money.NewAmount(0, c)
	for i := range inv.Lines {
		l := &inv.Lines[i]
		l.Number = i + 1
		if l.ID == "" {
			l.ID = fmt.Sprintf("iln_%03d", i+1)
		}
		var err error
		if l.Rounded, err = money.Round(l.Exact, c, money.HalfUp); err != nil {
			panic(err)
		}
		subtotal = add(subtotal, l.Rounded)
	}
	for i := range inv.Taxes {
		t := &inv.Taxes[i]
		base := money.NewAmount(0, c)
		for _, l := range inv.Lines {
			for _, key := range l.Taxes {
				if key == t.Key {
					base = add(base, l.Rounded)
				}
			}
		}
		t.Base, t.Amount = base, money.NewAmount(0, c)
		if !t.ReverseCharge && !t.Exempt {
			exact, err := base.Decimal().Mul(t.Percent)
			if err != nil {
				panic(err)
			}
			if exact, err = exact.Mul(dec("0.01")); err != nil {
				panic(err)
			}
			if t.Amount, err = money.Round(exact, c, money.HalfUp); err != nil {
				panic(err)
			}
		}
		tax = add(tax, t.Amount)
	}
	inv.Subtotal, inv.Tax, inv.Total = subtotal, tax, add(subtotal, tax)
	if inv.Balance.Currency().Code() == "" {
		inv.Balance = money.NewAmount(0, c)
	}
	inv.Due = money.NewAmount(max(inv.Total.Minor()-inv.Balance.Minor(), 0), c)
}

func add(a, b money.Amount) money.Amount {
	out, err := a.Add(b)
	if err != nil {
		panic(err)
	}
	return out
}

// rich has a line of every kind, tiers, two rates and a payment.
func rich() document.Document {
	inv := in("EUR")
	vat := []string{"vat"}
	inv.Lines = []invoice.Line{
		{Kind: invoice.UsageLine, Price: "calls", Name: "API calls", Meter: "api_calls", Period: october(), Quantity: dec("12345678"), Included: dec("10000"), Credited: dec("2500"), Tiers: []price.TierCharge{
			{Tier: 1, Quantity: dec("1000000"), UnitAmount: dec("0.0004"), Amount: dec("400")},
			{Tier: 2, Quantity: dec("9000000"), UnitAmount: dec("0.0003"), FlatAmount: dec("25"), Amount: dec("2725")},
			{Tier: 3, Quantity: dec("2345678"), UnitAmount: dec("0.00021"), Amount: dec("492.59238")},
		}, Exact: dec("3617.59238"), Taxes: vat},
		{Kind: invoice.DiscountLine, Price: "calls", Period: october(), Of: "iln_001", Exact: dec("-361.759238"), Taxes: vat},
		{Kind: invoice.MaximumLine, Price: "calls", Period: october(), Of: "iln_001", Exact: dec("-255.833142"), Taxes: vat},
		{Kind: invoice.UsageLine, Price: "tokens", Name: "Tokens", Meter: "tokens", Filter: map[string]string{"model": "large", "region": "eu"}, Period: october(), Quantity: dec("123456.5"), Tiers: []price.TierCharge{
			{Tier: 1, Quantity: dec("123456.5"), UnitAmount: dec("0.0000025"), Amount: dec("0.30864125")},
		}, Exact: dec("0.30864125"), Taxes: vat},
		{Kind: invoice.MinimumLine, Price: "tokens", Period: october(), Of: "iln_004", Exact: dec("24.69135875"), Taxes: vat},
		{Kind: invoice.FlatLine, Price: "seats", Name: "Seats", Period: november(), Quantity: dec("14"), Exact: dec("336"), Taxes: vat},
		{Kind: invoice.FlatLine, Price: "support", Name: "Priority support", Period: november(), Quantity: dec("1"), Ratio: "12/31", Exact: dec("77.41935483870967741935483870967742"), Inexact: true, Taxes: []string{"reduced"}},
		{Kind: invoice.AdjustmentLine, Price: "calls", Name: "Late usage, API calls", Period: october(), Adjusts: "inv_01K6Z0000000000000000000BA", Of: "iln_77", Exact: dec("-12.5"), Taxes: vat},
		{Kind: invoice.CreditLine, Price: "", Name: "Welcome credit", Source: "grt_1", Exact: dec("-100"), Taxes: vat},
		{Kind: invoice.CouponLine, Price: "spring", Source: "red_1", Exact: dec("-50"), Taxes: vat},
	}
	inv.Taxes = []invoice.Tax{{Key: "vat", Name: "VAT", Percent: dec("19")}, {Key: "reduced", Name: "VAT reduced", Percent: dec("7")}}
	inv.Balance = eur(25000)
	inv.Note = "Thank you for building on Nordwind.\nQuestions about this invoice: billing@nordwind.example"
	total(&inv)
	return document.Document{Invoice: inv, Zone: berlin(), Payments: []document.Payment{{At: time.Date(2026, 11, 12, 9, 0, 0, 0, time.UTC), Method: "bank transfer", Amount: eur(100000)}}}
}

// inclusive is rich with prices that contain the tax.
func inclusive() document.Document {
	d := rich()
	inv := &d.Invoice
	inv.Inclusive, inv.Tax = true, eur(0)
	for i := range inv.Taxes {
		t := &inv.Taxes[i]
		whole, err := t.Percent.Add(dec("100"))
		if err != nil {
			panic(err)
		}
		share, err := money.NewRational(t.Percent, whole)
		if err != nil {
			panic(err)
		}
		if share, err = share.Mul(t.Base.Decimal().Rational()); err != nil {
			panic(err)
		}
		if t.Amount, err = share.Round(inv.Currency, money.HalfUp); err != nil {
			panic(err)
		}
		t.Base, inv.Tax = add(t.Base, eur(-t.Amount.Minor())), add(inv.Tax, t.Amount)
	}
	inv.Total, inv.Due = inv.Subtotal, add(inv.Subtotal, eur(-inv.Balance.Minor()))
	return d
}

// various has taxes of all kinds: two on one line, one on top of the other, none, exempt, reverse charge.
func various() document.Document {
	inv := in("EUR")
	for i, keys := range [][]string{{"a"}, {"a", "b"}, {"a", "c"}, {"e"}, {"r"}, nil, {"a"}} {
		inv.Lines = append(inv.Lines, invoice.Line{
			Kind: invoice.FlatLine, Price: fmt.Sprintf("price_%d", i), Period: october(), Quantity: dec("3"), Exact: money.FromScaled(int64(3333*(i+1)), 2), Taxes: keys,
		})
	}
	inv.Taxes = []invoice.Tax{
		{Key: "a", Name: "State", Percent: dec("5")},
		{Key: "b", Name: "City", Percent: dec("7.5")},
		{Key: "c", Name: "Luxury", Percent: dec("10")},
		{Key: "e", Name: "Education", Exempt: true},
		{Key: "r", Name: "VAT", ReverseCharge: true},
	}
	total(&inv)
	return document.Document{Invoice: inv, Zone: berlin()}
}

// refund is an issued invoice whose total is negative.
func refund() document.Document {
	d := negative()
	d.Status, d.Number, d.FinalizedAt = invoice.Finalized, 7, time.Date(2026, 11, 1, 0, 5, 0, 0, time.UTC)
	return d
}

// long has more lines than a page holds, some with names that wrap.
func long() document.Document {
	inv := in("USD")
	inv.Seller.Country, inv.Seller.IBAN = "US", ""
	for i := range 60 {
		l := invoice.Line{Kind: invoice.UsageLine, Price: fmt.Sprintf("route_%d", i+1), Period: october(), Quantity: money.FromInt(int64(i+1) * 98765), Exact: money.FromScaled(int64(i+1)*98765*4, 4)}
		if i%7 == 3 {
			l.Name = strings.Repeat("A rather long name of a product that its seller was proud of, ", 3)
		}
		if i%5 == 2 {
			l.Tiers = []price.TierCharge{
				{Tier: 1, Quantity: dec("10000"), UnitAmount: dec("0"), Amount: dec("0")},
				{Tier: 2, Quantity: money.FromInt(int64(i+1)*98765 - 10000), UnitAmount: dec("0.0004"), Amount: l.Exact},
			}
		}
		inv.Lines = append(inv.Lines, l)
	}
	total(&inv)
	return document.Document{Invoice: inv, Zone: berlin()}
}

// one has a single line and no party but the seller's name.
func one() document.Document {
	inv := in("USD")
	inv.Seller, inv.Buyer, inv.Series, inv.DueAt = invoice.Party{Name: "Tally Inc."}, invoice.Party{}, "", time.Time{}
	inv.Period.End = inv.Period.Start
	inv.Lines = []invoice.Line{{Kind: invoice.FlatLine, Price: "platform", Period: october(), Quantity: dec("1"), Exact: dec("20")}}
	total(&inv)
	return document.Document{Invoice: inv, Zone: period.MustZone("UTC")}
}

// names are Cyrillic and Greek, with characters that the fonts lack.
func names() document.Document {
	d := rich()
	d.Status = invoice.Paid
	d.Buyer.Name, d.Buyer.Street, d.Buyer.City = "ООО «Ромашка и Партнёры»", "ул. Ленина, д. 5, офис 12", "Москва"
	d.Seller.Name, d.Seller.City = "Ηλεκτρονικές Υπηρεσίες Α.Ε.", "Αθήνα"
	d.Lines[0].Name, d.Lines[5].Name = "Запросы к API — тариф «Масштаб»", "Θέσεις χρηστών 東京 ☃ e\u0301lan"
	d.Note = "Zażółć gęślą jaźń; İstanbul; Đặng Văn Lâm; ₴ ₽ ₺ ₹ €"
	return d
}

// yen has no decimals.
func yen() document.Document {
	d := rich()
	inv := d.Invoice
	inv.Status = invoice.Void
	inv.Currency, inv.Balance = money.MustCurrency("JPY"), money.Amount{}
	for i := range inv.Lines {
		inv.Lines[i].Rounded = money.Amount{}
	}
	total(&inv)
	return document.Document{Invoice: inv, Zone: period.MustZone("Asia/Tokyo")}
}

// creditNote gives a part of an invoice back.
func creditNote() document.Document {
	inv := in("EUR")
	inv.ID, inv.Number, inv.Series, inv.DueAt = "crn_01K6Z0000000000000000000DD", 3, "CN-2026", time.Time{}
	inv.Lines = []invoice.Line{
		{Kind: invoice.UsageLine, Price: "calls", Name: "API calls of 12 October, failed", Period: october(), Quantity: dec("40000"), Exact: dec("12"), Taxes: []string{"vat"}},
		{Kind: invoice.AdjustmentLine, Price: "support", Name: "Priority support, as agreed", Exact: dec("30"), Taxes: []string{"vat"}},
	}
	inv.Taxes = []invoice.Tax{{Key: "vat", Name: "VAT", Percent: dec("19")}}
	total(&inv)
	return document.Document{Invoice: inv, Zone: berlin(), Corrects: &document.Reference{Number: "INV-2026-1042", IssuedAt: time.Date(2026, 11, 1, 0, 5, 0, 0, time.UTC), Reason: "An outage on 12 October."}}
}

// negative is a draft in the customer's favour, under reverse charge.
func negative() document.Document {
	inv := in("EUR")
	inv.Status, inv.Number, inv.FinalizedAt, inv.DueAt = invoice.Draft, 0, time.Time{}, time.Time{}
	inv.Lines = []invoice.Line{
		{Kind: invoice.FlatLine, Price: "platform", Name: "Platform", Period: november(), Quantity: dec("1"), Exact: dec("20"), Taxes: []string{"rc"}},
		{Kind: invoice.AdjustmentLine, Price: "seats", Name: "Unused seats", Period: october(), Ratio: "431999/2678400", Exact: dec("-1234.5"), Taxes: []string{"rc"}},
	}
	inv.Taxes = []invoice.Tax{{Key: "rc", Name: "VAT", Percent: dec("0"), ReverseCharge: true}}
	total(&inv)
	return document.Document{Invoice: inv, Zone: berlin()}
}

// huge has figures at the end of their ranges, in a currency with four digits.
func huge() document.Document {
	inv := in("CLF")
	inv.Lines = []invoice.Line{
		{Kind: invoice.UsageLine, Price: strings.Repeat("w", 200), Period: october(), Quantity: dec("99999999999999999999999999999999999999"), Exact: dec("900000000000000.1234"), Included: dec("12345678901234567890123456789012345678"), Tiers: []price.TierCharge{
			{Tier: 1, Quantity: dec("1"), UnitAmount: dec("0.00000000000000000000000000000000000001"), Amount: dec("0")},
			{Tier: 2, Quantity: dec("99999999999999999999999999999999999998"), UnitAmount: dec("0.000000000000000000000009"), Amount: dec("900000000000000.1234")},
		}},
	}
	inv.Seller.Name, inv.Buyer.Name = strings.Repeat("Lang ", 60), strings.Repeat("x", 400)
	total(&inv)
	return document.Document{Invoice: inv, Zone: period.MustZone("America/Santiago")}
}

// samples are all of them by name.
func samples() map[string]document.Document {
	return map[string]document.Document{
		"rich": rich(), "long": long(), "one": one(), "names": names(), "yen": yen(), "credit_note": creditNote(), "negative": negative(), "huge": huge(),
		"inclusive": inclusive(), "various": various(), "refund": refund(),
	}
}
