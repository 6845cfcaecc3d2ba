package cost

// events finds one member in the data of server-sent events (WHATWG HTML, section 9.2): the last event that has it counts.
// Lines end with LF, CR or CRLF; the lines of one event's data belong together. It keeps one scanner and a field's name.
type events struct {
	doc   *scanner
	bom   int // bytes of a byte order mark so far; 3: past it
	field []byte
	where uint8
	cr    bool // the last byte was a CR: an LF behind it belongs to it
	lines int  // data lines of this event
	found bool
	value string
}

const (
	atName  uint8 = iota // in a field's name
	atSpace              // after the colon of data: one space may follow
	atData               // in the value of data
	atOther              // in a line that does not matter
)

const dataField = "data"

func newEvents(path []string) *events { return &events{doc: newScanner(path)} }

// write takes the next bytes of the stream.
func (e *events) write(p []byte) {
	for len(p) > 0 && e.bom < 3 {
		if !e.mark(p[0]) {
			break
		}
		p = p[1:]
	}
	for i := 0; i < len(p); i++ {
		c := p[i]
		if e.cr && c == '\n' {
			e.cr = false
			continue
		}
		e.cr = c == '\r'
		if c == '\n' || c == '\r' {
			e.endLine()
			continue
		}
		switch e.where {
		case atName:
			e.name(c)
		case atSpace:
			e.where = atData
			if c != ' ' {
				e.doc.write(p[i : i+1])
			}
		case atData:
			j := i + 1
			for j < len(p) && p[j] != '\n' && p[j] != '\r' {
				j++
			}
			e.doc.write(p[i:j])
			i = j - 1
		}
	}
}

// mark drops a byte order mark at the very beginning.
func (e *events) mark(c byte) bool {
	const mark = "\xef\xbb\xbf"
	if c == mark[e.bom] {
		e.bom++
		return true
	}
	began := e.bom > 0
	e.bom = 3
	if began { // a part of a mark is a field of another name
		e.where = atOther
	}
	return false
}

func (e *events) name(c byte) {
	switch {
	case c == ':' && string(e.field) == dataField:
		e.where = atSpace
		e.begin()
	case c == ':' || len(e.field) == len(dataField):
		e.where = atOther
	default:
		e.field = append(e.field, c)
	}
}

// begin starts a line of data; lines of one event are joined by a line end.
func (e *events) begin() {
	if e.lines++; e.lines > 1 {
		e.doc.write([]byte{'\n'})
	}
}

func (e *events) endLine() {
	switch {
	case e.where == atName && len(e.field) == 0:
		e.dispatch()
	case e.where == atName && string(e.field) == dataField:
		e.begin() // "data" alone is an empty line of data
	}
	e.where, e.field = atName, e.field[:0]
}

// dispatch ends an event.
func (e *events) dispatch() {
	if e.lines == 0 {
		return
	}
	if v, ok := e.doc.end(true); ok {
		e.found, e.value = true, v
	}
	e.doc.reset()
	e.lines = 0
}

// end says that the stream is over. An event whose end did not come counts when its data is whole.
func (e *events) end(bool) (string, bool) {
	e.endLine()
	e.dispatch()
	return e.value, e.found
}
