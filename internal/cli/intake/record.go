package intake

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/tallystick/tallystick/internal/app/ingest"
)

// record is one event of a file: its JSON, or why it has none.
type record struct {
	line  int
	text  []byte // valid until the next record
	fault *Outcome
}

// place is how far a file was read: behind a record.
type place struct {
	offset int64 // bytes of unpacked text, without the byte order mark
	line   int   // lines before it
	digest [sha256.Size]byte
}

// reader reads the records of a file. io.EOF ends it; any other error ends it too.
type reader interface {
	next() (record, error)
	place() place
}

func tooLong(size string) *Outcome {
	return &Outcome{Status: "rejected", Rule: fmt.Sprintf("an event has at most %d bytes, this one has %s", ingest.MaxEvent, size), Fix: "send less data with it"}
}

// lines reads one event a line. Empty lines are passed over.
type lines struct {
	in  *bufio.Reader
	at  place
	sum hash.Hash
}

func newLines(in io.Reader, from place, sum hash.Hash) *lines {
	return &lines{in: bufio.NewReaderSize(in, ingest.MaxEvent+4096), at: from, sum: sum}
}

func (l *lines) place() place {
	l.sum.Sum(l.at.digest[:0])
	return l.at
}

func (l *lines) next() (record, error) {
	for {
		text, err := l.in.ReadSlice('\n')
		l.took(text)
		l.at.line++
		if errors.Is(err, bufio.ErrBufferFull) {
			if err = l.rest(); err != nil {
				return record{line: l.at.line}, err
			}
			return record{line: l.at.line, fault: tooLong("more")}, nil
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(text) == 0) {
			return record{line: l.at.line}, err
		}
		if text = bytes.Trim(text, " \t\r\n"); len(text) == 0 {
			continue
		}
		if len(text) > ingest.MaxEvent {
			return record{line: l.at.line, fault: tooLong(fmt.Sprint(len(text)))}, nil
		}
		return record{line: l.at.line, text: text}, nil
	}
}

// rest passes over what is left of a line.
func (l *lines) rest() error {
	for {
		text, err := l.in.ReadSlice('\n')
		l.took(text)
		if err == nil || errors.Is(err, io.EOF) {
			return nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

func (l *lines) took(text []byte) {
	l.at.offset += int64(len(text))
	l.sum.Write(text) // a hash never fails
}

// rowMax bounds a row of a table, and so what a quote without an end takes of memory.
const rowMax = 1 << 20

var errLongRow = fmt.Errorf("a row has more than %d bytes; is a quote not closed?", rowMax)

// rows reads one event a row of a CSV table.
type rows struct {
	in      *csv.Reader
	tap     *tap
	from    place
	at      place
	line    int // of the last row
	mapping *Mapping
	room    []byte
}

// newRows reads a table from its header line on, or goes on behind a place with the columns that are known from before.
func newRows(in io.Reader, from place, sum hash.Hash, m *Mapping, columns []string) (*rows, []string, error) {
	t := &tap{in: in, sum: sum}
	r := &rows{in: csv.NewReader(t), tap: t, from: from, at: from, line: from.line, mapping: m}
	r.in.FieldsPerRecord = -1
	if columns == nil {
		head, err := r.read()
		if errors.Is(err, io.EOF) {
			return nil, nil, errors.New("line 1: it has no header line")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("line 1: %w", err)
		}
		columns = head
	}
	return r, columns, m.bind(columns)
}

func (r *rows) place() place {
	r.tap.sum.Sum(r.at.digest[:0])
	return r.at
}

// read reads one row and counts what it took.
func (r *rows) read() ([]string, error) {
	fields, err := r.in.Read()
	took := r.from.offset + r.in.InputOffset() - r.at.offset
	r.at.offset += took
	newlines := r.tap.consume(int(took))
	r.line = r.at.line + 1
	if err == nil {
		line, _ := r.in.FieldPos(0)
		r.line = r.from.line + line
	} else if bad, ok := errors.AsType[*csv.ParseError](err); ok {
		r.line = r.from.line + bad.StartLine
	}
	r.at.line += newlines
	return fields, err
}

func (r *rows) next() (record, error) {
	fields, err := r.read()
	if bad, ok := errors.AsType[*csv.ParseError](err); ok && !errors.Is(err, errLongRow) {
		return record{line: r.line, fault: &Outcome{Status: "rejected", Rule: "is no row of a CSV table: " + bad.Err.Error(), Fix: "put fields with quotes, commas or line breaks into quotes, and double the quotes in them"}}, nil
	}
	if err != nil {
		return record{line: r.line}, err
	}
	text, fault := r.mapping.event(r.room[:0], fields)
	r.room = text
	if fault == nil && len(text) > ingest.MaxEvent {
		fault = tooLong(fmt.Sprint(len(text)))
	}
	return record{line: r.line, text: text, fault: fault}, nil
}

// tap keeps what was read until it is known to belong to a whole row.
type tap struct {
	in      io.Reader
	sum     hash.Hash
	pending []byte
}

func (t *tap) Read(p []byte) (int, error) {
	if len(t.pending) > rowMax {
		return 0, errLongRow
	}
	n, err := t.in.Read(p)
	t.pending = append(t.pending, p[:n]...)
	return n, err
}

// consume hashes what a row took, and counts its line ends.
func (t *tap) consume(n int) (newlines int) {
	n = min(n, len(t.pending))
	newlines = bytes.Count(t.pending[:n], []byte{'\n'})
	t.sum.Write(t.pending[:n]) // a hash never fails
	t.pending = append(t.pending[:0], t.pending[n:]...)
	return newlines
}
