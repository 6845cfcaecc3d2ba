package envoy

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// replyRoom is what one answer usually needs.
const replyRoom = 1024

func number(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func text(b []byte, field protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// open begins a message within one and leaves a byte for its length; shut fills it in. at is where the message starts.
func open(b []byte, field protowire.Number) (out []byte, at int) {
	b = append(protowire.AppendTag(b, field, protowire.BytesType), 0)
	return b, len(b)
}

func shut(b []byte, at int) []byte {
	n := len(b) - at
	more := protowire.SizeVarint(uint64(n)) - 1
	if more > 0 { // make room for a longer length
		for range more {
			b = append(b, 0)
		}
		copy(b[at+more:], b[at:at+n])
	}
	protowire.AppendVarint(b[:at-1], uint64(n))
	return b
}

// value is a HeaderValue.
func value(b []byte, field protowire.Number, name, v string) []byte {
	b, at := open(b, field)
	b = text(text(b, 1, name), 2, v)
	return shut(b, at)
}

// overwrite is HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD.
const overwrite = 2

// option is a HeaderValueOption that takes the place of a header of the name.
func option(b []byte, field protowire.Number, name, v string) []byte {
	b, at := open(b, field)
	b = value(b, 1, name, v)
	b = number(b, 3, overwrite)
	return shut(b, at)
}

// member is a text in a google.protobuf.Struct.
func member(b []byte, key, v string) []byte {
	if v == "" {
		return b
	}
	b, at := open(b, 1)
	b = text(b, 1, key)
	b, in := open(b, 2)
	b = text(b, 3, v)
	return shut(shut(b, in), at)
}
