package catalog

import (
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

func (v *validator) plan(path string, p *Plan) {
	v.text(path+".name", p.Name)
	if p.Currency.Code() == "" {
		v.add(path+".currency", "is missing", "an ISO 4217 code, such as USD", "")
	}
	v.count(path+".prices", len(p.Prices), MaxPrices)
	used, charged := map[string]string{}, map[string]string{}
	for i, pr := range p.Prices {
		at := fmt.Sprintf("%s.prices[%d]", path, i)
		v.key(at, pr.Key, used)
		v.price(at, pr)
		if pr.Model != price.Graduated || pr.Meter == "" {
			continue
		}
		if first, ok := charged[pr.Meter]; ok {
			v.add(at+".meter", fmt.Sprintf("is charged by price %q already", first), "one price for each meter of a plan", "")
		} else {
			charged[pr.Meter] = pr.Key
		}
	}
	v.count(path+".limits", len(p.Limits), MaxLimits)
	used, counters := map[string]string{}, map[string]string{}
	for i := range p.Limits {
		at := fmt.Sprintf("%s.limits[%d]", path, i)
		v.key(at, p.Limits[i].Key, used)
		v.limit(at, p, &p.Limits[i], counters)
	}
	v.count(path+".entitlements", len(p.Entitlements), MaxEntitlements)
	for i, e := range p.Entitlements {
		v.entitlement(path+".entitlements."+e.Key, e, p.Entitlements[:i])
	}
	v.baseline(path+".baseline", p.Baseline)
}

func (v *validator) price(path string, p price.Price) {
	if p.Charge != price.InArrears && p.Charge != price.InAdvance {
		v.add(path+".charge", "is unknown", "in_advance or in_arrears", "")
	}
	switch p.Model {
	case price.Flat:
		v.amount(path+".amount", p.Amount)
		if p.Meter != "" {
			v.add(path+".meter", "does not go with model flat, which measures nothing"+got(p.Meter), "no meter, or model: graduated", "")
		}
		if len(p.Tiers) > 0 {
			v.add(path+".tiers", "does not go with model flat", "amount, or model: graduated", "")
		}
	case price.Graduated:
		if p.Charge == price.InAdvance {
			v.add(path+".charge", `cannot be in_advance for what is measured (got "in_advance")`, "in_arrears", "in_arrears")
		}
		if !p.Amount.IsZero() {
			v.add(path+".amount", "does not go with model graduated"+got(p.Amount.String()), "tiers, or model: flat", "")
		}
		m, ok := v.meterRef(path+".meter", p.Meter)
		v.tiers(path+".tiers", p.Tiers, m, ok)
	default:
		v.add(path+".model", "is unknown", "flat or graduated", "")
	}
}

func (v *validator) tiers(path string, tiers []price.Tier, m Meter, known bool) {
	if len(tiers) == 0 {
		v.add(path, "is empty", "at least one tier, the last one without up_to", "")
	}
	v.count(path, len(tiers), MaxTiers)
	var below money.Decimal
	for i, t := range tiers {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch last := i == len(tiers)-1; {
		case t.UpTo == nil && !last:
			v.add(at+".up_to", "is missing", "a bound on every tier but the last", "")
		case t.UpTo != nil && last:
			v.add(at+".up_to", "stands on the last tier, so usage above it has no price"+got(t.UpTo.String()), "no up_to on the last tier", "")
		case t.UpTo != nil:
			if known && !v.units(at+".up_to", *t.UpTo, m) {
				break
			}
			if c := t.UpTo.Cmp(below); c < 0 || c == 0 && i > 0 { // a first tier up to 0 makes only zero usage free
				v.add(at+".up_to", "does not rise"+got(t.UpTo.String()), "more than "+below.String(), "")
			}
			below = *t.UpTo
		}
		v.amount(at+".unit_amount", t.UnitAmount)
		v.amount(at+".flat_amount", t.FlatAmount)
	}
}

// entitlement checks one; its path is by key, and no earlier one has it.
func (v *validator) entitlement(path string, e Entitlement, earlier []Entitlement) {
	if account.ValidKey(e.Key) != nil {
		v.add(path, "has no sound key"+got(e.Key), "1 to 64 of a-z A-Z 0-9 . _ - with a letter or digit first", "")
		return
	}
	if slices.ContainsFunc(earlier, func(o Entitlement) bool { return o.Key == e.Key }) {
		v.add(path, "is set twice", "each entitlement once", "")
	}
	if e.Value == "" || !plainText(e.Value) {
		v.add(path, "is not a value"+got(e.Value), fmt.Sprintf("true, false, a number or a text of 1 to %d printable characters", maxText), "")
	}
}

func (v *validator) baseline(path string, b Baseline) {
	switch {
	case b.Factor == 0 && b.Throttle:
		v.add(path+".throttle", "does not say from when on", "factor beside it, such as 5", "")
	case b.Factor != 0 && (b.Factor < factorMin || b.Factor > factorMax):
		v.add(path+".factor", fmt.Sprintf("is out of range (got \"%d\")", b.Factor), fmt.Sprintf("%d to %d times the usual", factorMin, factorMax), "")
	}
}

// The bounds of a baseline's factor.
const (
	factorMin = 2
	factorMax = 1000
)
