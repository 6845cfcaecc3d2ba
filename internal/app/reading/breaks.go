package reading

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Break is one rule of a new schema that refuses what the earlier one took.
type Break struct {
	Place             []string // in the new schema: "properties", "tokens", "maximum"
	Message, Expected string
}

// breaksMax bounds how many breaks of one schema are told.
const breaksMax = 20

// Breaks compares a schema with the earlier one of its type, both canonical JSON that NewSchema takes. It finds every rule
// that may refuse data which the earlier one accepted, and errs on the side of telling: what it cannot compare (a changed
// pattern, other alternatives) counts as a break. A property that the earlier schema did not name may be added with rules of
// its own. None: every sender may go on as before.
func Breaks(earlier, next []byte) []Break {
	before, err := decode(earlier)
	if err != nil {
		return nil
	}
	after, err := decode(next)
	if err != nil {
		return nil
	}
	var c comparison
	c.schema(before, after, nil)
	return c.found
}

type comparison struct{ found []Break }

func (c *comparison) add(place []string, message, expected string) {
	if len(c.found) < breaksMax {
		c.found = append(c.found, Break{place, message, expected})
	}
}

// schema compares two schemas at one place.
func (c *comparison) schema(before, after any, place []string) {
	if canonical(before) == canonical(after) || before == false || after == true {
		return
	}
	if after == false {
		c.add(place, "allows nothing any more", "what it allowed before")
		return
	}
	was, _ := before.(map[string]any) // true is {}
	is, _ := after.(map[string]any)
	for _, key := range sorted(is) {
		if canonical(was[key]) == canonical(is[key]) && !dependsOn(key, was, is) {
			continue
		}
		c.keyword(key, was, is, at(place, key))
	}
	c.closed(was, is, place)
}

// dependsOn says that a keyword means something else though it reads the same: its neighbours changed.
func dependsOn(key string, was, is map[string]any) bool {
	var on []string
	switch key {
	case "additionalProperties":
		on = []string{"patternProperties"}
	case "items":
		on = []string{"prefixItems"}
	case "contains":
		on = []string{"minContains", "maxContains"}
	case "unevaluatedProperties", "unevaluatedItems":
		return canonical(was) != canonical(is)
	}
	return slices.ContainsFunc(on, func(k string) bool { return canonical(was[k]) != canonical(is[k]) })
}

// keyword compares one keyword that the new schema has and the earlier one has not, or in another form.
func (c *comparison) keyword(key string, was, is map[string]any, place []string) {
	old, had := was[key]
	now := is[key]
	switch key {
	case "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$anchor",
		"$dynamicAnchor", "format", "contentEncoding", "contentMediaType", "contentSchema":
	case "type":
		c.types(old, had, now, place)
	case "enum", "const":
		c.allowed(was, now, key, place)
	case "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties":
		c.bound(old, had, now, place, "is lower than before", "at least", 1)
	case "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties":
		c.bound(old, had, now, place, "is higher than before", "at most", -1)
	case "multipleOf":
		if !had || !multiple(old, now) {
			c.add(place, "refuses numbers that were taken"+got(now), "a number that divides the earlier one")
		}
	case "required":
		c.required(old, now, place)
	case "properties":
		c.properties(was, now, place)
	case "additionalProperties", "unevaluatedProperties", "unevaluatedItems":
		c.additional(key, was, is, place)
	case "$defs", "dependentSchemas":
		c.named(old, now, place)
	case "items", "propertyNames", "then", "else":
		c.inner(key, was, is, place)
	case "uniqueItems":
		if now == true {
			c.add(place, "refuses lists with equal items, which were taken", "no uniqueItems")
		}
	case "anyOf":
		c.alternatives(old, had, now, place)
	default:
		c.other(key, had, place)
	}
}

func (c *comparison) other(key string, had bool, place []string) {
	if had {
		c.add(place, "is not the same as before, and may refuse what was taken", "the earlier "+key)
		return
	}
	c.add(place, "is a new rule, and may refuse what was taken", "no "+key)
}

// types: every type that was taken must be taken still.
func (c *comparison) types(old any, had bool, now any, place []string) {
	taken := texts(now)
	before := texts(old)
	if !had {
		before = []string{"array", "boolean", "null", "number", "object", "string"}
	}
	for _, t := range before {
		if !slices.Contains(taken, t) && (t != "integer" || !slices.Contains(taken, "number")) {
			c.add(place, "no longer takes "+article(t), "the types that it took: "+strings.Join(before, ", "))
			return
		}
	}
}

// allowed: every value that was allowed must be allowed still.
func (c *comparison) allowed(was map[string]any, now any, key string, place []string) {
	list, ok := now.([]any)
	if key == "const" || !ok {
		list = []any{now}
	}
	before, had := was["enum"].([]any)
	if only, ok := was["const"]; ok {
		before, had = []any{only}, true
	}
	if !had {
		c.add(place, "allows only some of the values that were taken", "no "+key)
		return
	}
	for _, v := range before {
		if !slices.ContainsFunc(list, func(o any) bool { return canonical(o) == canonical(v) }) {
			c.add(place, "no longer allows "+shown(v), "all the values that it allowed")
			return
		}
	}
}

// bound compares two limits; sign 1: the new one must not be lower, -1: not higher.
func (c *comparison) bound(old any, had bool, now any, place []string, message, want string, sign int) {
	before, ok := number(old)
	after, fine := number(now)
	switch {
	case !fine:
	case !had || !ok:
		if sign < 0 && after.Sign() <= 0 && strings.HasPrefix(place[len(place)-1], "min") && place[len(place)-1] != "minimum" {
			return // a length of at least 0 says nothing
		}
		c.add(place, "is a new bound, and refuses what was taken"+got(now), "no bound")
	case before.Cmp(after)*sign > 0:
		c.add(place, message+got(now), want+" "+shown(old))
	}
}

func (c *comparison) required(old, now any, place []string) {
	before := texts(old)
	for i, name := range texts(now) {
		if !slices.Contains(before, name) {
			c.add(at(place, strconv.Itoa(i)), "is required now, and was not before"+got(name), "an optional property")
		}
	}
}

// properties compares those that both name, and those that the earlier schema had rules for in another way.
func (c *comparison) properties(was map[string]any, now any, place []string) {
	before, _ := was["properties"].(map[string]any)
	after, _ := now.(map[string]any)
	additional, had := was["additionalProperties"]
	for _, name := range sorted(after) {
		old, named := before[name]
		switch {
		case named:
		case had && was["patternProperties"] == nil && additional != true:
			old = additional
		case was["patternProperties"] != nil:
			old = true
		default:
			continue // new and free before
		}
		c.schema(old, after[name], at(place, name))
	}
}

// closed: a property that the new schema no longer names falls under its additionalProperties.
func (c *comparison) closed(was, is map[string]any, place []string) {
	rest, ok := is["additionalProperties"]
	if !ok || rest == true {
		return
	}
	before, _ := was["properties"].(map[string]any)
	after, _ := is["properties"].(map[string]any)
	for _, name := range sorted(before) {
		if _, kept := after[name]; kept || before[name] == false {
			continue
		}
		if rest == false {
			c.add(at(place, "additionalProperties"), "refuses the property "+strconv.Quote(clip(name))+", which was taken", "the property among properties")
			continue
		}
		c.schema(before[name], rest, at(place, "additionalProperties"))
	}
}

// additional compares what holds for properties or items without a rule of their own.
func (c *comparison) additional(key string, was, is map[string]any, place []string) {
	old, had := was[key]
	if !had {
		old = true
	}
	switch {
	case old == false && key == "additionalProperties" && canonical(was["patternProperties"]) == canonical(is["patternProperties"]):
	case key != "additionalProperties", canonical(was["patternProperties"]) != canonical(is["patternProperties"]):
		c.other(key, had, place)
	case is[key] == false:
		c.add(place, "closes what was open: other properties were taken", "no additionalProperties, or true")
	default:
		c.schema(old, is[key], place)
	}
}

// inner compares a schema inside; one that was not there took everything.
func (c *comparison) inner(key string, was, is map[string]any, place []string) {
	old, had := was[key]
	switch {
	case key == "items" && canonical(was["prefixItems"]) != canonical(is["prefixItems"]),
		key != "items" && key != "propertyNames" && canonical(was["if"]) != canonical(is["if"]):
		c.other(key, had, place)
	case !had && key != "items" && key != "propertyNames" && is["if"] == nil: // without an if it says nothing
	case !had:
		c.schema(true, is[key], place)
	default:
		c.schema(old, is[key], place)
	}
}

// named compares schemas by name; a new definition binds nobody yet, a new dependent schema does.
func (c *comparison) named(old, now any, place []string) {
	before, _ := old.(map[string]any)
	after, _ := now.(map[string]any)
	for _, name := range sorted(after) {
		was, had := before[name]
		switch {
		case had:
			c.schema(was, after[name], at(place, name))
		case place[len(place)-1] != "$defs":
			c.schema(true, after[name], at(place, name))
		}
	}
}

// alternatives: every one that there was must be there still.
func (c *comparison) alternatives(old any, had bool, now any, place []string) {
	before, _ := old.([]any)
	after, _ := now.([]any)
	lost := func(v any) bool {
		return !slices.ContainsFunc(after, func(o any) bool { return canonical(o) == canonical(v) })
	}
	if !had || slices.ContainsFunc(before, lost) {
		c.other("anyOf", had, place)
	}
}

// canonical is a value as text; equal values are equal texts.
func canonical(v any) string {
	b, err := json.Marshal(v) // keys sorted; numbers stand as the catalog's canonical JSON has them
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

func number(v any) (*big.Rat, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return nil, false
	}
	return new(big.Rat).SetString(n.String())
}

func multiple(old, now any) bool {
	of, ok := number(old)
	by, fine := number(now)
	return ok && fine && by.Sign() != 0 && new(big.Rat).Quo(of, by).IsInt()
}
