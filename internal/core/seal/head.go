package seal

import (
	"encoding/binary"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Tags of a record's head and payload fields that a proof reads; docs/formats/journal.md lists all. Others are skipped.
const (
	tagFlags      = 1
	tagOrigin     = 2
	tagReceived   = 3
	tagTime       = 4
	tagSource     = 5
	tagID         = 6
	tagType       = 7
	tagDigest     = 8
	tagResolution = 9
	tagNode       = 11
	tagEpoch      = 12
	tagFirst      = 13
	tagLast       = 14
	tagTotal      = 15
	tagCustomer   = 16
	tagReference  = 17
	tagDistinct   = 22
	tagUnit       = 23
	tagDocument   = 24

	tagSubject = 1
	tagData    = 2
	tagTrace   = 3
	tagKey     = 5
)

// Kinds of records, as in Head.Kind.
const (
	KindEvent   = 1
	KindBatch   = 2
	KindCut     = 4
	KindAmend   = 5
	KindVoid    = 6
	KindSeal    = 8
	KindErasure = 9
	KindResolve = 10
)

// headStart is kind and position, which stand before the fields.
const headStart = 9

// Head is what a leaf discloses of its record.
type Head struct {
	Kind        uint8
	Position    uint64
	Flags       uint64
	Origin      meter.Origin
	ReceivedAt  time.Time
	Time        time.Time
	Source, ID  string
	Type        string
	Digest      []byte
	Resolutions []meter.Resolution
	Node, Epoch uint64
	Totals      []Total
	Customer    string // of a cut
	Target      uint64 // of what refers to another record: its position
	Reason      string // of a revision or an erasure, with Actor
	Actor       string
	First, Last uint64 // of a gateway's batch: spool sequences; of an erasure by age: positions
	Unit        string // of an event: the backfill that it belongs to
	Document    []byte // of a seal
}

// Total is an admitted total of a batch.
type Total struct {
	Customer, Meter string
	PeriodStart     int64 // UTC microseconds since 1970
	Total           money.Decimal
}

// ParseHead reads a head. Its slices point into b.
func ParseHead(b []byte) (Head, error) {
	w, err := walk(b)
	if err != nil {
		return Head{}, err
	}
	h := Head{Kind: b[0], Position: binary.LittleEndian.Uint64(b[1:])}
	h.Time, h.ReceivedAt = time.UnixMicro(0).UTC(), time.UnixMicro(0).UTC()
	for w.next() {
		switch w.tag {
		case tagFlags:
			h.Flags = w.num
		case tagOrigin:
			h.Origin = meter.Origin(min(w.num, 255))
		case tagReceived:
			h.ReceivedAt = micros(w.num)
		case tagTime:
			h.Time = micros(w.num)
		case tagSource:
			h.Source = string(w.buf)
		case tagID:
			h.ID = string(w.buf)
		case tagType:
			h.Type = string(w.buf)
		case tagDigest:
			h.Digest = w.buf
		case tagNode:
			h.Node = w.num
		case tagEpoch:
			h.Epoch = w.num
		case tagFirst:
			h.First = w.num
		case tagLast:
			h.Last = w.num
		case tagCustomer:
			h.Customer = string(w.buf)
		case tagDistinct:
			r := reader{b: w.buf}
			i, text := r.uint(), r.text()
			if w.err = r.err; w.err == nil && i >= uint64(len(h.Resolutions)) {
				w.fail("a distinct text without its resolution")
			}
			if w.err == nil {
				h.Resolutions[i].Distinct = text
			}
		case tagUnit:
			h.Unit = string(w.buf)
		case tagDocument:
			h.Document = w.buf
		case tagReference:
			r := reader{b: w.buf}
			h.Target, h.Reason, h.Actor = r.uint(), r.text(), r.text()
			w.err = r.end()
		case tagResolution:
			r := reader{b: w.buf}
			h.Resolutions = append(h.Resolutions, r.resolution())
			w.err = r.end()
		case tagTotal:
			r := reader{b: w.buf}
			h.Totals = append(h.Totals, Total{r.text(), r.text(), unzigzag(r.uint()), r.decimal()})
			w.err = r.end()
		}
	}
	return h, w.err
}

// Content is what a payload discloses.
type Content struct {
	Subject, Trace, KeyID string
	Data                  []byte
}

// ParsePayload reads a payload.
func ParsePayload(b []byte) (Content, error) {
	var c Content
	w := walker{reader: reader{b: b}, whole: len(b)}
	for w.next() {
		switch w.tag {
		case tagSubject:
			c.Subject = string(w.buf)
		case tagData:
			c.Data = w.buf
		case tagTrace:
			c.Trace = string(w.buf)
		case tagKey:
			c.KeyID = string(w.buf)
		}
	}
	return c, w.err
}

// walker goes through fields: a key uvarint(tag<<1 | wire), then a uvarint or sized bytes, tags ascending.
type walker struct {
	reader
	whole int // length of the whole, to tell where a field starts
	start int // of the field in the whole
	tag   uint64
	num   uint64
	buf   []byte
	rest  []byte // behind the field
}

// walk begins at the fields of a head.
func walk(head []byte) (walker, error) {
	if len(head) < headStart || head[0] == 0 {
		return walker{}, malformed("a head of %d bytes is too short, or of no kind", len(head))
	}
	return walker{reader: reader{b: head[headStart:]}, whole: len(head)}, nil
}

// next moves to the next field; false at the end or at a fault, which is in err. A 0 ends a head.
func (w *walker) next() bool {
	if w.err != nil || len(w.b) == 0 || len(w.b) == 1 && w.b[0] == 0 {
		return false
	}
	w.start = w.whole - len(w.b)
	key := w.uint()
	if w.err == nil && key>>1 < w.tag || key == 0 {
		w.fail("fields out of order")
	}
	w.tag, w.num, w.buf = key>>1, 0, nil
	if key&1 == 1 {
		w.buf = w.sized()
	} else {
		w.num = w.uint()
	}
	w.rest = w.b
	return w.err == nil
}

// reader takes values off the front of b. The first fault sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = malformed("malformed record: %s", what)
	}
	r.b = nil
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) sized() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail("bytes end too early")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string { return string(r.sized()) }

func (r *reader) decimal() money.Decimal {
	s := r.text()
	if r.err != nil {
		return money.Decimal{}
	}
	d, err := money.ParseDecimal(s)
	if err != nil {
		r.fail("not a decimal: " + s)
	}
	return d
}

func (r *reader) resolution() meter.Resolution {
	res := meter.Resolution{CustomerID: r.text(), Meter: r.text(), CatalogVersion: unzigzag(r.uint()), Value: r.decimal()}
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail("too many dimensions")
		return res
	}
	for range n {
		res.Dimensions = append(res.Dimensions, meter.Dimension{Name: r.text(), Value: r.text()})
	}
	return res
}

// end lets a later writer add to a nested value: what is left over is skipped.
func (r *reader) end() error { return r.err }

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func micros(v uint64) time.Time { return time.UnixMicro(unzigzag(v)).UTC() }
