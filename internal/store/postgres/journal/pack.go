package journal

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store/postgres/tuples"
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
	size     int    // bytes of the bodies
	bodies   [][]byte
}

// logRows are the records that the group has staged, in order of position.
func (g *group) logRows() []logRow {
	events, others := g.all.events, g.all.others
	list := make([]logRow, 0, 1+(len(events)+len(others))/8)
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
		if size += len(body) + 8; size > rowBytes || len(list[len(list)-1].bodies) == logMost {
			list, size = append(list, logRow{first: position}), len(body)+8
		}
		r := &list[len(list)-1]
		r.size += len(body)
		if r.bodies = append(r.bodies, body); received != nil && (r.received == nil || *r.received < *received) {
			r.received = received
		}
	}
	return list
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
	list := make([]*readRow, 0, len(g.all.parts))
	open := make(map[bucketKey]*readRow, len(g.all.parts))
	for i := range g.all.contributions {
		c := &g.all.contributions[i]
		size := len(c.traits) + 40
		k := bucketKey{c.series, c.bucket}
		r := open[k]
		if c.cause != c.event || r == nil || r.size+size > rowBytes || len(r.list) == readMost || r.list[0].origin != c.origin ||
			c.event-r.list[0].event >= readSpan {
			r = &readRow{}
			list = append(list, r)
			if c.cause == c.event {
				open[k] = r
			}
		}
		r.list = append(r.list, c)
		r.size += size
	}
	return list
}

// amount appends a decimal to a row.
func amount(b []byte, types *pgtype.Map, d money.Decimal) ([]byte, error) {
	if n, err := d.Scaled(0); err == nil && n > 0 && n < 1e4 { // nearly all: one digit to the base of 10,000
		return binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 10, 0, 1, 0, 0, 0, 0, 0, 0), uint16(n)), nil
	}
	n, err := numeric(d)
	if err != nil {
		return b, err
	}
	return tuples.Sized(b, func(b []byte) ([]byte, error) { return types.Encode(pgtype.NumericOID, pgtype.BinaryFormatCode, n, b) })
}
