package envoy

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of both services are read and written here, field by field: a check names few of Envoy's attributes, and most
// of the cost of a small call was in building the rest. Numbers are those of envoy.service.ratelimit.v3 and
// envoy.service.auth.v3; a test compares both directions with the official types.

// reader is a message that reads itself.
type reader interface{ read(b []byte) error }

// reply is an encoded answer.
type reply struct{ b []byte }

// codec passes our messages on and leaves those of other services, such as the health check, to protobuf.
type codec struct{ other encoding.CodecV2 }

func (c codec) Name() string { return c.other.Name() }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*reply); ok {
		return mem.BufferSlice{mem.SliceBuffer(r.b)}, nil
	}
	return c.other.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(reader)
	if !ok {
		return c.other.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return r.read(buf.ReadOnlyData())
}

var errWire = errors.New("not a protobuf message")

// field is one of a message: text of those with a length, value of varints.
type field struct {
	number int // negative of varints; 0 of a field that is read nowhere here
	text   []byte
	value  uint64
}

// next takes one field off the message. The rest is empty at the end.
func next(b []byte) (f field, rest []byte, err error) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, errWire
	}
	b = b[n:]
	switch kind {
	case protowire.BytesType:
		f.number = int(number)
		f.text, n = protowire.ConsumeBytes(b)
	case protowire.VarintType:
		f.number = -int(number)
		f.value, n = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type, protowire.Fixed64Type, protowire.StartGroupType, protowire.EndGroupType:
		n = protowire.ConsumeFieldValue(number, kind, b)
	default:
		return f, nil, errWire
	}
	if n < 0 {
		return f, nil, errWire
	}
	return f, b[n:], nil
}

// pair reads a message of two texts: an entry of a map, a header, a descriptor's entry. third is a header's raw value.
func pair(b []byte) (key, value, third []byte, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return nil, nil, nil, err
		}
		switch f.number {
		case 1:
			key = f.text
		case 2:
			value = f.text
		case 3:
			third = f.text
		}
	}
	return key, value, third, nil
}

// descriptorsMax and entriesMax bound one call to the rate limit service.
const (
	descriptorsMax = 16
	entriesMax     = 16
)

// call is a RateLimitRequest.
type call struct {
	domain      string
	descriptors []descriptor
	hits        uint64
	fault       string // what is malformed; the first thing
	room        [1]descriptor
}

func (c *call) read(b []byte) error {
	c.descriptors = c.room[:0]
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		b = rest
		switch f.number {
		case 1:
			c.domain = string(f.text)
		case 2:
			if len(c.descriptors) == descriptorsMax {
				c.malformed(fmt.Sprintf("descriptors: more than %d", descriptorsMax))
				continue
			}
			c.descriptors = append(c.descriptors, descriptor{})
			if err := c.descriptor(len(c.descriptors)-1, f.text); err != nil {
				return err
			}
		case -3:
			c.hits = uint64(uint32(f.value)) // as protobuf takes a uint32
		}
	}
	return nil
}

func (c *call) malformed(fault string) {
	if c.fault == "" {
		c.fault = fault
	}
}

func (c *call) descriptor(i int, b []byte) error {
	d := &c.descriptors[i]
	for n := 0; len(b) > 0; {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		b = rest
		switch f.number {
		case 1:
			key, value, _, err := pair(f.text)
			if err != nil {
				return err
			}
			if n == entriesMax {
				c.malformed(fmt.Sprintf("descriptors[%d].entries: more than %d", i, entriesMax))
				continue
			}
			if fault := d.set(key, value); fault != "" {
				c.malformed(fmt.Sprintf("descriptors[%d].entries[%d] %q: %s", i, n, key, fault))
			}
			n++
		case 3: // UInt64Value
			d.counted = true
			for v := f.text; len(v) > 0; {
				var x field
				if x, v, err = next(v); err != nil {
					return err
				}
				if x.number == -1 {
					d.hits = x.value
				}
			}
		case -4:
			d.negative = f.value != 0
		}
	}
	return nil
}

// check is what is read of a CheckRequest.
type check struct {
	method, path, host string
	headers            []header
	held               bool // the route's context extensions say that the end is told later
	room               [24]header
	text               []byte // of all headers, one after the other
}

// header is a place in the text of a check: names are in lower case.
type header struct{ name, value []byte }

// headersMax bounds what is looked at; Envoy itself takes 100 by default.
const headersMax = 1000

func (c *check) read(b []byte) error {
	c.text = append(make([]byte, 0, len(b)), b...) // the buffer is not ours after this call
	c.headers = c.room[:0]
	return c.each(c.text, func(f field) error {
		if f.number != 1 {
			return nil
		}
		return c.each(f.text, c.attribute)
	})
}

func (c *check) each(b []byte, do func(field) error) error {
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		if err := do(f); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func (c *check) attribute(f field) error {
	switch f.number {
	case 4: // request
		return c.each(f.text, func(f field) error {
			if f.number != 2 {
				return nil
			}
			return c.each(f.text, c.http)
		})
	case 10: // context_extensions
		key, value, _, err := pair(f.text)
		if string(key) == settleEntry {
			c.held = string(value) == settleLater
		}
		return err
	}
	return nil
}

func (c *check) http(f field) error {
	switch f.number {
	case 2:
		c.method = string(f.text)
	case 3:
		return c.header(f.text)
	case 4:
		c.path = string(f.text)
	case 5:
		c.host = string(f.text)
	case 13: // header_map, in place of headers where Envoy sends them raw
		return c.each(f.text, func(f field) error {
			if f.number != 1 {
				return nil
			}
			return c.header(f.text)
		})
	}
	return nil
}

var errHeaders = errors.New("too many headers")

func (c *check) header(b []byte) error {
	name, value, raw, err := pair(b)
	if err != nil {
		return err
	}
	if len(c.headers) == headersMax {
		return errHeaders
	}
	if len(raw) > 0 {
		value = raw
	}
	c.headers = append(c.headers, header{name, value})
	return nil
}

// get is the value of a header by its name in any case; empty without it.
func (c *check) get(name string) string {
	for i := range c.headers {
		if sameName(c.headers[i].name, name) {
			return string(c.headers[i].value)
		}
	}
	return ""
}

// sameName compares a header's name; both cases of letters are the same, _ and - are not.
func sameName(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
