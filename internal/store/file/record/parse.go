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
	distincts           [][]byte
	payload             [payloadKnown + 1][]byte
	headExt, payloadExt []byte
	body                []byte
	headEnd             int  // where the head ends in body
	erased              span // where the fields that an erasure adds stand in body
}

type span struct{ from, to int }

func isNumber(tag uint64) bool {
	switch tag {
	case headFlags, headOrigin, headReceived, headTime, headNode, headEpoch, headFirst, headLast, headErased, headCommand:
		return true
	default:
		return false
	}
}

// Parse splits a body into its fields. Only what has exactly one encoding is accepted.
func (p *Parsed) Parse(body []byte) error {
	*p = Parsed{resolutions: p.resolutions[:0], totals: p.totals[:0], distincts: p.distincts[:0], body: body}
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

// Unit of an event: the backfill that it belongs to.
func (p *Parsed) Unit() string { return string(p.buf[headUnit]) }

// Target is the position of the record that this one refers to; 0: none.
func (p *Parsed) Target() uint64 {
	r := reader{b: p.buf[headReference]}
	if len(r.b) == 0 {
		return 0
	}
	return r.uint()
}

// Subject of the content; empty where there is none, or none any more.
func (p *Parsed) Subject() string { return string(p.payload[payloadSubject]) }

// Names are the source and id of an event.
func (p *Parsed) Names() (source, id string) { return string(p.buf[headSource]), string(p.buf[headID]) }

// Command is the number of the call in an ordered log outside; 0: none, or not the first record of its call.
func (p *Parsed) Command() uint64 { return p.num[headCommand] }

// Document of a seal; it points into the encoding.
func (p *Parsed) Document() []byte { return p.buf[headDocument] }

// Commitment to a payload that was erased; nil: it was not.
func (p *Parsed) Commitment() *[32]byte {
	c := p.buf[headCommitment]
	if p.num[headErased] == 0 || len(c) != 32 {
		return nil
	}
	return (*[32]byte)(c)
}

// Head is the record without its payload and without what an erasure adds to the head; it may point into the encoding.
func (p *Parsed) Head() []byte {
	if p.erased.to == 0 {
		return p.body[:p.headEnd]
	}
	head := append([]byte(nil), p.body[:p.erased.from]...)
	return append(head, p.body[p.erased.to:p.headEnd]...)
}

// Payload is the encoded payload fields; empty: none, or erased.
func (p *Parsed) Payload() []byte { return p.body[p.headEnd+1:] }

// Resolutions appends an event's resolutions to dst. Their dimensions are shared by in; do not write to them.
func (p *Parsed) Resolutions(dst []meter.Resolution, in *Interner) ([]meter.Resolution, error) {
	first := len(dst)
	for _, b := range p.resolutions {
		r, err := decodeResolution(b, in)
		if err != nil {
			return dst, err
		}
		dst = append(dst, r)
	}
	next := uint64(0)
	for _, b := range p.distincts {
		v := reader{b: b}
		i := v.uint()
		text := v.sized()
		if v.err == nil && (i < next || i >= uint64(len(dst)-first) || len(text) == 0) {
			v.fail("a distinct text without its resolution")
		}
		if err := v.end(); err != nil {
			return dst, err
		}
		dst[first+int(i)].Distinct = in.text(text)
		next = i + 1
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
			p.headEnd = len(p.body) - len(r.b)
			r.b = r.b[1:]
			return
		}
		before := r.b
		f := r.next(last, last == headResolution || last == headTotal || last == headDistinct || last > headKnown)
		last = f.tag
		if f.tag == headCommitment || f.tag == headErased {
			if p.erased.from == 0 {
				p.erased.from = len(p.body) - len(before)
			}
			p.erased.to = len(p.body) - len(r.b)
		}
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
		case f.tag == headDistinct:
			p.distincts = append(p.distincts, f.buf)
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
		Unit: p.Unit(), Document: clone(p.buf[headDocument]), Command: p.num[headCommand], Signature: clone(p.buf[headSignature]), SignerKey: string(p.buf[headSigner]),
		Commitment: clone(p.buf[headCommitment]), Erased: p.num[headErased], Salt: clone(p.payload[payloadSalt]),
		HeadExt: clone(p.headExt), PayloadExt: clone(p.payloadExt),
	}
	var err error
	if r.Resolutions, err = p.Resolutions(nil, in); err != nil {
		return Record{}, err
	}
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

func decodeResolution(b []byte, in *Interner) (meter.Resolution, error) {
	v := reader{b: b}
	res := meter.Resolution{
		CustomerID: in.text(v.sized()), Meter: in.text(v.sized()), CatalogVersion: unzigzag(v.uint()), Value: in.decimal(&v),
	}
	if v.err != nil {
		return res, v.err
	}
	var err error
	res.Dimensions, err = in.dimensionsOf(v.b)
	return res, err
}

// dimensionsOf reads the end of a resolution: a number of names and values.
func (in *Interner) dimensionsOf(b []byte) ([]meter.Dimension, error) {
	if len(b) == 1 && b[0] == 0 {
		return nil, nil
	}
	if all, ok := in.dimensions[string(b)]; ok {
		return all, nil
	}
	v := reader{b: b}
	n := v.uint()
	if n > uint64(len(v.b)) {
		v.fail("too many dimensions")
		n = 0
	}
	var all []meter.Dimension
	for range n {
		all = append(all, meter.Dimension{Name: string(v.sized()), Value: string(v.sized())})
	}
	if err := v.end(); err != nil {
		return nil, err
	}
	if in.dimensions != nil {
		if len(in.dimensions) >= internMax {
			clear(in.dimensions)
		}
		in.dimensions[string(b)] = all
	}
	return all, nil
}

func decodeTotal(b []byte, in *Interner) (store.AdmittedTotal, error) {
	v := reader{b: b}
	t := store.AdmittedTotal{CustomerID: in.text(v.sized()), Meter: in.text(v.sized()), PeriodStart: unzigzag(v.uint()), Total: in.decimal(&v)}
	return t, v.end()
}

// Interner shares texts and values that come again and again in a log. The zero value shares nothing. Not safe for
// concurrent use.
type Interner struct {
	texts      map[string]string
	decimals   map[string]money.Decimal
	dimensions map[string][]meter.Dimension
}

const internMax = 1 << 16

// NewInterner makes one that shares a bounded number of texts and values.
func NewInterner() *Interner {
	return &Interner{texts: map[string]string{}, decimals: map[string]money.Decimal{}, dimensions: map[string][]meter.Dimension{}}
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
