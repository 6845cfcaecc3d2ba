package journal

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tallystick/tallystick/internal/core/money"
)

// A row of records or contributions holds as many as fit beside each other on a page, since a row and its index entry cost more
// than what is in it. It holds those of one transaction only, and is written once: a cut splits it, an erasure changes a body.
const (
	rowBytes = 1900 // a larger row would be moved out of line
	logMost  = 64   // records in a row: whoever looks for a position looks at the rows that begin so far before it
	readMost = 32   // contributions in a row
	readSpan = 4096 // positions from a row's first event to its last
)

// logRow is a row of journal_log.
type logRow struct {
	first    uint64
	received *int64 // the latest of its events; nil: it has none
	bodies   [][]byte
}

// logRows are the records that the group has staged, in order of position.
func (g *group) logRows() []logRow {
	events, others := g.all.events, g.all.others
	rows := make([]logRow, 0, 1+(len(events)+len(others))/8)
	size := rowBytes
	for len(events)+len(others) > 0 {
		var body []byte
		var position uint64
		var received *int64
		if len(others) == 0 || len(events) > 0 && events[0].position < others[0].position {
			body, position, received, events = events[0].body, events[0].position, &events[0].received, events[1:]
		} else {
			body, position, others = others[0].body, others[0].position, others[1:]
		}
		if size += len(body) + 8; size > rowBytes || len(rows[len(rows)-1].bodies) == logMost {
			rows, size = append(rows, logRow{first: position}), len(body)+8
		}
		r := &rows[len(rows)-1]
		if r.bodies = append(r.bodies, body); received != nil && (r.received == nil || *r.received < *received) {
			r.received = received
		}
	}
	return rows
}

// readRow is a row of journal_contributions: of events themselves, or of one event's revision.
type readRow struct {
	list []*contribution
	size int
}

// cause is the position of the revision; 0: the row is of events themselves.
func (r *readRow) cause() uint64 {
	if c := r.list[0]; c.cause != c.event {
		return c.cause
	}
	return 0
}

// readRows are the contributions that the group has staged.
func (g *group) readRows() []*readRow {
	rows := make([]*readRow, 0, len(g.all.parts))
	open := make(map[bucketKey]*readRow, len(g.all.parts))
	for i := range g.all.contributions {
		c := &g.all.contributions[i]
		size := len(c.traits) + 40
		k := bucketKey{c.series, c.bucket}
		r := open[k]
		if c.cause != c.event || r == nil || r.size+size > rowBytes || len(r.list) == readMost || r.list[0].origin != c.origin ||
			c.event-r.list[0].event >= readSpan {
			r = &readRow{}
			rows = append(rows, r)
			if c.cause == c.event {
				open[k] = r
			}
		}
		r.list = append(r.list, c)
		r.size += size
	}
	return rows
}

// copyStream is the binary form of COPY for n rows, made as it is read.
type copyStream struct {
	n, next int
	row     func(b []byte, i int) ([]byte, error)
	buf     []byte
	at      int
	ended   bool
}

const copyChunk = 64 << 10

func (s *copyStream) Read(p []byte) (int, error) {
	if s.at == len(s.buf) {
		if s.ended {
			return 0, io.EOF
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.at:])
	s.at += n
	return n, nil
}

func (s *copyStream) fill() (err error) {
	s.buf, s.at = s.buf[:0], 0
	if s.next == 0 {
		s.buf = append(s.buf, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...) // no flags, no extension
	}
	for ; s.next < s.n && len(s.buf) < copyChunk; s.next++ {
		if s.buf, err = s.row(s.buf, s.next); err != nil {
			return err
		}
	}
	if s.next == s.n {
		s.buf, s.ended = binary.BigEndian.AppendUint16(s.buf, math.MaxUint16), true
	}
	return nil
}

// Fields of a row in the binary form: each has its length before it.

func fields(b []byte, n uint16) []byte { return binary.BigEndian.AppendUint16(b, n) }

func size[N int | uint64](b []byte, n N) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) } //nolint:gosec // a row is below 2 GiB

func null(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

func field(b, v []byte) []byte {
	if v == nil {
		return null(b)
	}
	return append(size(b, len(v)), v...)
}

func fieldInt[N int64 | uint64](b []byte, v N) []byte {
	return binary.BigEndian.AppendUint64(size(b, 8), uint64(v))
}

func fieldBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0, 0, 0, 1, 1)
	}
	return append(b, 0, 0, 0, 1, 0)
}

// fieldArray appends n elements of a type, each by element.
func fieldArray(b []byte, oid uint32, n int, element func(b []byte, i int) ([]byte, error)) (_ []byte, err error) {
	start := len(b)
	b = size(size(b, 0), 1)                   // the length, known at the end; one dimension
	b = binary.BigEndian.AppendUint32(b, 1)   // there may be nulls
	b = binary.BigEndian.AppendUint32(b, oid) // of the elements
	b = size(size(b, n), 1)                   // counted from 1
	for i := range n {
		if b, err = element(b, i); err != nil {
			return b, err
		}
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4)) //nolint:gosec // as size
	return b, nil
}

// fieldNumeric appends a decimal.
func fieldNumeric(b []byte, m *pgtype.Map, d money.Decimal) ([]byte, error) {
	if n, err := d.Scaled(0); err == nil && n > 0 && n < 1e4 { // nearly all: one digit to the base of 10,000
		return binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 10, 0, 1, 0, 0, 0, 0, 0, 0), uint16(n)), nil
	}
	n, err := numeric(d)
	if err != nil {
		return b, err
	}
	start := len(b)
	if b, err = m.Encode(pgtype.NumericOID, pgtype.BinaryFormatCode, n, size(b, 0)); err != nil {
		return b, fmt.Errorf("encode %s: %w", d.String(), err)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4)) //nolint:gosec // as size
	return b, nil
}
