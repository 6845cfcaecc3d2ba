// Package rules finds what is wrong with a catalog: each fault with its place, what was expected, and what was probably meant.
package rules

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Problem is one fault of a catalog. Path is dotted with indexes: "plans[1].prices[0].tiers[2].up_to", "gateway.routes[0].match".
// Message says what is wrong and ends with the value, Expected what would be right; Suggestion is a text to write instead.
type Problem struct {
	Path, Message, Expected, Suggestion string
}

const (
	maxText        = 128                   // characters of a name, an event type or a unit
	maxValueDepth  = 8                     // names in a sum meter's value path
	maxDecimals    = 18                    // of an amount of money
	maxUnits       = 1_000_000_000_000_000 // of a quota or cost, in the meter's scale
	maxSuggestions = 100                   // a catalog of mistakes must not cost more than a good one
	maxListed      = 12                    // names in one Expected
	maxGot         = 60                    // characters of a value quoted in one Message
)

// amountMax bounds prices, caps and rates: what is above is a slip of the keyboard.
func amountMax() money.Decimal { return money.FromInt(1_000_000_000_000) }

// Validate finds every fault, in document order; none means that Compile cannot fail. Route patterns are only checked to be there:
// what net/http makes of them is not a pure question.
func Validate(c *catalog.Catalog) []Problem {
	v := validator{catalog: c, suggestions: maxSuggestions, meters: make(map[string]catalog.Meter, len(c.Meters)), plansBy: make(map[string]*catalog.Plan, len(c.Plans))}
	v.validateEvents()
	v.validateMeters()
	v.count("plans", len(c.Plans), catalog.MaxPlans)
	plans := map[string]string{}
	for i := range c.Plans {
		path := fmt.Sprintf("plans[%d]", i)
		v.key(path, c.Plans[i].Key, plans)
		v.plan(path, &c.Plans[i])
		v.plansBy[c.Plans[i].Key] = &c.Plans[i]
	}
	v.addOns()
	v.coupons()
	v.taxes()
	v.billing()
	v.gateway()
	return v.problems
}

type validator struct {
	catalog     *catalog.Catalog
	problems    []Problem
	suggestions int // left
	meters      map[string]catalog.Meter
	meterKeys   []string // the sound ones, in declared order
	plansBy     map[string]*catalog.Plan
	nameless    bool // a meter lacks its key, so any reference may mean that one
}

func (v *validator) add(path, message, expected, suggestion string) {
	v.problems = append(v.problems, Problem{path, message, expected, suggestion})
}

func (v *validator) suggest(word string, candidates []string) string {
	if v.suggestions == 0 {
		return ""
	}
	v.suggestions--
	return catalog.Suggest(word, candidates)
}

func (v *validator) count(path string, n, most int) {
	if n > most {
		v.add(path, fmt.Sprintf("has %d entries", n), fmt.Sprintf("at most %d", most), "")
	}
}

// key checks the form of a key and that no sibling has it; used maps the siblings' keys to their paths.
func (v *validator) key(path, key string, used map[string]string) {
	if err := account.ValidKey(key); err != nil {
		reason := strings.TrimPrefix(err.Error(), account.ErrInvalid.Error()+": ")
		v.add(path+".key", reason, "1 to 64 of a-z A-Z 0-9 . _ - with a letter or digit first", "")
		return
	}
	if first, taken := used[key]; taken {
		v.add(path+".key", fmt.Sprintf("is the key of %s already%s", first, got(key)), "a key of its own", "")
		return
	}
	used[key] = path
}

func (v *validator) validateMeters() {
	v.count("meters", len(v.catalog.Meters), catalog.MaxMeters)
	used := map[string]string{}
	for i, m := range v.catalog.Meters {
		path := fmt.Sprintf("meters[%d]", i)
		v.key(path, m.Key, used)
		v.meter(path, m)
		v.nameless = v.nameless || m.Key == ""
		if _, taken := v.meters[m.Key]; !taken {
			v.meters[m.Key] = m
			if account.ValidKey(m.Key) == nil {
				v.meterKeys = append(v.meterKeys, m.Key)
			}
		}
	}
}

// text checks an optional text that people read.
func (v *validator) text(path, s string) {
	if !plainText(s) {
		v.add(path, "is too long or has characters that do not print"+got(s), fmt.Sprintf("at most %d printable characters", maxText), "")
	}
}

// meterRef checks a reference to a meter; ok is false when there is none to check against.
func (v *validator) meterRef(path, key string) (m catalog.Meter, ok bool) {
	if m, ok = v.meters[key]; ok && key != "" {
		return m, true
	}
	if v.nameless && key != "" {
		return catalog.Meter{}, false
	}
	if key == "" {
		v.add(path, "is missing", v.oneOfMeters(), "")
	} else {
		v.add(path, "is no meter of this catalog"+got(key), v.oneOfMeters(), v.suggest(key, v.meterKeys))
	}
	return catalog.Meter{}, false
}

func (v *validator) oneOfMeters() string {
	switch n := len(v.meterKeys); {
	case n == 0:
		return "a meter; none is declared"
	case n > maxListed:
		return "one of " + strings.Join(v.meterKeys[:maxListed], ", ") + ", …"
	default:
		return "one of " + strings.Join(v.meterKeys, ", ")
	}
}

// amount checks a price or a cap.
func (v *validator) amount(path string, d money.Decimal) {
	switch {
	case d.Sign() < 0:
		v.add(path, "is negative"+got(d.String()), "0 or more", "")
	case d.Cmp(amountMax()) > 0:
		v.add(path, "is absurdly large"+got(d.String()), "at most "+amountMax().String(), "")
	case d.Scale() > maxDecimals:
		v.add(path, "has too many decimals"+got(d.String()), fmt.Sprintf("at most %d decimals", maxDecimals), "")
	}
}

// units checks a quantity of a meter and tells whether it is sound.
func (v *validator) units(path string, d money.Decimal, m catalog.Meter) bool {
	if m.Scale < 0 || m.Scale > catalog.MaxScale {
		return false // said at the meter
	}
	n, err := d.Scaled(m.Scale)
	switch {
	case d.Sign() < 0:
		v.add(path, "is negative"+got(d.String()), "0 or more", "")
	case d.Scale() > m.Scale:
		v.add(path, fmt.Sprintf("has more decimals than meter %s keeps%s", m.Key, got(d.String())), decimals(m.Scale), "")
	case err != nil || n > maxUnits:
		v.add(path, "is absurdly large"+got(d.String()), "at most "+money.FromScaled(maxUnits, m.Scale).String(), "")
	default:
		return true
	}
	return false
}

func decimals(scale int) string {
	switch scale {
	case 0:
		return "a whole number"
	case 1:
		return "at most 1 decimal"
	default:
		return fmt.Sprintf("at most %d decimals", scale)
	}
}

func plainText(s string) bool {
	return len(s) <= maxText*utf8.UTFMax && utf8.RuneCountInString(s) <= maxText && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// got quotes a value at the end of a message; an empty one says nothing.
func got(s string) string {
	if s == "" {
		return ""
	}
	if utf8.RuneCountInString(s) > maxGot {
		s = string([]rune(s)[:maxGot]) + "…"
	}
	return fmt.Sprintf(" (got %q)", s)
}
