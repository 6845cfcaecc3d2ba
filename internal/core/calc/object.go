package calc

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// wantDecimal is what a fault of a decimal says. Faults never repeat what a request said.
const wantDecimal = `expected a decimal such as "12.50", of at most 38 digits before and after the point`

// object reads the members of a JSON object, each by its name and its type. The first fault sticks: from then on all readers
// return zero values, and done tells. A reader without "maybe" in its name demands that the member is there; null is as good as
// absent for one with it.
type object struct {
	at      *place
	members []member
	first   **Fault // of the whole request
}

// fail notes a fault of a member, unless there is one already.
func (o *object) fail(name, format string, args ...any) {
	if *o.first == nil {
		*o.first = (&place{up: o.at, name: name}).fault(format, args...)
	}
}

// done is the first fault of the request so far, or the first member of this object that nobody read.
func (o *object) done() *Fault {
	for i := range o.members {
		if m := &o.members[i]; !m.read {
			o.fail(m.name, "unknown field")
		}
	}
	return *o.first
}

// member finds a member of one kind; nil where it is missing or of another.
func (o *object) member(name string, want kind) *value {
	v := o.maybe(name, want)
	if v == nil {
		o.fail(name, "expected %s, and nothing is there", want)
	}
	return v
}

// maybe is member for one that need not be there.
func (o *object) maybe(name string, want kind) *value {
	m := find(o.members, name)
	if m == nil {
		return nil
	}
	m.read = true
	if m.kind == null {
		return nil
	}
	if m.kind != want {
		o.fail(name, "expected %s, not %s", want, m.kind)
		return nil
	}
	return &m.value
}

// has says whether a member is there, and not null.
func (o *object) has(name string) bool {
	m := find(o.members, name)
	if m == nil {
		return false
	}
	m.read = true
	return m.kind != null
}

func (o *object) text(name string) string {
	if v := o.member(name, text); v != nil {
		return v.text
	}
	return ""
}

// word is one of several texts; the first where nothing is there.
func (o *object) word(name string, words ...string) string {
	v := o.maybe(name, text)
	switch {
	case v == nil:
		return words[0]
	case !slices.Contains(words, v.text):
		o.fail(name, "expected one of %s", strings.Join(words, ", "))
	}
	return v.text
}

func (o *object) maybeBool(name string) bool {
	v := o.maybe(name, boolean)
	return v != nil && v.text == "true"
}

// whole is a JSON number without decimals.
func (o *object) whole(name string, least, most int) int {
	v := o.member(name, number)
	if v == nil {
		return 0
	}
	n, err := strconv.Atoi(v.text)
	if err != nil || n < least || n > most {
		o.fail(name, "expected a whole number from %d to %d", least, most)
	}
	return n
}

// decimal is a string such as "12.50".
func (o *object) decimal(name string) (d money.Decimal) {
	if v := o.member(name, text); v != nil {
		o.parse(name, v, &d)
	}
	return d
}

// into reads a decimal that need not be there.
func (o *object) into(name string, to *money.Decimal) {
	if v := o.maybe(name, text); v != nil {
		o.parse(name, v, to)
	}
}

func (o *object) maybeDecimal(name string) *money.Decimal {
	v := o.maybe(name, text)
	if v == nil {
		return nil
	}
	d := new(money.Decimal)
	o.parse(name, v, d)
	return d
}

func (o *object) parse(name string, v *value, to *money.Decimal) {
	d, err := money.ParseDecimal(v.text)
	if err != nil {
		o.fail(name, wantDecimal)
		return
	}
	*to = d
}

// positive is a decimal that is not below 0.
func (o *object) positive(name string) money.Decimal {
	d := o.decimal(name)
	if d.Sign() < 0 {
		o.fail(name, "expected a number that is not negative")
	}
	return d
}

func (o *object) maybePositive(name string) *money.Decimal {
	if !o.has(name) {
		return nil
	}
	return new(o.positive(name))
}

// time is an RFC 3339 text, cut to the microsecond.
func (o *object) time(name string) time.Time {
	v := o.member(name, text)
	if v == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, v.text)
	if err != nil || strings.Contains(v.text, ",") || t.UTC().Year() < 1 {
		o.fail(name, "expected a time such as 2026-01-31T12:00:00Z")
	}
	return period.Truncate(t)
}

// maybeTime is the zero time where nothing is there.
func (o *object) maybeTime(name string) time.Time {
	if !o.has(name) {
		return time.Time{}
	}
	return o.time(name)
}

// interval is an object of start and end, where end is later.
func (o *object) interval(name string) period.Interval {
	i := o.span(name)
	if *o.first == nil && i.Empty() {
		o.fail(name, "the end is not after the start")
	}
	return i
}

// span is an interval that may be empty: its end is not before its start.
func (o *object) span(name string) period.Interval {
	in := o.object(name)
	i := period.Interval{Start: in.time("start"), End: in.time("end")}
	if in.done() == nil && i.End.Before(i.Start) {
		o.fail(name, "the end is before the start")
	}
	return i
}

// zone is an IANA name; UTC where nothing is there.
func (o *object) zone(name string) period.Zone {
	v := o.maybe(name, text)
	if v == nil {
		return period.Zone{}
	}
	z, err := period.LoadZone(v.text)
	if err != nil {
		o.fail(name, "expected an IANA zone such as Europe/Berlin")
	}
	return z
}

// currency is a code of ISO 4217, or XXX, which is the zero Currency: nothing is rounded.
func (o *object) currency() money.Currency {
	const name, none = "currency", "XXX"
	code := o.text(name)
	if code == none {
		return money.Currency{}
	}
	c, err := money.ParseCurrency(code)
	if err != nil {
		o.fail(name, "expected a currency of ISO 4217, in capitals, or XXX")
	}
	return c
}

// object is an object inside; one without members where there is none.
func (o *object) object(name string) *object {
	in := &object{at: &place{up: o.at, name: name}, first: o.first}
	if v := o.member(name, table); v != nil {
		in.members = v.members
	}
	return in
}

// list is an array of at most so many values; nil where nothing is there.
func (o *object) list(name string, most int) []member {
	v := o.maybe(name, list)
	if v == nil {
		return nil
	}
	if len(v.members) > most {
		o.fail(name, "more than %d", most)
		return nil
	}
	return v.members
}

// each calls do for the objects of an array of at most so many, which may be absent, and checks that do read all of their members.
func (o *object) each(name string, most int, do func(i int, in *object)) {
	items := o.list(name, most)
	if len(items) == 0 {
		return
	}
	at := &place{up: &place{up: o.at, name: name}, listed: true}
	in := &object{at: at, first: o.first}
	for i := range items {
		if *o.first != nil {
			return
		}
		at.index, in.members = i, items[i].members
		if items[i].kind != table {
			*o.first = in.at.fault("expected an object, not %s", items[i].kind)
			return
		}
		do(i, in)
		in.done()
	}
}
