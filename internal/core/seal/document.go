package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// documentKind is the first field of a sealed close.
const documentKind = "close/1"

// Series is the sealed rollup of one meter in a closed period.
type Series struct {
	Meter string        `json:"meter"`
	Value money.Decimal `json:"value"`
	Count int64         `json:"count"`
	// Root is over the leaf hashes, in position order, of the records that make up the value: the events, and for each that was
	// revised the revision that stood.
	Root tlog.Hash `json:"root"`
}

// Close is the document that a period's close appends to the journal: what was used, and the lines that follow from it.
type Close struct {
	Kind         string          `json:"kind"`
	Subscription string          `json:"subscription"`
	Customer     string          `json:"customer"`
	Period       period.Interval `json:"period"`
	Position     uint64          `json:"position"` // what was appended later does not count
	Series       []Series        `json:"series"`   // by meter
	Invoice      string          `json:"invoice"`  // empty: none was due
	Lines        []invoice.Line  `json:"lines"`
}

// Encode is the document's only form.
func (c Close) Encode() ([]byte, error) {
	c.Kind = documentKind
	c.Period.Start, c.Period.End = c.Period.Start.UTC().Truncate(time.Microsecond), c.Period.End.UTC().Truncate(time.Microsecond)
	if c.Series == nil {
		c.Series = []Series{}
	}
	if c.Lines == nil {
		c.Lines = []invoice.Line{}
	}
	return json.Marshal(c)
}

// ParseClose reverses Encode. ErrProof.
func ParseClose(b []byte) (Close, error) {
	var c Close
	if err := strict(b, &c); err != nil {
		return Close{}, malformed("the close document: %v", err)
	}
	if c.Kind != documentKind {
		return Close{}, malformed("the document is a %q, expected %q", c.Kind, documentKind)
	}
	if again, err := c.Encode(); err != nil || !bytes.Equal(again, b) {
		return Close{}, malformed("the close document is not in its only form")
	}
	return c, nil
}

// strict decodes one JSON value without unknown fields.
func strict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}
