package seal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// What a bundle proves.
const (
	EventProof = "event/1"
	LineProof  = "line/1"
)

// BundleMax bounds a bundle: a line with the leaf hashes of about a million events.
const BundleMax = 128 << 20

// Bundle proves one event or one invoice line to whoever has the deployment's public key. It has one form only, so that an
// altered byte anywhere shows. Event and Line repeat for people what the leaf says.
type Bundle struct {
	Proof      string      `json:"proof"`
	Checkpoint string      `json:"checkpoint"` // a signed note
	Leaf       LeafPart    `json:"leaf"`
	Path       []tlog.Hash `json:"path"` // RFC 6962 inclusion proof
	Event      *EventPart  `json:"event,omitempty"`
	Line       *LinePart   `json:"line,omitempty"`
}

// LeafPart is the record's leaf: with the payload and its salt, or with the commitment alone where the payload was erased.
type LeafPart struct {
	Number     int64  `json:"number"` // position − 1
	Head       []byte `json:"head"`
	Digest     []byte `json:"digest,omitempty"`
	Payload    []byte `json:"payload,omitempty"`
	Salt       []byte `json:"salt,omitempty"`
	Commitment []byte `json:"commitment,omitempty"`
}

// EventPart is an event for people's eyes.
type EventPart struct {
	Position   uint64          `json:"position"`
	Source     string          `json:"source"`
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Time       time.Time       `json:"time"`
	ReceivedAt time.Time       `json:"received_at"`
	Origin     string          `json:"origin"` // admitted or reported
	Counts     []Count         `json:"counts"`
	Erased     bool            `json:"erased"` // what follows is gone
	Subject    string          `json:"subject,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	KeyID      string          `json:"key_id,omitempty"`
}

// Count is what an event counts for, as it was accepted.
type Count struct {
	Customer   string        `json:"customer"`
	Meter      string        `json:"meter"`
	Value      money.Decimal `json:"value"`
	Dimensions []Dimension   `json:"dimensions,omitempty"`
}

// Dimension is a named property of usage.
type Dimension struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// LinePart is an invoice line with the close that it follows from.
type LinePart struct {
	Invoice string       `json:"invoice"`
	Line    invoice.Line `json:"line"`
	Close   Close        `json:"close"`
	Events  []Part       `json:"events,omitempty"` // of the line's series; on demand
}

// Part is one record of a series: its leaf hash is enough to compute the series' root again.
type Part struct {
	Position uint64    `json:"position"`
	Hash     tlog.Hash `json:"hash"`
}

// Encode is the bundle's only form.
func (b *Bundle) Encode() ([]byte, error) {
	out, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode a bundle: %w", err)
	}
	return append(out, '\n'), nil
}

// LeafOf is the part that shows a record's leaf. A nil salt hides the payload: then c must be its commitment.
func LeafOf(position uint64, head, payload []byte, salt, c *Commitment) (LeafPart, error) {
	leaf := LeafPart{Number: int64(position) - 1, Head: head} //nolint:gosec // positions are below 2^63
	if payload == nil && c == nil {
		return leaf, nil
	}
	var err error
	if leaf.Head, leaf.Digest, err = Split(head); err != nil {
		return LeafPart{}, err
	}
	if c != nil {
		leaf.Digest, leaf.Commitment = nil, c[:]
		return leaf, nil
	}
	leaf.Payload, leaf.Salt = payload, salt[:]
	return leaf, nil
}

// hash computes the leaf's hash from what is shown.
func (l *LeafPart) hash() (tlog.Hash, error) {
	var c *Commitment
	switch {
	case len(l.Commitment) > 0:
		if len(l.Commitment) != len(c) || len(l.Payload)+len(l.Salt)+len(l.Digest) > 0 {
			return tlog.Hash{}, malformed("leaf: a commitment has %d bytes and stands alone", len(c))
		}
		v := Commitment(l.Commitment)
		c = &v
	case len(l.Salt) > 0:
		if len(l.Salt) != len(c) || len(l.Digest) > 255 {
			return tlog.Hash{}, malformed("leaf: a salt has %d bytes", len(c))
		}
		v := Commit(Commitment(l.Salt), l.Digest, l.Payload)
		c = &v
	case len(l.Payload)+len(l.Digest) > 0:
		return tlog.Hash{}, malformed("leaf: a payload needs its salt")
	}
	return leafHash(l.Head, nil, c), nil
}

// Verify checks a bundle with nothing but the deployment's public key (in note form) and returns what it proves. ErrProof says
// what does not hold.
func Verify(text []byte, key string) (Bundle, Checkpoint, error) {
	var b Bundle
	if len(text) > BundleMax {
		return b, Checkpoint{}, malformed("a bundle has at most %d bytes", BundleMax)
	}
	if err := strict(text, &b); err != nil {
		return b, Checkpoint{}, malformed("the file is no proof bundle: %v", err)
	}
	c, err := Open([]byte(b.Checkpoint), key)
	if err != nil {
		return b, Checkpoint{}, err
	}
	head, err := b.included(c)
	if err != nil {
		return b, c, err
	}
	again := Bundle{Proof: b.Proof, Checkpoint: b.Checkpoint, Leaf: b.Leaf, Path: b.Path}
	switch b.Proof {
	case EventProof:
		again.Event, err = EventOf(head, b.Leaf)
	case LineProof:
		again.Line, err = b.lineOf(head)
	default:
		err = malformed("it proves a %q, expected %q or %q", b.Proof, EventProof, LineProof)
	}
	if err != nil {
		return b, c, err
	}
	want, err := again.Encode()
	if err != nil {
		return b, c, malformed("%v", err)
	}
	if !bytes.Equal(want, text) {
		return b, c, different(want, text)
	}
	return b, c, nil
}

// shownMax bounds how much of a line an error shows.
const shownMax = 120

// different names the first line in which a bundle is not what its leaf says.
func different(want, have []byte) error {
	wanted, had := bytes.Split(want, []byte("\n")), bytes.Split(have, []byte("\n"))
	n := 0
	for n < min(len(wanted), len(had)) && bytes.Equal(wanted[n], had[n]) {
		n++
	}
	line := func(all [][]byte) string {
		if n >= len(all) {
			return ""
		}
		s := bytes.TrimSpace(all[n])
		return string(s[:min(len(s), shownMax)])
	}
	return malformed("line %d of the bundle is not what its leaf says: expected %q, found %q", n+1, line(wanted), line(had))
}

// included says that the leaf is in the checkpoint's tree, at its number, and reads its head.
func (b *Bundle) included(c Checkpoint) (Head, error) {
	head, err := ParseHead(b.Leaf.Head)
	if err != nil {
		return Head{}, err
	}
	if b.Leaf.Number < 0 || head.Position != uint64(b.Leaf.Number)+1 {
		return Head{}, malformed("the leaf has number %d, its record position %d", b.Leaf.Number, head.Position)
	}
	if b.Leaf.Number >= c.Size {
		return Head{}, malformed("leaf %d is not in the checkpoint's tree of %d", b.Leaf.Number, c.Size)
	}
	h, err := b.Leaf.hash()
	if err != nil {
		return Head{}, err
	}
	if err := tlog.CheckRecord(b.Path, c.Size, c.Root, b.Leaf.Number, h); err != nil {
		return Head{}, malformed("the leaf is not in the checkpoint's tree: its hash and path do not lead to the signed root")
	}
	return head, nil
}

// EventOf is an event as its leaf shows it.
func EventOf(h Head, leaf LeafPart) (*EventPart, error) {
	if h.Kind != KindEvent {
		return nil, malformed("the leaf's record is of kind %d, not an event", h.Kind)
	}
	e := &EventPart{
		Position: h.Position, Source: h.Source, ID: h.ID, Type: h.Type, Time: h.Time, ReceivedAt: h.ReceivedAt, Origin: "unknown",
		Counts: []Count{}, Erased: len(leaf.Commitment) > 0,
	}
	switch h.Origin {
	case meter.Admitted:
		e.Origin = "admitted"
	case meter.Reported:
		e.Origin = "reported"
	}
	for _, r := range h.Resolutions {
		c := Count{Customer: r.CustomerID, Meter: r.Meter, Value: r.Value}
		for _, d := range r.Dimensions {
			c.Dimensions = append(c.Dimensions, Dimension{d.Name, d.Value})
		}
		e.Counts = append(e.Counts, c)
	}
	content, err := ParsePayload(leaf.Payload)
	if err != nil {
		return nil, err
	}
	e.Subject, e.Data, e.KeyID = content.Subject, content.Data, content.KeyID
	return e, nil
}

// LineOf is a line of a sealed close. Events are left out.
func LineOf(c Close, lineID string) (*LinePart, error) {
	for _, l := range c.Lines {
		if l.ID != lineID {
			continue
		}
		p := &LinePart{Invoice: c.Invoice, Line: l, Close: c}
		if l.Kind != invoice.UsageLine {
			return p, nil
		}
		s, ok := p.series()
		if !ok || s.Value.Cmp(l.Quantity) != 0 {
			return nil, malformed("line %s has quantity %s, the sealed rollup of meter %s another", l.ID, l.Quantity, l.Meter)
		}
		return p, nil
	}
	return nil, malformed("the close has no line %s", lineID)
}

// series is the sealed rollup of the line's meter.
func (p *LinePart) series() (Series, bool) {
	for _, s := range p.Close.Series {
		if s.Meter == p.Line.Meter {
			return s, true
		}
	}
	return Series{}, false
}

// lineOf rebuilds the line from the sealed document and checks its events.
func (b *Bundle) lineOf(h Head) (*LinePart, error) {
	if h.Kind != KindSeal || b.Line == nil {
		return nil, malformed("the leaf's record is of kind %d, not a sealed close", h.Kind)
	}
	c, err := ParseClose(h.Document)
	if err != nil {
		return nil, err
	}
	p, err := LineOf(c, b.Line.Line.ID)
	if err != nil || len(b.Line.Events) == 0 {
		return p, err
	}
	s, ok := p.series()
	if !ok {
		return nil, malformed("line %s has no events, the bundle shows some", p.Line.ID)
	}
	var r Range
	var last uint64
	for _, e := range b.Line.Events {
		if e.Position <= last || e.Position > c.Position {
			return nil, malformed("the events do not ascend to the close's position: %d follows %d", e.Position, last)
		}
		last = e.Position
		r.Add(e.Hash)
	}
	if r.Root() != s.Root {
		return nil, malformed("the leaf hashes of the events do not make the sealed root of meter %s", s.Meter)
	}
	p.Events = b.Line.Events
	return p, nil
}
