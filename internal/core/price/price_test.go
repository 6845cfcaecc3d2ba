package price_test

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// band is a tier in text; upTo "" is the last one.
type band struct{ upTo, unit, flat string }

func graduated(bands ...band) price.Price {
	p := price.Price{Key: "calls", Meter: "api_calls", Model: price.Graduated, Charge: price.InArrears}
	for _, b := range bands {
		tier := price.Tier{UnitAmount: money.MustDecimal(b.unit)}
		if b.upTo != "" {
			tier.UpTo = new(money.MustDecimal(b.upTo))
		}
		if b.flat != "" {
			tier.FlatAmount = money.MustDecimal(b.flat)
		}
		p.Tiers = append(p.Tiers, tier)
	}
	return p
}

// share is a TierCharge in text.
type share struct {
	Tier                         int
	Quantity, Unit, Flat, Amount string
}

func shares(tiers []price.TierCharge) []share {
	var out []share
	for _, c := range tiers {
		out = append(out, share{c.Tier, c.Quantity.String(), c.UnitAmount.String(), c.FlatAmount.String(), c.Amount.String()})
	}
	return out
}

func TestRateGraduated(t *testing.T) {
	t.Parallel()
	included := graduated(band{"10000", "0", ""}, band{"", "0.0004", ""})
	fees := graduated(band{"100", "1", "5"}, band{"200", "0.5", "7"}, band{"", "0.1", "0"})
	freeAtZero := graduated(band{"0", "0", "0"}, band{"", "2", "9"})
	tests := []struct {
		name     string
		price    price.Price
		quantity string
		amount   string
		tiers    []share
	}{
		{"nothing used, nothing due", included, "0", "0", nil},
		{"included", included, "10000", "0", []share{{1, "10000", "0", "0", "0"}}},
		{"just above what is included", included, "10001", "0.0004", []share{{1, "10000", "0", "0", "0"}, {2, "1", "0.0004", "0", "0.0004"}}},
		{"the first flat amount is due at zero usage", fees, "0", "5", []share{{1, "0", "1", "5", "5"}}},
		{"the bound belongs to the lower band", fees, "100", "105", []share{{1, "100", "1", "5", "105"}}},
		{"a part of a unit enters the next band", fees, "100.5", "112.25", []share{{1, "100", "1", "5", "105"}, {2, "0.5", "0.5", "7", "7.25"}}},
		{"all bands", fees, "210", "163", []share{{1, "100", "1", "5", "105"}, {2, "100", "0.5", "7", "57"}, {3, "10", "0.1", "0", "1"}}},
		{"a first band that ends at zero makes zero usage free", freeAtZero, "0", "0", nil},
		{"and is passed by any usage", freeAtZero, "3", "15", []share{{2, "3", "2", "9", "15"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			amount, tiers, err := tt.price.Rate(money.MustDecimal(tt.quantity))
			if err != nil {
				t.Fatal(err)
			}
			if amount.String() != tt.amount {
				t.Errorf("amount %s, want %s", amount, tt.amount)
			}
			if diff := cmp.Diff(tt.tiers, shares(tiers)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFlat(t *testing.T) {
	t.Parallel()
	p := price.Price{Key: "platform", Model: price.Flat, Amount: money.MustDecimal("20.00")}
	amount, tiers, err := p.Rate(money.MustDecimal("7"))
	if err != nil || amount.String() != "20" || tiers != nil {
		t.Errorf("Rate = %s, %v, %v; want 20 and no tiers", amount, tiers, err)
	}
	for limit, want := range map[string]bool{"19.99": false, "20": true, "21": true} {
		units, unlimited, err := p.Ceiling(money.MustDecimal(limit), 0)
		if err != nil || unlimited != want || (units == 0) == want {
			t.Errorf("Ceiling(%s) = %d, %v, %v; want unlimited %v", limit, units, unlimited, err, want)
		}
	}
}

func TestCeiling(t *testing.T) {
	t.Parallel()
	included := graduated(band{"10000", "0", ""}, band{"", "0.0004", ""})
	fees := graduated(band{"100", "1", "5"}, band{"200", "0.5", "7"}, band{"", "0.1", "0"})
	odd := graduated(band{"100.5", "1", ""}, band{"", "3", "1"})
	free := graduated(band{"10", "0", ""}, band{"", "0", ""})
	fixed := graduated(band{"10", "0", ""}, band{"", "0", "4"})
	tests := []struct {
		name      string
		price     price.Price
		limit     string
		scale     int
		units     int64
		unlimited bool
	}{
		{"what is included stays free", included, "0", 0, 10000, false},
		{"to the unit", included, "500", 0, 1260000, false},
		{"below one more unit", included, "500.00039", 0, 1260000, false},
		{"the division does not terminate", graduated(band{"", "0.3", ""}), "100", 2, 33333, false},
		{"zero usage is too dear", fees, "4.99", 0, 0, false},
		{"the first flat amount uses the cap up", fees, "5", 3, 0, false},
		{"entering the next band is too dear", fees, "111.99", 0, 100, false},
		{"entering the next band is just paid for", fees, "112", 0, 100, false},
		{"one unit of the next band", fees, "112.5", 0, 101, false},
		{"last band", fees, "163", 0, 210, false},
		{"a bound between units is rounded down", odd, "101", 0, 100, false},
		{"a unit across a bound", odd, "103", 0, 101, false},
		{"the bound itself", odd, "101", 1, 1005, false},
		{"free for ever", free, "0", 0, math.MaxInt64, true},
		{"negative cap", free, "-1", 0, 0, false},
		{"the flat amount of the last band is too dear", fixed, "3", 0, 10, false},
		{"or is not", fixed, "4", 0, math.MaxInt64, true},
		{"paid up to the bound, free above it", graduated(band{"10", "1", ""}, band{"", "0", ""}), "10", 0, math.MaxInt64, true},
		{"beyond the counter", graduated(band{"", "0.000001", ""}), "99999999999999", 9, math.MaxInt64, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			units, unlimited, err := tt.price.Ceiling(money.MustDecimal(tt.limit), tt.scale)
			if err != nil || units != tt.units || unlimited != tt.unlimited {
				t.Errorf("Ceiling = %d, %v, %v; want %d, %v", units, unlimited, err, tt.units, tt.unlimited)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	fine := graduated(band{"", "1", ""})
	open := graduated(band{"", "1", ""}, band{"", "1", ""})
	huge := graduated(band{"", "99999999999999999999", "99999999999999999999999999999999999999"})
	tests := []struct {
		name     string
		price    price.Price
		quantity string
		want     error
	}{
		{"negative quantity", fine, "-1", price.ErrInvalid},
		{"no model", price.Price{}, "1", price.ErrInvalid},
		{"no tiers", graduated(), "1", price.ErrInvalid},
		{"negative flat price", price.Price{Model: price.Flat, Amount: money.MustDecimal("-1")}, "1", price.ErrInvalid},
		{"negative unit amount", graduated(band{"", "-1", ""}), "1", price.ErrInvalid},
		{"negative flat amount", graduated(band{"", "1", "-1"}), "1", price.ErrInvalid},
		{"a bound that does not rise", graduated(band{"5", "1", ""}, band{"5", "1", ""}, band{"", "1", ""}), "1", price.ErrInvalid},
		{"a negative bound", graduated(band{"-5", "1", ""}, band{"", "1", ""}), "1", price.ErrInvalid},
		{"a bound on the last tier", graduated(band{"5", "1", ""}), "1", price.ErrInvalid},
		{"no bound before the last tier", open, "1", price.ErrInvalid},
		{"product too large", huge, "99999999999999999999", money.ErrOverflow},
		{"sum too large", huge, "1", money.ErrOverflow},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := tt.price.Rate(money.MustDecimal(tt.quantity)); !errors.Is(err, tt.want) {
				t.Errorf("Rate: %v, want %v", err, tt.want)
			}
		})
	}
	for _, p := range []price.Price{{}, open} {
		if _, _, err := p.Ceiling(money.FromInt(1), 0); !errors.Is(err, price.ErrInvalid) {
			t.Errorf("Ceiling of a bad price: %v", err)
		}
	}
	for _, scale := range []int{-1, 39} {
		if _, _, err := fine.Ceiling(money.FromInt(1), scale); !errors.Is(err, price.ErrInvalid) {
			t.Errorf("Ceiling at scale %d: %v", scale, err)
		}
	}
}
