package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// Parsed is a record whose parts still point into its encoding; its slices are reused from one record to the next.
type Parsed struct {
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

// Parse splits a body into its fields. Only what has exactly one encoding is accepted.
func (p *Parsed) Parse(body []byte) error {
	*p = Parsed{resolutions: p.resolutions[:0], totals: p.totals[:0]}
	if len(body) < BodyMin {
		return fmt.Errorf("%w: too short", ErrMalformed)
	}
	p.kind, p.position = Kind(body[0]), binary.LittleEndian.Uint64(body[1:])
	if p.kind == 0 {
		return fmt.Errorf("%w: no kind", ErrMalformed)
	}
	r := reader{b: body[9:]}
	p.parseHead(&r)
	p.parsePayload(&r)
	if d := p.buf[headDigest]; d != nil && (len(d) != 16 || [16]byte(d) == [16]byte{}) {
		r.fail("bad digest")
	}
	if p.num[headFlags] > math.MaxUint16 || p.num[headOrigin] > math.MaxUint8 || p.num[headNode] > math.MaxUint16 ||
		p.num[headEpoch] > math.MaxUint32 {
		r.fail("a number is too large for its field")
	}
	return r.err
}

// Kind is never 0.
func (p *Parsed) Kind() Kind { return p.kind }

// Position numbers the records of a journal from 1 without a gap.
func (p *Parsed) Position() uint64 { return p.position }

// Flags of an event or a mark.
func (p *Parsed) Flags() store.Flags { return store.Flags(p.num[headFlags]) }

// Time of an event or a cut, UTC microseconds since 1970.
func (p *Parsed) Time() int64 { return unzigzag(p.num[headTime]) }

// Origin of an event; 0 when it is none that exists.
func (p *Parsed) Origin() meter.Origin {
	if o := p.num[headOrigin]; o <= uint64(meter.Reported) {
		return meter.Origin(o)
	}
	return 0
}

// Identity of an event, or of the event that a mark is for.
func (p *Parsed) Identity() [16]byte {
	return meter.IdentityOf(string(p.buf[headSource]), string(p.buf[headID]))
}

// Digest of an event; zero when there is none.
func (p *Parsed) Digest() (d [16]byte) {
	copy(d[:], p.buf[headDigest])
	return d
}

// Node and epoch of a gateway batch.
func (p *Parsed) Node() (node uint16, epoch uint32) {
	return uint16(p.num[headNode]), uint32(p.num[headEpoch])
}

// Customer of a cut.
func (p *Parsed) Customer() string { return string(p.buf[headCustomer]) }

// Resolutions appends an event's resolutions, without their dimensions, to dst.
func (p *Parsed) Resolutions(dst []meter.Resolution, in *Interner) ([]meter.Resolution, error) {
	for _, b := range p.resolutions {
		r, err := decodeResolution(b, in, false)
		if err != nil {
			return dst, err
		}
		dst = append(dst, r)
	}
	return dst, nil
}

// Totals appends a batch's admitted totals to dst.
func (p *Parsed) Totals(dst []store.AdmittedTotal, in *Interner) ([]store.AdmittedTotal, error) {
	for _, b := range p.totals {
		t, err := decodeTotal(b, in)
		if err != nil {
			return dst, err
		}
		dst = append(dst, t)
	}
	return dst, nil
}

func (p *Parsed) parseHead(r *reader) {
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

func (p *Parsed) parsePayload(r *reader) {
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

// Decode reads a record's body; everything in the result is a copy. What decodes encodes to the same bytes again.
func Decode(body []byte) (Record, error) {
	var p Parsed
	if err := p.Parse(body); err != nil {
		return Record{}, err
	}
	return p.Record(&Interner{})
}

// Record copies the fields out.
func (p *Parsed) Record(in *Interner) (Record, error) {
	r := Record{
		Kind: p.kind, Position: p.position,
		Flags:      store.Flags(p.num[headFlags]),
		ReceivedAt: microTime(p.num[headReceived]),
		Event: meter.Event{
			Source: string(p.buf[headSource]), ID: string(p.buf[headID]), Type: string(p.buf[headType]),
			Time: microTime(p.num[headTime]), Subject: string(p.payload[payloadSubject]),
			Data: clone(p.payload[payloadData]), TraceParent: string(p.payload[payloadTrace]),
		},
		Origin: meter.Origin(p.num[headOrigin]), Digest: p.Digest(), Receipt: clone(p.payload[payloadReceipt]), KeyID: string(p.payload[payloadKey]),
		Producer: string(p.buf[headProducer]), Node: uint16(p.num[headNode]), Epoch: uint32(p.num[headEpoch]),
		First: p.num[headFirst], Last: p.num[headLast], CustomerID: string(p.buf[headCustomer]),
		Signature: clone(p.buf[headSignature]), SignerKey: string(p.buf[headSigner]),
		Commitment: clone(p.buf[headCommitment]), Erased: p.num[headErased], Salt: clone(p.payload[payloadSalt]),
		HeadExt: clone(p.headExt), PayloadExt: clone(p.payloadExt),
	}
	for _, b := range p.resolutions {
		res, err := decodeResolution(b, in, true)
		if err != nil {
			return Record{}, err
		}
		r.Resolutions = append(r.Resolutions, res)
	}
	var err error
	if r.Totals, err = p.Totals(nil, in); err != nil {
		return Record{}, err
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
func decodeResolution(b []byte, in *Interner, dimensions bool) (meter.Resolution, error) {
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

func decodeTotal(b []byte, in *Interner) (store.AdmittedTotal, error) {
	v := reader{b: b}
	t := store.AdmittedTotal{CustomerID: in.text(v.sized()), Meter: in.text(v.sized()), PeriodStart: unzigzag(v.uint()), Total: in.decimal(&v)}
	return t, v.end()
}

// Interner shares texts and values that come again and again in a log. The zero value shares nothing. Not safe for
// concurrent use.
type Interner struct {
	texts    map[string]string
	decimals map[string]money.Decimal
}

const internMax = 1 << 16

// NewInterner makes one that shares a bounded number of texts and values.
func NewInterner() *Interner {
	return &Interner{texts: map[string]string{}, decimals: map[string]money.Decimal{}}
}

func (in *Interner) text(b []byte) string {
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
func (in *Interner) decimal(v *reader) money.Decimal {
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
