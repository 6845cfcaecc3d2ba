// Package calc answers single questions about money and usage, a JSON object each, with the code that bills: rate, prorate, tax,
// allocate, burn, aggregate. It knows no catalog and no customer.
package calc

import (
	"encoding/json"
	"strings"
)

// Bounds of a request.
const (
	LineMax = 1 << 20 // bytes
	idMax   = 256     // bytes of an id as it is written
)

// op calculates. The answer is encoded as a JSON object.
type op func(in *object) (answer any, fault *Fault)

// operation finds the op of a name; nil: there is none.
func operation(name string, request []byte) op {
	switch name {
	case "rate":
		return func(*object) (any, *Fault) { return rate(request) }
	case "prorate":
		return prorate
	case "tax":
		return taxes
	case "allocate":
		return allocate
	case "burn":
		return burn
	case "aggregate":
		return aggregate
	}
	return nil
}

// Answer answers one request, a JSON object of at most LineMax bytes, with one JSON object on one line, without the line's end.
// The answer has the request's id first, null where there is none that can be read, and a member "error" of a Fault where there is
// a fault. The same request has the same answer, byte for byte.
func Answer(request []byte) []byte {
	id, answer, fault := Calculate(request)
	if fault != nil {
		answer = encode(struct {
			Error *Fault `json:"error"`
		}{fault})
	}
	line := append(make([]byte, 0, len(answer)+len(id)+8), `{"id":`...)
	line = append(line, id...)
	if len(answer) > len(`{}`) {
		line = append(line, ',')
	}
	return append(line, answer[1:]...)
}

// Calculate is Answer in its parts: the id as JSON, and the answer without it, or a fault.
func Calculate(request []byte) (id string, answer []byte, fault *Fault) {
	const none = "null"
	if len(request) > LineMax {
		return none, nil, &Fault{Code: CodeTooLarge, Detail: "the request is longer than 1 MiB"}
	}
	line := string(request)
	v, fault, syntax := parse(line)
	if syntax == nil && v.kind != table {
		syntax = &Fault{Code: CodeSyntax, Detail: "expected an object, not " + v.kind.String()}
	}
	if syntax != nil {
		return none, nil, syntax
	}
	in := &object{members: v.members, first: &fault}
	id = in.id(none)
	do := operation(in.text("op"), request)
	if do == nil {
		in.fail("op", "expected one of rate, prorate, tax, allocate, burn, aggregate")
	}
	if fault != nil {
		return id, nil, fault
	}
	result, fault := do(in)
	if fault != nil {
		return id, nil, fault
	}
	return id, encode(result), nil
}

// id is the request's id as it is written: a string or a number.
func (o *object) id(none string) string {
	m := find(o.members, "id")
	if m == nil {
		return none
	}
	m.read = true
	switch {
	case m.value.kind == null:
		return none
	case m.value.kind != text && m.value.kind != number:
		o.fail("id", "expected a string or a number, not %s", m.value.kind)
		return none
	case len(m.value.raw) > idMax:
		o.fail("id", "longer than %d bytes", idMax)
		return none
	}
	return m.value.raw
}

// encode is JSON on one line. Answers are plain structs of texts, which cannot fail.
func encode(answer any) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(answer); err != nil {
		panic("calc: an answer that is no JSON: " + err.Error())
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}
