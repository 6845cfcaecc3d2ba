package reading

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/tallystick/tallystick/internal/core/money"
)

const decimalName = "decimal"

// decimal is money.Decimal as a CEL value. With an int on its right it calculates too.
type decimal struct{ money.Decimal }

func decimalType() *types.Type {
	return types.NewObjectType(decimalName, traits.AdderType|traits.SubtractorType|traits.MultiplierType|traits.NegatorType|traits.ComparerType)
}

// decimalOptions declare decimal(x) and the operators on decimals. What the operators do is with the values themselves.
func decimalOptions() []cel.EnvOption {
	d := decimalType()
	convert := cel.UnaryBinding(func(v ref.Val) ref.Val {
		out, err := toDecimal(v)
		if err != nil {
			return types.WrapErr(err)
		}
		return decimal{out}
	})
	options := []cel.EnvOption{cel.Function(decimalName,
		cel.Overload("decimal_string", []*cel.Type{cel.StringType}, d, convert),
		cel.Overload("decimal_int", []*cel.Type{cel.IntType}, d, convert),
		cel.Overload("decimal_uint", []*cel.Type{cel.UintType}, d, convert),
		cel.Overload("decimal_decimal", []*cel.Type{d}, d, convert),
	)}
	for name, operator := range map[string]string{"add": operators.Add, "subtract": operators.Subtract, "multiply": operators.Multiply} {
		options = append(options, cel.Function(operator,
			cel.Overload(name+"_decimal", []*cel.Type{d, d}, d), cel.Overload(name+"_decimal_int", []*cel.Type{d, cel.IntType}, d)))
	}
	for name, operator := range map[string]string{
		"less": operators.Less, "less_equals": operators.LessEquals, "greater": operators.Greater, "greater_equals": operators.GreaterEquals,
	} {
		options = append(options, cel.Function(operator,
			cel.Overload(name+"_decimal", []*cel.Type{d, d}, cel.BoolType), cel.Overload(name+"_decimal_int", []*cel.Type{d, cel.IntType}, cel.BoolType)))
	}
	return append(options, cel.Function(operators.Negate, cel.Overload("negate_decimal", []*cel.Type{d}, d)))
}

// toDecimal takes an int, a decimal or a decimal string, and never a float.
func toDecimal(v ref.Val) (money.Decimal, error) {
	switch v := v.(type) {
	case types.Int:
		return money.FromInt(int64(v)), nil
	case types.Uint:
		if uint64(v) <= math.MaxInt64 {
			return money.FromInt(int64(v)), nil
		}
		return money.ParseDecimal(fmt.Sprint(uint64(v)))
	case types.String:
		d, err := money.ParseDecimal(string(v))
		if err != nil {
			return money.Decimal{}, fmt.Errorf("not a decimal number: %w", err)
		}
		return d, nil
	case decimal:
		return v.Decimal, nil
	case types.Double:
		return money.Decimal{}, errors.New(`the result is a float, which is not exact; write decimal("0.1")`)
	}
	return money.Decimal{}, fmt.Errorf("the result is %s, not an int, a decimal or a decimal string", v.Type().TypeName())
}

// operand is the other side of an operator.
func operand(v ref.Val) (money.Decimal, bool) {
	switch v := v.(type) {
	case decimal:
		return v.Decimal, true
	case types.Int:
		return money.FromInt(int64(v)), true
	}
	return money.Decimal{}, false
}

func (d decimal) operate(other ref.Val, by func(money.Decimal, money.Decimal) (money.Decimal, error)) ref.Val {
	o, ok := operand(other)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	out, err := by(d.Decimal, o)
	if err != nil {
		return types.WrapErr(err)
	}
	return decimal{out}
}

// Add, Subtract, Multiply, Negate, Compare and Equal are CEL's operators.
func (d decimal) Add(other ref.Val) ref.Val { return d.operate(other, money.Decimal.Add) }

func (d decimal) Subtract(other ref.Val) ref.Val { return d.operate(other, money.Decimal.Sub) }

func (d decimal) Multiply(other ref.Val) ref.Val { return d.operate(other, money.Decimal.Mul) }

func (d decimal) Negate() ref.Val { return decimal{d.Neg()} }

func (d decimal) Compare(other ref.Val) ref.Val {
	o, ok := operand(other)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	return types.Int(d.Cmp(o))
}

func (d decimal) Equal(other ref.Val) ref.Val {
	o, ok := operand(other)
	return types.Bool(ok && d.Cmp(o) == 0)
}

// Type, Value, ConvertToNative and ConvertToType make it a CEL value.
func (d decimal) Type() ref.Type { return decimalType() }

func (d decimal) Value() any { return d.Decimal }

func (d decimal) ConvertToNative(to reflect.Type) (any, error) {
	return nil, fmt.Errorf("a decimal cannot become %v", to)
}

func (d decimal) ConvertToType(to ref.Type) ref.Val {
	switch to.TypeName() {
	case decimalName:
		return d
	case types.StringType.TypeName():
		return types.String(d.String())
	case types.TypeType.TypeName():
		return decimalType()
	}
	return types.NewErr("a decimal cannot become %s", to.TypeName())
}
