package reading

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// The bounds of an expression: what it may cost to evaluate, in CEL's own unit (about one operation), how deep it nests and
// how many nodes it has with its macros written out.
const (
	costMax  = 20_000
	depthMax = 32
	nodesMax = 2_000
	regexMax = 1_000 // instructions of a compiled regular expression
)

// Kind is what an expression is for.
type Kind uint8

// The kinds.
const (
	Condition Kind = iota + 1 // a filter: true or false
	Quantity                  // a value: int, decimal or decimal string
	Cost                      // what a request costs: as Quantity, over request and response instead of an event
)

// Language is CEL with the variables event.type, event.subject, event.source, event.time and event.data, and decimal(x).
// Whole numbers of the data are ints, others decimals; there are no floats. A Cost has the variables of an Exchange instead.
type Language struct {
	env   *cel.Env
	costs func() (*cel.Env, error) // made for the first Cost
}

// NewLanguage is costly; one serves for all expressions of a catalog. It is safe for concurrent use.
func NewLanguage() (*Language, error) {
	env, err := newEnv(
		cel.Variable("event.type", cel.StringType),
		cel.Variable("event.subject", cel.StringType),
		cel.Variable("event.source", cel.StringType),
		cel.Variable("event.time", cel.TimestampType),
		cel.Variable("event.data", cel.MapType(cel.StringType, cel.DynType)),
	)
	if err != nil {
		return nil, err
	}
	costs := sync.OnceValues(func() (*cel.Env, error) { return newEnv(exchangeVariables()...) })
	return &Language{env: env, costs: costs}, nil
}

func newEnv(variables ...cel.EnvOption) (*cel.Env, error) {
	options := append(variables,
		cel.ParserExpressionSizeLimit(catalog.MaxExpression),
		cel.ParserRecursionLimit(depthMax),
		cel.ExpressionNodeLimit(nodesMax),
		cel.RegexProgramSizeLimit(regexMax),
		cel.DefaultUTCTimeZone(true),
	)
	env, err := cel.NewEnv(append(options, decimalOptions()...)...)
	if err != nil {
		return nil, fmt.Errorf("set up CEL: %w", err)
	}
	return env, nil
}

// Expression is a compiled CEL expression. It is immutable and safe for concurrent use.
type Expression struct{ program cel.Program }

// Compile parses and checks an expression. ErrInvalid says what is wrong and where in the expression.
func (l *Language) Compile(text string, kind Kind) (*Expression, error) {
	if utf8.RuneCountInString(text) > catalog.MaxExpression {
		return nil, fmt.Errorf("%w: it is longer than %d characters", ErrInvalid, catalog.MaxExpression)
	}
	env := l.env
	if kind == Cost {
		var err error
		if env, err = l.costs(); err != nil {
			return nil, err
		}
	}
	tree, issues := env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("%w: at character %d: %s", ErrInvalid, max(1, first.Location.Column()+1), plain(first.Message, kind))
	}
	if err := exact(tree.NativeRep()); err != nil {
		return nil, err
	}
	if out := tree.OutputType(); !kind.takes(out) {
		return nil, fmt.Errorf("%w: its result is %s", ErrInvalid, cel.FormatCELType(out))
	}
	program, err := env.Program(tree, cel.CostLimit(costMax), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &Expression{program}, nil
}

// plain shortens what CEL says, and says in our words what is asked most.
func plain(message string, kind Kind) string {
	message, _, _ = strings.Cut(message, "\n")
	if strings.HasPrefix(message, "undeclared reference to 'event'") {
		if kind == Cost {
			return "a route's cost sees request and response, and no event"
		}
		return "event has type, subject, source, time and data, and nothing else"
	}
	for name, members := range map[string]string{"request": "method, path, headers and bytes", "response": "status, headers, bytes and json"} {
		if strings.HasPrefix(message, "undeclared reference to '"+name+"'") {
			return name + " has " + members + ", and nothing else; only a route's cost sees it"
		}
	}
	if strings.HasPrefix(message, "found no matching overload") && strings.Contains(message, ", decimal)'") {
		message += "; write decimal(x) on both sides"
	}
	message, _, _ = strings.Cut(message, " expecting ")
	return message
}

// takes says whether a static type can be a result of the kind. What is only known from the event is checked then.
func (k Kind) takes(t *cel.Type) bool {
	if t.Kind() == types.DynKind || t.Kind() == types.AnyKind {
		return true
	}
	if k == Condition {
		return t.Kind() == types.BoolKind
	}
	return slices.Contains([]cel.Kind{types.IntKind, types.UintKind, types.StringKind}, t.Kind()) || t.TypeName() == decimalName
}

// exact refuses floats, since 0.1 is not a tenth in one, and comparisons that would be false for equal numbers: an int that
// comes from the data never equals a decimal.
func exact(tree *ast.AST) error {
	var found error
	at := func(e ast.Expr) int { return tree.SourceInfo().GetStartLocation(e.ID()).Column() + 1 }
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case found != nil:
		case tree.GetType(e.ID()).Kind() == types.DoubleKind:
			if e.Kind() == ast.LiteralKind {
				text := fmt.Sprint(e.AsLiteral().Value())
				found = fmt.Errorf("%w: at character %d: %s is a float, which is not exact; write decimal(%q)", ErrInvalid, at(e), text, text)
				return
			}
			found = fmt.Errorf("%w: at character %d: this makes a float, which is not exact; use decimal(x)", ErrInvalid, at(e))
		case e.Kind() == ast.CallKind && mixed(tree, e.AsCall()):
			found = fmt.Errorf("%w: at character %d: a decimal is compared with what may be an int; write decimal(x) on both sides", ErrInvalid, at(e))
		}
	}))
	return found
}

// mixed says that an equality has a decimal on one side only.
func mixed(tree *ast.AST, call ast.CallExpr) bool {
	args := call.Args()
	if len(args) != 2 {
		return false
	}
	one, other := tree.GetType(args[0].ID()), tree.GetType(args[1].ID())
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals:
	case operators.In:
		if p := other.Parameters(); len(p) > 0 {
			other = p[0] // a list's elements or a map's keys
		}
	default:
		return false
	}
	return (one.TypeName() == decimalName) != (other.TypeName() == decimalName)
}

// Input is one event as expressions see it. It may be used for many of them, by one goroutine.
type Input struct {
	event meter.Event
	vars  map[string]any // filled by the first expression
}

// NewInput takes an event with canonical data.
func NewInput(e meter.Event) *Input { return &Input{event: e} }

// Event is the event itself.
func (in *Input) Event() meter.Event { return in.event }

func (in *Input) variables() (map[string]any, error) {
	if in.vars != nil {
		return in.vars, nil
	}
	data, err := decode(in.event.Data)
	if err != nil {
		return nil, err
	}
	object, ok := numbers(data).(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	in.vars = map[string]any{
		"event.type": in.event.Type, "event.subject": in.event.Subject, "event.source": in.event.Source,
		"event.time": in.event.Time, "event.data": object,
	}
	return in.vars, nil
}

// decode reads canonical JSON with its numbers as they stand.
func decode(data []byte) (any, error) {
	if len(data) == 0 {
		return map[string]any{}, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: data: %w", meter.ErrEvent, err)
	}
	return v, nil
}

// numbers replaces JSON's numbers: whole ones that fit by int64, others by decimals.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		d, err := money.ParseDecimal(v.String())
		if err != nil {
			return v.String() // canonical data has no such number
		}
		return decimal{d}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

func (x *Expression) eval(in *Input) (ref.Val, error) {
	vars, err := in.variables()
	if err != nil {
		return nil, err
	}
	return x.run(vars)
}

func (x *Expression) run(vars map[string]any) (ref.Val, error) {
	out, _, err := x.program.Eval(vars)
	if err != nil {
		hint := ""
		if strings.HasPrefix(err.Error(), "no such overload") {
			hint = "; where whole numbers meet fractions, write decimal(x) around both"
		}
		return nil, fmt.Errorf("%w: the expression fails: %w%s", meter.ErrEvent, err, hint)
	}
	return out, nil
}

// Holds evaluates a condition. meter.ErrEvent where the event does not fit the expression.
func (x *Expression) Holds(in *Input) (bool, error) {
	out, err := x.eval(in)
	if err != nil {
		return false, err
	}
	holds, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("%w: the expression is %s here, not true or false", meter.ErrEvent, out.Type().TypeName())
	}
	return holds, nil
}

// Value evaluates a quantity. meter.ErrEvent where the event does not fit the expression, money.ErrOverflow within it beyond
// 38 digits.
func (x *Expression) Value(in *Input) (money.Decimal, error) {
	out, err := x.eval(in)
	if err != nil {
		return money.Decimal{}, err
	}
	d, err := toDecimal(out)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("%w: %w", meter.ErrEvent, err)
	}
	return d, nil
}
