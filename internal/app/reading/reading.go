// Package reading compiles what a catalog version says about the content of events: CEL expressions for values and filters,
// JSON Schemas for the data. It evaluates without I/O, and every evaluation has a bound.
package reading

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// ErrInvalid is wrapped by every complaint about an expression or a schema itself.
var ErrInvalid = errors.New("invalid expression or schema")

// Reading is one catalog version's expressions and schemas, compiled once. It is immutable and safe for concurrent use.
type Reading struct {
	values, filters map[string]*Expression // by meter
	schemas         map[string]*Schema     // by event type
	costs           map[string]*Expression // by a route's match
}

// New compiles a valid catalog. ErrInvalid for one that the catalog's reader would have refused.
func New(c *catalog.Catalog) (*Reading, error) {
	r := &Reading{values: map[string]*Expression{}, filters: map[string]*Expression{}, schemas: map[string]*Schema{}, costs: map[string]*Expression{}}
	var language *Language
	compile := func(text string, kind Kind) (*Expression, error) {
		if language == nil {
			var err error
			if language, err = NewLanguage(); err != nil {
				return nil, err
			}
		}
		return language.Compile(text, kind)
	}
	for _, m := range c.Meters {
		var err error
		if m.Custom {
			if r.values[m.Key], err = compile(m.Value, Quantity); err != nil {
				return nil, fmt.Errorf("value of meter %q: %w", m.Key, err)
			}
		}
		if m.Filter.Expression != "" {
			if r.filters[m.Key], err = compile(m.Filter.Expression, Condition); err != nil {
				return nil, fmt.Errorf("filter of meter %q: %w", m.Key, err)
			}
		}
	}
	for i := range c.Routes {
		route := &c.Routes[i]
		if route.From != catalog.FromExpression {
			continue
		}
		var err error
		if r.costs[route.Match], err = compile(route.Path, Cost); err != nil {
			return nil, fmt.Errorf("cost of route %q: %w", route.Match, err)
		}
	}
	for _, e := range c.Events {
		s, err := NewSchema(e.Schema)
		if err != nil {
			return nil, fmt.Errorf("schema of event type %q: %w", e.Type, err)
		}
		r.schemas[e.Type] = s
	}
	return r, nil
}

// Check holds an event's data against the schema of its type; without one it is nil.
func (r *Reading) Check(e meter.Event) *Violation {
	if s := r.schemas[e.Type]; s != nil {
		return s.Check(e.Data)
	}
	return nil
}

// Counts says whether an event passes a meter's filter. An error is the event's fault: it wraps meter.ErrEvent.
func (r *Reading) Counts(m catalog.Meter, in *Input) (bool, error) {
	if x := r.filters[m.Key]; x != nil {
		return x.Holds(in)
	}
	for _, match := range m.Filter.Matches {
		text, ok, err := meter.Text(match.Path, in.event.Data)
		if err != nil {
			return false, fmt.Errorf("%s: %w", match.Path, err)
		}
		if !ok || !slices.Contains(match.Values, text) {
			return false, nil
		}
	}
	return true, nil
}

// Cost is the expression of a route's cost, by its match; nil where the route has none.
func (r *Reading) Cost(match string) *Expression { return r.costs[match] }

// Custom is a custom meter's value of an event. An error is the event's fault: it wraps meter.ErrEvent.
func (r *Reading) Custom(m catalog.Meter, in *Input) (money.Decimal, error) {
	x := r.values[m.Key]
	if x == nil {
		return money.Decimal{}, fmt.Errorf("meter %q has no expression: %w", m.Key, ErrInvalid)
	}
	return x.Value(in)
}
