package file

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// parsed is a record whose parts still point into its encoding; its slices are reused from one record to the next.
type parsed struct {
	kind                Kind
	position            uint64
	num                 [headKnown + 1]uint64 // number fields by tag
	buf                 [headKnown + 1][]byte // bytes fields by tag, without the repeated ones
	resolutions, totals [][]byte
	payload             [payloadKnown + 1][]byte
	headExt, payloadExt []byte
}

func isNumber(tag uint64) bool {
	switch tag {
	case headFlags, headOrigin, headReceived, headTime, headNode, headEpoch, headFirst, headLast, headErased:
		return true
	default:
		return false
	}
}

// parse splits a body into its fields. Only what has exactly one encoding is accepted.
func (p *parsed) parse(body []byte) error {
	*p = parsed{resolutions: p.resolutions[:0], totals: p.totals[:0]}
	if len(body) < bodyMin {
		return fmt.Errorf("%w: too short", errWire)
	}
	p.kind, p.position = Kind(body[0]), binary.LittleEndian.Uint64(body[1:])
	if p.kind == 0 {
		return fmt.Errorf("%w: no kind", errWire)
	}
	r := reader{b: body[9:]}
	p.parseHead(&r)
	p.parsePayload(&r)
	return r.err
}

func (p *parsed) parseHead(r *reader) {
	var last uint64
	for {
		if r.err == nil && len(r.b) == 0 {
			r.fail("the head has no end")
		}
		if r.err != nil {
			return
		}
		if r.b[0] == headEnd {
			p.headExt = p.headExt[:max(0, len(p.headExt)-len(r.b))]
			r.b = r.b[1:]
			return
		}
		before := r.b
		f := r.next(last, last == headResolution || last == headTotal || last > headKnown)
		last = f.tag
		switch {
		case r.err != nil:
		case f.tag > headKnown:
			if p.headExt == nil {
				p.headExt = before // cut to its end above
			}
		case isNumber(f.tag) != (f.buf == nil):
			r.fail("a field has the wrong type")
		case f.tag == headResolution:
			p.resolutions = append(p.resolutions, f.buf)
		case f.tag == headTotal:
			p.totals = append(p.totals, f.buf)
		case isNumber(f.tag):
			p.num[f.tag] = f.num
		default:
			p.buf[f.tag] = f.buf
		}
	}
}

func (p *parsed) parsePayload(r *reader) {
	var last uint64
	for r.err == nil && len(r.b) > 0 {
		before := r.b
		f := r.next(last, last > payloadKnown)
		last = f.tag
		switch {
		case r.err != nil:
		case f.tag > payloadKnown:
			if p.payloadExt == nil {
				p.payloadExt = before
			}
		case f.buf == nil:
			r.fail("a field has the wrong type")
		default:
			p.payload[f.tag] = f.buf
		}
	}
}

// decode reads a record's body; everything in the result is a copy. What decodes encodes to the same bytes again.
func decode(body []byte) (Record, error) {
	var p parsed
	if err := p.parse(body); err != nil {
		return Record{}, err
	}
	return p.record(&interner{})
}

// record copies the fields out.
func (p *parsed) record(in *interner) (Record, error) {
	r := Record{
		Kind: p.kind, Position: p.position,
		Flags:      store.Flags(p.num[headFlags]),
		ReceivedAt: microTime(p.num[headReceived]),
		Event: meter.Event{
			Source: string(p.buf[headSource]), ID: string(p.buf[headID]), Type: string(p.buf[headType]),
			Time: microTime(p.num[headTime]), Subject: string(p.payload[payloadSubject]),
			Data: clone(p.payload[payloadData]), TraceParent: string(p.payload[payloadTrace]),
		},
		Origin: meter.Origin(p.num[headOrigin]), Receipt: clone(p.payload[payloadReceipt]), KeyID: string(p.payload[payloadKey]),
		Producer: string(p.buf[headProducer]), Node: uint16(p.num[headNode]), Epoch: uint32(p.num[headEpoch]),
		First: p.num[headFirst], Last: p.num[headLast], CustomerID: string(p.buf[headCustomer]),
		Signature: clone(p.buf[headSignature]), SignerKey: string(p.buf[headSigner]),
		Commitment: clone(p.buf[headCommitment]), Erased: p.num[headErased], Salt: clone(p.payload[payloadSalt]),
		HeadExt: clone(p.headExt), PayloadExt: clone(p.payloadExt),
	}
	if p.num[headFlags] > math.MaxUint16 || p.num[headOrigin] > math.MaxUint8 || p.num[headNode] > math.MaxUint16 ||
		p.num[headEpoch] > math.MaxUint32 {
		return Record{}, fmt.Errorf("%w: a number is too large for its field", errWire)
	}
	if d := p.buf[headDigest]; d != nil {
		if len(d) != len(r.Digest) || [16]byte(d) == [16]byte{} {
			return Record{}, fmt.Errorf("%w: bad digest", errWire)
		}
		r.Digest = [16]byte(d)
	}
	for _, b := range p.resolutions {
		res, err := decodeResolution(b, in, true)
		if err != nil {
			return Record{}, err
		}
		r.Resolutions = append(r.Resolutions, res)
	}
	for _, b := range p.totals {
		t, err := decodeTotal(b, in)
		if err != nil {
			return Record{}, err
		}
		r.Totals = append(r.Totals, t)
	}
	if b := p.buf[headReference]; b != nil {
		v := reader{b: b}
		r.Reference = &Reference{Target: v.uint(), Reason: string(v.sized()), Actor: string(v.sized())}
		if err := v.end(); err != nil {
			return Record{}, err
		}
	}
	return r, nil
}

func microTime(v uint64) time.Time { return time.UnixMicro(unzigzag(v)).UTC() }

func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}

// end says whether all was read without a fault.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes are left over")
	}
	return r.err
}

// decodeResolution reads one resolution; dimensions only on demand, since rollups do not need them.
func decodeResolution(b []byte, in *interner, dimensions bool) (meter.Resolution, error) {
	v := reader{b: b}
	res := meter.Resolution{
		CustomerID: in.text(v.sized()), Meter: in.text(v.sized()), CatalogVersion: unzigzag(v.uint()), Value: in.decimal(&v),
	}
	if !dimensions {
		return res, v.err
	}
	n := v.uint()
	if n > uint64(len(v.b)) {
		v.fail("too many dimensions")
		n = 0
	}
	for range n {
		res.Dimensions = append(res.Dimensions, meter.Dimension{Name: string(v.sized()), Value: string(v.sized())})
	}
	return res, v.end()
}

func decodeTotal(b []byte, in *interner) (store.AdmittedTotal, error) {
	v := reader{b: b}
	t := store.AdmittedTotal{CustomerID: in.text(v.sized()), Meter: in.text(v.sized()), PeriodStart: unzigzag(v.uint()), Total: in.decimal(&v)}
	return t, v.end()
}

// interner shares texts and values that come again and again in a log. Not safe for concurrent use.
type interner struct {
	texts    map[string]string
	decimals map[string]money.Decimal
}

const internMax = 1 << 16

func (in *interner) text(b []byte) string {
	if s, ok := in.texts[string(b)]; ok {
		return s
	}
	s := string(b)
	if in.texts != nil {
		if len(in.texts) >= internMax {
			clear(in.texts)
		}
		in.texts[s] = s
	}
	return s
}

// decimal reads a decimal as text in its only spelling.
func (in *interner) decimal(v *reader) money.Decimal {
	b := v.sized()
	if d, ok := in.decimals[string(b)]; ok || v.err != nil {
		return d
	}
	s := string(b)
	d, err := money.ParseDecimal(s)
	if err != nil || d.String() != s {
		v.fail("not a plain decimal: " + s)
		return money.Decimal{}
	}
	if in.decimals != nil {
		if len(in.decimals) >= internMax {
			clear(in.decimals)
		}
		in.decimals[s] = d
	}
	return d
}
