package reading

import (
	"fmt"

	"github.com/google/cel-go/cel"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Exchange is a request and its answer, as the expression of a route's cost sees them.
type Exchange struct {
	Method, Path                    string
	RequestHeaders, ResponseHeaders map[string]string // names in lower case; several values of one name with ", " between
	RequestBytes, ResponseBytes     int64             // of the bodies
	Status                          int
	JSON                            []byte // the answer's body where it is JSON, else nil: response.json is null then
}

func exchangeVariables() []cel.EnvOption {
	headers := cel.MapType(cel.StringType, cel.StringType)
	return []cel.EnvOption{
		cel.Variable("request.method", cel.StringType),
		cel.Variable("request.path", cel.StringType),
		cel.Variable("request.headers", headers),
		cel.Variable("request.bytes", cel.IntType),
		cel.Variable("response.status", cel.IntType),
		cel.Variable("response.headers", headers),
		cel.Variable("response.bytes", cel.IntType),
		cel.Variable("response.json", cel.DynType),
	}
}

func (e *Exchange) variables() (map[string]any, error) {
	var body any
	if e.JSON != nil {
		decoded, err := decode(e.JSON)
		if err != nil {
			return nil, err
		}
		body = numbers(decoded)
	}
	return map[string]any{
		"request.method": e.Method, "request.path": e.Path, "request.headers": notNil(e.RequestHeaders), "request.bytes": e.RequestBytes,
		"response.status": int64(e.Status), "response.headers": notNil(e.ResponseHeaders), "response.bytes": e.ResponseBytes, "response.json": body,
	}, nil
}

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// Cost evaluates the cost of an exchange, in the meter's unit and never negative. meter.ErrEvent where the exchange does not fit the
// expression: a member that is missing, a result that is no number.
func (x *Expression) Cost(e *Exchange) (money.Decimal, error) {
	vars, err := e.variables()
	if err != nil {
		return money.Decimal{}, err
	}
	out, err := x.run(vars)
	if err != nil {
		return money.Decimal{}, err
	}
	d, err := toDecimal(out)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("%w: %w", meter.ErrEvent, err)
	}
	if d.Sign() < 0 {
		return money.Decimal{}, fmt.Errorf("%w: the cost is negative: %s", meter.ErrEvent, d)
	}
	return d, nil
}
