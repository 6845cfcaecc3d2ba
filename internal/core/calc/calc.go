// Package calc answers single questions about money and usage, a JSON object each, with the code that bills: rate, prorate, tax,
// allocate, burn, aggregate. It knows no catalog and no customer.
package calc

import (
	"bytes"
	"encoding/json"
)

// Bounds of a request.
const (
	LineMax = 1 << 20 // bytes
	idMax   = 256     // bytes of an id as it is written
)

// op calculates. The answer is encoded as a JSON object.
type op func(in *object) (answer any, fault *Fault)

// operation finds the op of a name; nil: there is none.
func operation(name string) op {
	switch name {
	case "rate":
		return rate
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
	id, answer, fault := answered(request)
	if fault == nil {
		return identified(id, answer)
	}
	return identified(id, struct {
		Error *Fault `json:"error"`
	}{fault})
}

// Calculate is Answer with the fault apart.
func Calculate(request []byte) ([]byte, *Fault) {
	id, answer, fault := answered(request)
	if fault != nil {
		return nil, fault
	}
	return identified(id, answer), nil
}

// answered is the id as JSON, and what there is to say beside it.
func answered(request []byte) (id string, answer any, fault *Fault) {
	const none = "null"
	if len(request) > LineMax {
		return none, nil, &Fault{Code: CodeTooLarge, Detail: "the request is longer than 1 MiB"}
	}
	v, duplicate, fault := parse(string(request))
	if fault == nil && v.kind != table {
		fault = &Fault{Code: CodeSyntax, Detail: "expected an object, not " + v.kind.String()}
	}
	if fault != nil {
		return none, nil, fault
	}
	in := &object{members: v.members, first: &duplicate}
	id = in.id(none)
	do := operation(in.text("op"))
	if do == nil {
		in.fail("op", "expected one of rate, prorate, tax, allocate, burn, aggregate")
	}
	if *in.first != nil {
		return id, nil, *in.first
	}
	answer, fault = do(in)
	return id, answer, fault
}

// encoded is an answer that is JSON already.
type encoded []byte

// identified puts the id in front of an answer, on one line. Answers are encoded, or structs of texts, which always encode.
func identified(id string, answer any) []byte {
	if done, ok := answer.(encoded); ok {
		line := make([]byte, 0, len(`{"id":,`)+len(id)+len(done))
		line = append(append(line, `{"id":`...), id...)
		return append(append(line, ','), done[1:]...)
	}
	var b bytes.Buffer
	b.WriteString(`{"id":`)
	b.WriteString(id)
	begin := b.Len()
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(answer); err != nil {
		panic("calc: an answer that is no JSON: " + err.Error())
	}
	line := b.Bytes()[:b.Len()-1]
	line[begin] = ','
	return line
}

// id is the request's id as it is written: a string or a number.
func (o *object) id(none string) string {
	m := find(o.members, "id")
	if m == nil {
		return none
	}
	m.read = true
	switch {
	case m.kind == null:
		return none
	case m.kind != text && m.kind != number:
		o.fail("id", "expected a string or a number, not %s", m.kind)
		return none
	case len(m.raw) > idMax:
		o.fail("id", "longer than %d bytes", idMax)
		return none
	}
	return m.raw
}
