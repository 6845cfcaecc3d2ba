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

// Exchange is a request and its answer, as an expression sees them.
type Exchange struct {
	Method, Path                    string
	RequestHeaders, ResponseHeaders map[string]string // names in lower case; several values of one name with ", " between
	RequestBytes, ResponseBytes     int64             // of the bodies, as far as they went
	Status                          int
	JSON                            []byte // the answer's body where it is JSON of at most 1 MiB, else nil
}

// Expression computes a cost.
type Expression func(*Exchange) (money.Decimal, error)

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
	x       Exchange
	headers http.Header
	find    finder
	keep    bool // the body is kept
	kept    []byte
	failure error
}

// Begin starts with a request and its answer's status and headers, which are only read.
func (s *Source) Begin(method, path string, request http.Header, status int, headers http.Header) *Reading {
	r := &Reading{source: s, headers: headers, x: Exchange{Method: method, Path: path, Status: status}}
	switch s.kind { //nolint:exhaustive // the others look at no body
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
		r.x.RequestHeaders, r.x.ResponseHeaders = flat(request), flat(headers)
	}
	return r
}

// flat is one value for each name in lower case.
func flat(h http.Header) map[string]string {
	out := make(map[string]string, len(h))
	for name, values := range h {
		out[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	return out
}

func (s *Source) finder(h http.Header) finder {
	if kind, _, _ := mime.ParseMediaType(strings.Join(h["Content-Type"], ",")); kind == "text/event-stream" {
		return newEvents(s.path)
	}
	return newScanner(s.path)
}

// Write takes the next bytes of the answer's body, as they go to the client.
func (r *Reading) Write(p []byte) {
	r.x.ResponseBytes += int64(len(p))
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
	r.x.RequestBytes = sent
	switch r.source.kind {
	case catalog.FromRequestBytes:
		return money.FromInt(sent), nil
	case catalog.FromResponseBytes:
		return money.FromInt(r.x.ResponseBytes), nil
	case catalog.FromBytes:
		return money.FromInt(sent + r.x.ResponseBytes), nil
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
	switch v := r.headers[r.source.name]; len(v) {
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
		find = r.source.finder(r.headers)
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

// body is the whole body, unpacked; nil where it is too large or packed in an unknown way.
func (r *Reading) body() []byte {
	switch strings.ToLower(strings.TrimSpace(strings.Join(r.headers["Content-Encoding"], ","))) {
	case "", "identity":
		return r.kept
	case "gzip", "x-gzip":
		zr, err := gzip.NewReader(bytes.NewReader(r.kept))
		if err != nil {
			return nil
		}
		if b, err := io.ReadAll(io.LimitReader(zr, keptMax+1)); err == nil && len(b) <= keptMax {
			return b
		}
	}
	return nil
}

func (r *Reading) expression() (money.Decimal, error) {
	if body := r.body(); json.Valid(body) {
		r.x.JSON = body
	}
	d, err := r.source.expr(&r.x)
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
