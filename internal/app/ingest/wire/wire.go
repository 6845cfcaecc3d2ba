// Package wire takes bodies apart that carry usage events: CloudEvents alone, in a batch or in headers, lines of them, packed or
// not. It knows no transport. Each event gets its outcome or goes on to ingest; only a body that is no events at all is an error.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// The content types of a body.
const (
	TypeEvent = "application/cloudevents+json"
	TypeBatch = "application/cloudevents-batch+json"
	TypeLines = "application/x-ndjson"
	TypeJSON  = "application/json" // one event or a batch; with ce- headers the data of one event
)

// What is wrong with a body as a whole; each is wrapped with what to do.
var (
	ErrMalformed = errors.New("the body is not a document of the announced type")
	ErrType      = errors.New("the type of the body is not supported")
	ErrEncoding  = errors.New("the encoding of the body is not supported")
	ErrTooLarge  = errors.New("the body is too large")
)

// Body is one call's body and what its headers say of it.
type Body struct {
	Type     string              // Content-Type
	Encoding string              // Content-Encoding; "": none
	Headers  map[string][]string // those that begin with ce- are read; may be nil
	Bytes    []byte
}

// Events are the events of a body, in order. Outcomes has one place for each event that was sent; those that cannot be read
// have theirs already. Places tells where the outcome of each of List goes.
type Events struct {
	List     []meter.Event
	Places   []int
	Outcomes []ingest.Outcome
}

// Refused says that an event has an outcome already.
func (e *Events) Refused() bool { return len(e.List) < len(e.Outcomes) }

func (e *Events) add(event meter.Event, fault *ingest.Outcome) error {
	if len(e.Outcomes) == ingest.MaxEvents {
		return &ingest.Invalid{Rule: fmt.Sprintf("at most %d events in one call", ingest.MaxEvents), Fix: "send them in several calls"}
	}
	if fault != nil {
		e.Outcomes = append(e.Outcomes, *fault)
		return nil
	}
	e.List, e.Places, e.Outcomes = append(e.List, event), append(e.Places, len(e.Outcomes)), append(e.Outcomes, ingest.Outcome{})
	return nil
}

// Read unpacks a body and reads its events; a missing time is now. The errors are those above, and *ingest.Invalid for a body
// that can be read and is no events.
func Read(b Body, now time.Time) (Events, error) {
	media, _, err := mime.ParseMediaType(b.Type)
	if err != nil {
		media = ""
	}
	binary := hasVersion(b.Headers) && !strings.HasPrefix(media, "application/cloudevents")
	if !binary && !slices.Contains([]string{TypeEvent, TypeBatch, TypeLines, TypeJSON}, media) {
		return Events{}, fmt.Errorf("%w: send one event as %s, a batch of events as %s or %s, a line for each as %s, or one event with ce- headers and its data as %s",
			ErrType, TypeEvent, TypeBatch, TypeJSON, TypeLines, TypeJSON)
	}
	text, err := Unpack(b.Encoding, b.Bytes)
	if err != nil {
		return Events{}, err
	}
	d := ingest.NewDecoder(now)
	switch {
	case binary:
		return inHeaders(media, b, text, now)
	case media == TypeBatch:
		return batch(d, text, now)
	case media == TypeLines:
		return lines(d, text)
	case media == TypeJSON && first(text) == '[':
		return batch(d, text, now)
	}
	return single(d, text)
}

// hasVersion says whether the headers carry an event's attributes: every event in binary mode has a version.
func hasVersion(headers map[string][]string) bool {
	for name := range headers {
		if strings.EqualFold(name, ingest.HeaderPrefix+"specversion") {
			return true
		}
	}
	return false
}

func inHeaders(media string, b Body, text []byte, now time.Time) (Events, error) {
	if media != TypeJSON && (b.Type != "" || len(text) > 0) {
		return Events{}, fmt.Errorf("%w: the data of an event in binary mode must be %s", ErrType, TypeJSON)
	}
	if len(text) > 0 && !json.Valid(text) {
		return Events{}, fmt.Errorf("%w: the body, an event's data, must be one JSON object", ErrMalformed)
	}
	var out Events
	err := out.add(ingest.ParseBinary(b.Headers, text, now))
	return out, err
}

func single(d *ingest.Decoder, text []byte) (Events, error) {
	e, fault := d.Event(text)
	if fault != nil {
		if !json.Valid(text) {
			return Events{}, fmt.Errorf("%w: the body must be one JSON object", ErrMalformed)
		}
		if first(text) != '{' {
			return Events{}, &ingest.Invalid{Rule: "must be one JSON object", Fix: "send a CloudEvents 1.0 object; a batch of them is " + TypeBatch}
		}
	}
	var out Events
	err := out.add(e, fault)
	return out, err
}

// first is the first byte of a document, 0 for none.
func first(text []byte) byte {
	if text = bytes.TrimLeft(text, space); len(text) > 0 {
		return text[0]
	}
	return 0
}

const space = " \t\r\n"

func batch(d *ingest.Decoder, text []byte, now time.Time) (Events, error) {
	malformed := fmt.Errorf("%w: the body must be one JSON array of events, nothing of it was stored", ErrMalformed)
	rest := bytes.TrimLeft(text, space)
	if first(rest) != '[' {
		if json.Valid(text) {
			return Events{}, &ingest.Invalid{Rule: "must be one JSON array of events", Fix: "put the events into an array; one alone is " + TypeEvent}
		}
		return Events{}, malformed
	}
	var out Events
	rest = bytes.TrimLeft(rest[1:], space)
	for more := first(rest) != ']'; more; {
		e, n, ok := d.Leading(rest)
		var fault *ingest.Outcome
		if !ok {
			raw, read, err := element(rest)
			if err != nil {
				return Events{}, malformed
			}
			e, fault = ingest.ParseCloudEvent(raw, now)
			n = read
		}
		if err := out.add(e, fault); err != nil {
			return Events{}, err
		}
		rest = bytes.TrimLeft(rest[n:], space)
		switch {
		case first(rest) == ',':
			rest = bytes.TrimLeft(rest[1:], space)
		case first(rest) == ']':
			more = false
		default:
			return Events{}, malformed
		}
	}
	if len(bytes.TrimLeft(rest[1:], space)) > 0 {
		return Events{}, malformed
	}
	return out, nil
}

// element is the JSON value that text begins with, and how many bytes to go on after.
func element(text []byte) (json.RawMessage, int, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return nil, 0, err
	}
	return raw, int(dec.InputOffset()), nil
}

// lines reads one event a line. Empty lines are passed over.
func lines(d *ingest.Decoder, text []byte) (Events, error) {
	var out Events
	for line := range bytes.Lines(text) {
		if line = bytes.Trim(line, space); len(line) == 0 {
			continue
		}
		if err := out.add(d.Event(line)); err != nil {
			return Events{}, err
		}
	}
	return out, nil
}
