package price_test

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// maybe draws a decimal of tenths, or nil.
func maybe(t *rapid.T, high int64, label string) *money.Decimal {
	if !rapid.Bool().Draw(t, "has "+label) {
		return nil
	}
	return new(tenths(t, high, label))
}

// drawTiers draws at most five tiers whose bounds lie on tenths.
func drawTiers(t *rapid.T, m price.Model) []price.Tier {
	var tiers []price.Tier
	bound := int64(0)
	for i := range rapid.IntRange(0, 4).Draw(t, "bounds") {
		bound += rapid.Int64Range(int64(min(i, 1)), 60).Draw(t, "width")
		tiers = append(tiers, price.Tier{UpTo: new(money.FromScaled(bound, 1))})
	}
	tiers = append(tiers, price.Tier{})
	for i := range tiers {
		rate := money.FromScaled(rapid.Int64Range(0, 40).Draw(t, "rate"), 3)
		switch m {
		case price.GraduatedPercentage:
			tiers[i].Percent = rate
		case price.Graduated, price.Volume:
			tiers[i].UnitAmount = rate
		case price.Stairstep, price.Flat, price.Unit, price.Package, price.Percentage, price.Dynamic, price.Matrix:
		}
		tiers[i].FlatAmount = tenths(t, 30, "flat")
	}
	return tiers
}

// drawAny draws a price of one of the models.
func drawAny(t *rapid.T, models ...price.Model) price.Price {
	p := price.Price{Key: "p", Meter: "m", Model: rapid.SampledFrom(models).Draw(t, "model")}
	if p.Model != price.Flat {
		p.Included = tenths(t, 40, "included")
	}
	p.WaiveAtZero = rapid.Bool().Draw(t, "waive")
	switch p.Model {
	case price.Flat:
		p.Amount = tenths(t, 100, "amount")
	case price.Unit:
		p.UnitAmount = tenths(t, 20, "unit")
	case price.Package:
		p.Amount, p.Size, p.Free = tenths(t, 20, "amount"), money.FromScaled(rapid.Int64Range(1, 70).Draw(t, "size"), 1), tenths(t, 50, "free")
	case price.Percentage:
		p.Percent, p.Fixed = tenths(t, 50, "percent"), tenths(t, 10, "fixed")
		p.FreeEvents = rapid.Int64Range(0, 4).Draw(t, "free events")
		p.FreeAmount = maybe(t, 100, "free amount")
		if p.Min = maybe(t, 10, "min"); p.Min == nil {
			p.Max = maybe(t, 20, "max")
		}
	case price.Matrix:
		p.UnitAmount = tenths(t, 20, "unit")
		for _, region := range []string{"eu", "us"} {
			p.Cells = append(p.Cells, price.Cell{When: dims("region", region), UnitAmount: tenths(t, 20, "cell")})
		}
	case price.Dynamic:
	case price.Graduated, price.Volume, price.Stairstep, price.GraduatedPercentage:
		p.Tiers = drawTiers(t, p.Model)
	}
	return p
}

func dims(name, value string) []meter.Dimension {
	return []meter.Dimension{{Name: name, Value: value}}
}

// drawEvents draws events of which some are of nothing.
func drawEvents(t *rapid.T) []price.Event {
	events := make([]price.Event, rapid.IntRange(0, 8).Draw(t, "events"))
	for i := range events {
		region := rapid.SampledFrom([]string{"eu", "us", "ap"}).Draw(t, "region")
		events[i] = price.Event{
			Quantity:   tenths(t, int64(rapid.SampledFrom([]int{0, 9, 80}).Draw(t, "most")), "quantity"),
			Dimensions: []meter.Dimension{{Name: "route", Value: "x"}, {Name: "region", Value: region}},
		}
	}
	return events
}

func total(t *rapid.T, events []price.Event) money.Decimal {
	var sum money.Decimal
	for _, e := range events {
		var err error
		if sum, err = sum.Add(e.Quantity); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

// mustCharge charges, and holds the result to the sum of its lines and each line to its product.
func mustCharge(t *rapid.T, p price.Price, u price.Usage) money.Rational {
	result, err := p.ChargeFor(u)
	if err != nil {
		t.Fatalf("%v of %+v: %v", u, p, err)
	}
	var sum money.Rational
	for _, line := range result.Lines {
		if sum, err = sum.Add(line.Amount); err != nil {
			t.Fatal(err)
		}
		if line.Kind != price.UsageLine && line.Kind != price.FlatLine {
			continue
		}
		product := new(big.Rat).Mul(rat(line.Quantity), rat(line.UnitAmount))
		if product.Cmp(fraction(line.Amount)) != 0 {
			t.Fatalf("line %+v is not its product", line)
		}
	}
	if sum.Cmp(result.Amount) != 0 {
		t.Fatalf("the lines add up to %v, not to %v", sum, result.Amount)
	}
	return result.Amount
}

func fraction(r money.Rational) *big.Rat {
	out, ok := new(big.Rat).SetString(r.String())
	if !ok {
		panic("not a number: " + r.String())
	}
	return out
}

// split charges the events in parts that end at the cuts, each with what came before it.
func split(t *rapid.T, p price.Price, events []price.Event, cuts int, u price.Usage) money.Rational {
	from := 0
	for i := range cuts + 1 {
		to := len(events)
		if i < cuts {
			to = rapid.IntRange(from, len(events)).Draw(t, "cut")
		}
		switch {
		case cuts == 0:
			u.Position = price.Single
		case i == 0:
			u.Position = price.First
		case i == cuts:
			u.Position = price.Last
		default:
			u.Position = price.Middle
		}
		u.Events = events[from:to]
		u.Quantity = total(t, u.Events)
		amount := mustCharge(t, p, u)
		var err error
		if u.Prior.Amount, err = u.Prior.Amount.Add(amount); err != nil {
			t.Fatal(err)
		}
		u.Prior.Quantity, u.Prior.Events = total(t, events[:to]), int64(to)
		from = to
	}
	return u.Prior.Amount
}

func TestSplitsAddUpToTheWhole(t *testing.T) {
	t.Parallel()
	for _, m := range price.Models() {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				p := drawAny(t, m)
				u := price.Usage{Free: tenths(t, 30, "usage discount")}
				if rapid.Bool().Draw(t, "discounted") {
					u.Discounts = []price.Discount{{Percent: new(tenths(t, 1000, "percent off"))}}
				}
				p.MinimumSpend = maybe(t, 100, "minimum")
				if m != price.Volume && m != price.Stairstep {
					u.Maximum = maybe(t, 300, "maximum")
				}
				if u.Maximum != nil && p.MinimumSpend != nil && u.Maximum.Cmp(*p.MinimumSpend) < 0 {
					p.MinimumSpend = nil
				}
				events := drawEvents(t)
				whole := split(t, p, events, 0, u)
				parts := split(t, p, events, rapid.IntRange(1, 4).Draw(t, "cuts"), u)
				if whole.Cmp(parts) != 0 {
					t.Fatalf("the whole is %v, the splits are %v", whole, parts)
				}
			})
		})
	}
}

func TestChargeStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawAny(t, price.Models()...)
		u := price.Usage{Events: drawEvents(t), Position: price.Position(rapid.IntRange(0, 3).Draw(t, "position"))}
		u.Quantity = total(t, u.Events)
		gross := mustCharge(t, p, u)
		if gross.Sign() < 0 { // a volume price whose first tier, at zero, was charged by an earlier split
			return
		}
		for range rapid.IntRange(0, 3).Draw(t, "discounts") {
			d := price.Discount{Amount: maybe(t, 200, "amount off")}
			if d.Amount == nil {
				d.Percent = new(tenths(t, 1000, "percent off"))
			}
			u.Discounts = append(u.Discounts, d)
		}
		net := mustCharge(t, p, u)
		if net.Sign() < 0 || net.Cmp(gross) > 0 {
			t.Fatalf("%v became %v by discounts", gross, net)
		}
		low, high := rapid.Int64Range(0, 50).Draw(t, "low"), rapid.Int64Range(50, 100).Draw(t, "high")
		u.Minimum, u.Maximum = new(money.FromInt(low)), new(money.FromInt(high))
		bounded := mustCharge(t, p, u)
		want := net.Min(u.Maximum.Rational())
		if u.Position == price.Single || u.Position == price.Last {
			want = want.Max(u.Minimum.Rational())
		}
		if bounded.Cmp(want) != 0 {
			t.Fatalf("%v within %d and %d became %v, want %v", net, low, high, bounded, want)
		}
	})
}

// simple charges a whole period in rationals, as its text says and no more.
func simple(p price.Price, events []price.Event) *big.Rat {
	quantity := new(big.Rat)
	for _, e := range events {
		quantity.Add(quantity, rat(e.Quantity))
	}
	left := new(big.Rat).Sub(quantity, rat(p.Included))
	if left.Sign() < 0 {
		left = new(big.Rat)
	}
	out := new(big.Rat)
	switch p.Model {
	case price.Flat:
		return rat(p.Amount)
	case price.Unit:
		return out.Mul(left, rat(p.UnitAmount))
	case price.Dynamic:
		return left
	case price.Package:
		left.Sub(left, rat(p.Free))
		for left.Sign() > 0 {
			out.Add(out, rat(p.Amount))
			left.Sub(left, rat(p.Size))
		}
		return out
	case price.Volume, price.Stairstep:
		if p.WaiveAtZero && left.Sign() == 0 {
			return out
		}
		at := 0
		for p.Tiers[at].UpTo != nil && rat(*p.Tiers[at].UpTo).Cmp(left) < 0 {
			at++
		}
		out.Mul(left, rat(p.Tiers[at].UnitAmount))
		return out.Add(out, rat(p.Tiers[at].FlatAmount))
	case price.Matrix:
		return simpleMatrix(p, events)
	case price.Percentage:
		return simplePercentage(p, events)
	case price.Graduated, price.GraduatedPercentage:
		tenth := new(big.Rat).Mul(left, big.NewRat(10, 1))
		for i := range p.Tiers {
			if !p.Tiers[i].Percent.IsZero() {
				p.Tiers[i].UnitAmount, _ = p.Tiers[i].Percent.Mul(money.MustDecimal("0.01"))
			}
		}
		if p.WaiveAtZero && left.Sign() == 0 {
			return out
		}
		return naive(p, tenth.Num().Int64())
	}
	panic("no such model")
}

// simpleMatrix takes the units off tenth by tenth.
func simpleMatrix(p price.Price, events []price.Event) *big.Rat {
	out, free := new(big.Rat), rat(p.Included)
	tenth := big.NewRat(1, 10)
	for _, e := range events {
		unit := p.UnitAmount
		switch e.Dimensions[1].Value {
		case "eu":
			unit = p.Cells[0].UnitAmount
		case "us":
			unit = p.Cells[1].UnitAmount
		}
		for left := rat(e.Quantity); left.Sign() > 0; left.Sub(left, tenth) {
			if free.Sign() > 0 {
				free.Sub(free, tenth)
				continue
			}
			out.Add(out, new(big.Rat).Mul(tenth, rat(unit)))
		}
	}
	return out
}

// simplePercentage walks the events with three purses: included, free amount, free events.
func simplePercentage(p price.Price, events []price.Event) *big.Rat {
	out, included := new(big.Rat), rat(p.Included)
	withAmount := p.FreeAmount != nil && p.FreeAmount.Sign() > 0
	purse := new(big.Rat)
	if withAmount {
		purse = rat(*p.FreeAmount)
	}
	open := withAmount || p.FreeEvents > 0 // the free range has not ended
	seen, charged := p.Included, new(big.Rat)
	for i, e := range events {
		amount := rat(e.Quantity)
		had := included.Sign() > 0
		use := included
		if use.Cmp(amount) > 0 {
			use = amount
		}
		left := new(big.Rat).Sub(amount, use)
		included = new(big.Rat).Sub(included, use)
		charged.Add(charged, left)
		if seen.Sign() > 0 && left.Sign() == 0 && (had || charged.Sign() == 0) {
			continue // within what is included
		}
		if p.FreeEvents > 0 && int64(i) >= p.FreeEvents {
			open = false
		}
		if open && !withAmount {
			continue
		}
		if open {
			if purse.Cmp(left) >= 0 {
				purse.Sub(purse, left)
				continue
			}
			left.Sub(left, purse)
			open = false
		}
		fee := new(big.Rat).Mul(left, rat(p.Percent))
		fee.Quo(fee, big.NewRat(100, 1)).Add(fee, rat(p.Fixed))
		if p.Min != nil && fee.Cmp(rat(*p.Min)) < 0 {
			fee = rat(*p.Min)
		}
		if p.Max != nil && fee.Cmp(rat(*p.Max)) > 0 {
			fee = rat(*p.Max)
		}
		out.Add(out, fee)
	}
	if charged.Sign() == 0 {
		return new(big.Rat)
	}
	return out
}

func TestChargeIsTheNaiveOne(t *testing.T) {
	t.Parallel()
	for _, m := range price.Models() {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				p, events := drawAny(t, m), drawEvents(t)
				got := fraction(mustCharge(t, p, price.Usage{Quantity: total(t, events), Events: events}))
				if want := simple(p, events); got.Cmp(want) != 0 {
					t.Fatalf("charged %s, want %s", got.FloatString(6), want.FloatString(6))
				}
			})
		})
	}
}

func TestCeilingIsTheLastOfAllModels(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawAny(t, price.Flat, price.Unit, price.Graduated, price.Package, price.GraduatedPercentage, price.Dynamic, price.Percentage)
		if p.Model == price.Percentage {
			p.Fixed, p.FreeEvents, p.Min, p.Max = money.Decimal{}, 0, nil, nil
		}
		p.MaximumSpend = maybe(t, 300, "maximum")
		limit := money.FromScaled(rapid.Int64Range(0, 30_000).Draw(t, "limit"), 3)
		scale := rapid.IntRange(0, 4).Draw(t, "scale")
		units, unlimited, err := p.Ceiling(limit, scale)
		if err != nil {
			t.Fatal(err)
		}
		if unlimited {
			if charge := mustRate(t, p, money.FromInt(1<<60)); charge.Cmp(limit) > 0 {
				t.Fatalf("called unlimited, but costs %s", charge)
			}
			return
		}
		if charge := mustRate(t, p, money.FromScaled(units, scale)); charge.Cmp(limit) > 0 && units > 0 {
			t.Fatalf("%d units cost %s, above %s", units, charge, limit)
		}
		if charge := mustRate(t, p, money.FromScaled(units+1, scale)); charge.Cmp(limit) <= 0 {
			t.Fatalf("one unit above %d costs %s, still within %s", units, charge, limit)
		}
	})
}
