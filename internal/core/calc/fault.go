package calc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/core/money"
)

// The codes of a Fault.
const (
	CodeSyntax   = "calc_syntax"    // the request is not one JSON object
	CodeTooLarge = "calc_too_large" // it is longer than LineMax
	CodeInvalid  = "calc_invalid"   // what stands at Pointer is missing, unknown, of the wrong type or makes no sense
	CodeOverflow = "calc_overflow"  // the result has more digits than are kept
)

// Fault is why a request has no answer.
type Fault struct {
	Code    string `json:"code"`
	Detail  string `json:"detail"`
	Pointer string `json:"pointer"` // RFC 6901; empty: the request as a whole
}

// faulty is the fault of an error of the packages below.
func faulty(err error) *Fault {
	if errors.Is(err, money.ErrOverflow) {
		return &Fault{Code: CodeOverflow, Detail: "the result, or a step to it, has more digits than are kept"}
	}
	return &Fault{Code: CodeInvalid, Detail: err.Error()}
}

// place is where a value stands in a request. nil is the request itself.
type place struct {
	up     *place
	name   string // of a member, unless listed
	index  int    // of an item
	listed bool
}

func (p *place) fault(format string, args ...any) *Fault {
	return &Fault{Code: CodeInvalid, Detail: fmt.Sprintf(format, args...), Pointer: p.pointer()}
}

func (p *place) pointer() string {
	if p == nil {
		return ""
	}
	if p.listed {
		return p.up.pointer() + "/" + strconv.Itoa(p.index)
	}
	return p.up.pointer() + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(p.name)
}
