package rules

import (
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
)

func (v *validator) plan(path string, p *catalog.Plan) {
	v.text(path+".name", p.Name)
	if p.Currency.Code() == "" {
		v.add(path+".currency", "is missing", "an ISO 4217 code, such as USD", "")
	}
	v.prices(path+".prices", p.Prices, p.Interval())
	v.count(path+".limits", len(p.Limits), catalog.MaxLimits)
	used, counters := map[string]string{}, map[string]string{}
	for i := range p.Limits {
		at := fmt.Sprintf("%s.limits[%d]", path, i)
		v.key(at, p.Limits[i].Key, used)
		v.limit(at, p, &p.Limits[i], counters)
	}
	v.count(path+".entitlements", len(p.Entitlements), catalog.MaxEntitlements)
	for i, e := range p.Entitlements {
		v.entitlement(path+".entitlements."+e.Key, e, p.Entitlements[:i])
	}
	v.baseline(path+".baseline", p.Baseline)
	v.terms(path, p)
}

// entitlement checks one; its path is by key, and no earlier one has it.
func (v *validator) entitlement(path string, e catalog.Entitlement, earlier []catalog.Entitlement) {
	if account.ValidKey(e.Key) != nil {
		v.add(path, "has no sound key"+got(e.Key), "1 to 64 of a-z A-Z 0-9 . _ - with a letter or digit first", "")
		return
	}
	if slices.ContainsFunc(earlier, func(o catalog.Entitlement) bool { return o.Key == e.Key }) {
		v.add(path, "is set twice", "each entitlement once", "")
	}
	if e.Value == "" || !plainText(e.Value) {
		v.add(path, "is not a value"+got(e.Value), fmt.Sprintf("true, false, a number or a text of 1 to %d printable characters", maxText), "")
	}
}

func (v *validator) baseline(path string, b catalog.Baseline) {
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
