package ingest

import (
	"bytes"
	"time"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Decoder reads the events of one call. Events as most senders write them are read in one pass over the bytes; whatever is
// unusual or wrong is left to ParseCloudEvent, so that both agree on every input. It is not safe for concurrent use.
type Decoder struct {
	now   time.Time
	arena []byte                // canonical data of the events read so far
	seen  [attributeMax]string  // the last text of each attribute: most events of a call share source, type and subject
	other [extensionsMax][]byte // names of the event's extension attributes
}

// The attributes that an event's meaning depends on. Bits of a set.
const (
	attributeID = iota
	attributeSource
	attributeType
	attributeSubject
	attributeTrace
	attributeTime
	attributeVersion
	attributeContent
	attributeData
	attributeMax
)

const (
	required      = 1<<attributeID | 1<<attributeSource | 1<<attributeType | 1<<attributeVersion
	extensionsMax = 8 // of one event in the quick form
)

// NewDecoder reads events received now.
func NewDecoder(now time.Time) *Decoder { return &Decoder{now: now} }

// Event reads one event; raw is it alone. It answers what ParseCloudEvent answers.
func (d *Decoder) Event(raw []byte) (meter.Event, *Outcome) {
	if len(raw) <= MaxEvent {
		text := bytes.TrimLeft(raw, " \t\r\n")
		if e, n, ok := d.Leading(text); ok && len(bytes.TrimLeft(text[n:], " \t\r\n")) == 0 {
			return e, nil
		}
	}
	return ParseCloudEvent(raw, d.now)
}

// Leading reads the event that text begins with, and says how long it is. Not ok: it is unusual or wrong, and ParseCloudEvent
// must judge it. What follows the event is not looked at.
func (d *Decoder) Leading(text []byte) (e meter.Event, read int, ok bool) {
	c := cursor{in: text[:min(len(text), MaxEvent)]}
	if !c.take('{') {
		return e, 0, false
	}
	var have, extensions uint
	for {
		c.space()
		name, ok := c.text()
		if !ok {
			return e, 0, false
		}
		c.space()
		if !c.take(':') {
			return e, 0, false
		}
		c.space()
		a := attributeOf(name)
		switch {
		case a < 0:
			if !d.extension(&c, name, extensions) {
				return e, 0, false
			}
			extensions++
		case have&(1<<a) != 0 || !d.attribute(&c, a, &e):
			return e, 0, false
		default:
			have |= 1 << a
		}
		c.space()
		if c.take(',') {
			continue
		}
		if !c.take('}') || have&required != required {
			return e, 0, false
		}
		if have&(1<<attributeTime) == 0 {
			e.Time = period.Truncate(d.now)
		}
		return e, c.pos, true
	}
}

// attributeOf is an attribute by its name; -1 for those that mean nothing here.
func attributeOf(name []byte) int {
	switch string(name) {
	case "id":
		return attributeID
	case "source":
		return attributeSource
	case "type":
		return attributeType
	case "subject":
		return attributeSubject
	case "traceparent":
		return attributeTrace
	case "time":
		return attributeTime
	case "specversion":
		return attributeVersion
	case "datacontenttype":
		return attributeContent
	case "data":
		return attributeData
	}
	return -1
}

// extension passes over an attribute without a meaning here, whose value must be a plain text.
func (d *Decoder) extension(c *cursor, name []byte, have uint) bool {
	if have == extensionsMax || string(name) == "data_base64" {
		return false
	}
	for _, other := range d.other[:have] {
		if bytes.Equal(other, name) {
			return false
		}
	}
	d.other[have] = name
	_, ok := c.text()
	return ok
}

func (d *Decoder) attribute(c *cursor, a int, e *meter.Event) bool {
	if a == attributeData {
		return d.data(c, e)
	}
	text, ok := c.text()
	if !ok {
		return false
	}
	switch a {
	case attributeVersion:
		return string(text) == "1.0"
	case attributeContent:
		return len(text) == 0 || string(text) == "application/json"
	case attributeTime:
		var rule string
		if len(text) == 0 {
			return false
		}
		e.Time, rule = eventTime(string(text))
		return rule == ""
	}
	if d.seen[a] != string(text) {
		d.seen[a] = string(text)
	}
	switch s := d.seen[a]; a {
	case attributeID:
		e.ID = s
	case attributeSource:
		e.Source = s
	case attributeType:
		e.Type = s
	case attributeSubject:
		e.Subject = s
	default:
		e.TraceParent = s
	}
	return true
}

// The arena is set aside in pieces; a piece with little room left is given up.
const (
	arenaPiece = 64 << 10
	arenaLeast = 2 << 10
)

func (d *Decoder) data(c *cursor, e *meter.Event) bool {
	if c.pos == len(c.in) || c.in[c.pos] != '{' {
		return false
	}
	if cap(d.arena)-len(d.arena) < min(arenaLeast, len(c.in)-c.pos) {
		d.arena = make([]byte, 0, min(arenaPiece, max(arenaLeast, len(c.in))))
	}
	start := len(d.arena)
	out, n, err := meter.CanonicalValue(d.arena, c.in[c.pos:], 1)
	if err != nil {
		return false
	}
	d.arena = out
	e.Data = out[start:len(out):len(out)]
	c.pos += n
	return true
}

// cursor walks over JSON text.
type cursor struct {
	in  []byte
	pos int
}

func (c *cursor) space() {
	for c.pos < len(c.in) && (c.in[c.pos] == ' ' || c.in[c.pos] == '\n' || c.in[c.pos] == '\t' || c.in[c.pos] == '\r') {
		c.pos++
	}
}

func (c *cursor) take(b byte) bool {
	if c.pos < len(c.in) && c.in[c.pos] == b {
		c.pos++
		return true
	}
	return false
}

// text reads a JSON string without escapes. Not ok: it has some, or it is none.
func (c *cursor) text() ([]byte, bool) {
	if !c.take('"') {
		return nil, false
	}
	start, bits := c.pos, byte(0)
	for i := start; i < len(c.in); i++ {
		b := c.in[i]
		if b == '"' {
			c.pos = i + 1
			s := c.in[start:i]
			return s, bits < utf8.RuneSelf || utf8.Valid(s)
		}
		if b < ' ' || b == '\\' {
			return nil, false
		}
		bits |= b
	}
	return nil, false
}
