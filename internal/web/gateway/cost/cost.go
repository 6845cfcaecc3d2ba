// Package cost reads from an answer what its request did cost: bytes, a header, a member of the answer's JSON, an expression. It
// looks at the bytes as they pass and changes nothing; what it keeps is bounded.
package cost

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
)

const (
	keptMax    = 1 << 20  // bytes of an answer that are kept where it must be decoded, or read as a whole
	decodedMax = 16 << 20 // bytes of a decoded answer
)

// The reasons why no cost could be read. The estimate is charged then.
var (
	ErrAbsent    = errors.New("the answer does not tell its cost")
	ErrMalformed = errors.New("the answer's cost is no decimal of 0 or more")
	ErrTooLarge  = errors.New("the answer is too large to read its cost from")
	ErrEncoding  = errors.New("the answer's encoding is not known")
)

// Request is what an expression sees of a request.
type Request struct {
	Method, Path string
	Header       http.Header
	Bytes        int64 // of the body, as far as it was read
}

// Response is what an expression sees of an answer.
type Response struct {
	Status int
	Header http.Header
	Bytes  int64 // of the body, as the client got it
	JSON   any   // the body, numbers as json.Number; nil where it is no JSON or larger than 1 MiB
}

// Expression computes a cost.
type Expression func(Request, Response) (money.Decimal, error)

// Source is where a route's costs come from. It is safe for concurrent use.
type Source struct {
	kind catalog.CostSource
	name string
	path []string
	expr Expression
}

// Compile readies a route's source; nil for a fixed cost. expressions compiles CEL; may be nil where no route has one.
func Compile(r *catalog.Route, expressions func(string) (Expression, error)) (*Source, error) {
	s := &Source{kind: r.From}
	switch r.From {
	case 0:
		return nil, nil //nolint:nilnil // a fixed cost has no source
	case catalog.FromRequestBytes, catalog.FromResponseBytes, catalog.FromBytes:
	case catalog.FromHeader:
		s.name = http.CanonicalHeaderKey(r.Path)
	case catalog.FromJSON:
		s.path = strings.Split(r.Path, ".")
	case catalog.FromExpression:
		if expressions == nil {
			return nil, errors.New("expressions are not supported here")
		}
		e, err := expressions(r.Path)
		if err != nil {
			return nil, fmt.Errorf("cost expression: %w", err)
		}
		s.expr = e
	}
	return s, nil
}

// AtHead says that the cost is known when the answer's headers are there.
func (s *Source) AtHead() bool { return s.kind == catalog.FromHeader }

// finder looks for a member in bytes that pass.
type finder interface {
	write(p []byte)
	end(whole bool) (string, bool)
}

// Reading follows one answer. Not safe for concurrent use.
type Reading struct {
	source  *Source
	req     Request
	resp    Response
	find    finder
	keep    bool // the body is kept
	kept    []byte
	failure error
}

// Begin starts with an answer's status and headers. headers are only read.
func (s *Source) Begin(req Request, status int, headers http.Header) *Reading {
	r := &Reading{source: s, req: req, resp: Response{Status: status, Header: headers}}
	switch s.kind {
	case catalog.FromJSON:
		switch strings.ToLower(strings.TrimSpace(strings.Join(headers["Content-Encoding"], ","))) {
		case "", "identity":
			r.find = s.finder(headers)
		case "gzip", "x-gzip":
			r.keep = true
		default:
			r.failure = ErrEncoding
		}
	case catalog.FromExpression:
		r.keep = true
	}
	return r
}

func (s *Source) finder(h http.Header) finder {
	if kind, _, _ := mime.ParseMediaType(strings.Join(h["Content-Type"], ",")); kind == "text/event-stream" {
		return newEvents(s.path)
	}
	return newScanner(s.path)
}

// Write takes the next bytes of the answer's body, as they go to the client.
func (r *Reading) Write(p []byte) {
	r.resp.Bytes += int64(len(p))
	switch {
	case r.find != nil:
		r.find.write(p)
	case r.keep && len(r.kept)+len(p) > keptMax:
		r.keep, r.kept, r.failure = false, nil, ErrTooLarge
	case r.keep:
		r.kept = append(r.kept, p...)
	}
}

// End is the cost. sent is how many bytes of the request's body were read; whole says that the body came to its end. The errors
// are those of the package, and an expression's.
func (r *Reading) End(sent int64, whole bool) (money.Decimal, error) {
	r.req.Bytes = sent
	switch r.source.kind {
	case catalog.FromRequestBytes:
		return money.FromInt(sent), nil
	case catalog.FromResponseBytes:
		return money.FromInt(r.resp.Bytes), nil
	case catalog.FromBytes:
		return money.FromInt(sent + r.resp.Bytes), nil
	case catalog.FromHeader:
		return r.header()
	case catalog.FromJSON:
		return r.member(whole)
	case catalog.FromExpression:
		return r.expression()
	}
	return money.Decimal{}, ErrAbsent
}

func (r *Reading) header() (money.Decimal, error) {
	switch v := r.resp.Header[r.source.name]; len(v) {
	case 0:
		return money.Decimal{}, ErrAbsent
	case 1:
		return number(strings.Trim(v[0], " \t"))
	}
	return money.Decimal{}, ErrMalformed
}

func (r *Reading) member(whole bool) (money.Decimal, error) {
	if r.failure != nil {
		return money.Decimal{}, r.failure
	}
	find := r.find
	if r.keep {
		find = r.source.finder(r.resp.Header)
		n, err := decode(r.kept, find)
		if n > decodedMax {
			return money.Decimal{}, ErrTooLarge
		}
		whole = whole && err == nil
	}
	text, ok := find.end(whole)
	if !ok {
		return money.Decimal{}, ErrAbsent
	}
	return number(text)
}

// decode gives the finder what gzip packed, at most one byte more than decodedMax.
func decode(packed []byte, find finder) (int64, error) {
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return 0, err
	}
	return io.Copy(toFinder{find}, io.LimitReader(zr, decodedMax+1))
}

type toFinder struct{ finder }

func (f toFinder) Write(p []byte) (int, error) {
	f.write(p)
	return len(p), nil
}

func (r *Reading) expression() (money.Decimal, error) {
	if r.keep {
		d := json.NewDecoder(bytes.NewReader(r.kept))
		d.UseNumber()
		var v any
		if d.Decode(&v) == nil && !d.More() {
			r.resp.JSON = v
		}
	}
	d, err := r.source.expr(r.req, r.resp)
	if err != nil {
		return money.Decimal{}, err
	}
	if d.Sign() < 0 {
		return money.Decimal{}, ErrMalformed
	}
	return d, nil
}

// number reads a decimal of 0 or more, with or without an exponent.
func number(text string) (money.Decimal, error) {
	if len(text) > textMax {
		return money.Decimal{}, ErrMalformed
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		plain, ok := unfold(text[:i], text[i+1:])
		if !ok {
			return money.Decimal{}, ErrMalformed
		}
		text = plain
	}
	d, err := money.ParseDecimal(text)
	if err != nil || d.Sign() < 0 {
		return money.Decimal{}, ErrMalformed
	}
	return d, nil
}

// unfold writes a number with an exponent as plain digits.
func unfold(mantissa, exponent string) (string, bool) {
	const most = 40 // more passes every decimal
	by, sign := 0, 1
	switch {
	case strings.HasPrefix(exponent, "-"):
		sign, exponent = -1, exponent[1:]
	case strings.HasPrefix(exponent, "+"):
		exponent = exponent[1:]
	}
	for i := range len(exponent) {
		if !digit(exponent[i]) {
			return "", false
		}
		if by = by*10 + int(exponent[i]-'0'); by > most {
			return "", false
		}
	}
	whole, part, _ := strings.Cut(mantissa, ".")
	if exponent == "" || whole == "" {
		return "", false
	}
	digits, point := whole+part, len(whole)+sign*by
	if point <= 0 {
		digits, point = strings.Repeat("0", 1-point)+digits, 1
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	whole, part = strings.TrimLeft(digits[:point], "0"), strings.TrimRight(digits[point:], "0")
	if whole == "" {
		whole = "0"
	}
	if part == "" {
		return whole, true
	}
	return whole + "." + part, true
}
