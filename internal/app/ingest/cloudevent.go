package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
)

// rejected is the only status that ParseCloudEvent gives.
const rejected = "rejected"

// yearMin keeps the zero time out, which stands for a missing one.
const yearMin = 1970

// ParseCloudEvent reads one CloudEvents 1.0 JSON object of at most MaxEvent bytes; a missing time is now. Attributes that
// are null count as missing, unknown ones are ignored. It looks at the form alone; Report judges what the event says.
// A fault is an Outcome with Status rejected.
func ParseCloudEvent(raw []byte, now time.Time) (meter.Event, *Outcome) {
	if len(raw) > MaxEvent {
		return meter.Event{}, tooLong(len(raw))
	}
	// The canonical form has no key twice, a bounded depth and valid UTF-8; encoding/json would let these pass.
	canonical, err := meter.Canonical(raw)
	if err != nil {
		return meter.Event{}, &Outcome{Status: rejected, Rule: "must be one JSON object: " + err.Error(), Fix: "mend the JSON"}
	}
	var attributes map[string]json.RawMessage
	if err := json.Unmarshal(canonical, &attributes); err != nil || attributes == nil {
		return meter.Event{}, &Outcome{Status: rejected, Rule: "must be one JSON object", Fix: "send a CloudEvents 1.0 object"}
	}
	p := envelope{attributes: attributes}
	return p.event(now)
}

func tooLong(size int) *Outcome {
	return &Outcome{Status: rejected, Rule: fmt.Sprintf("an event has at most %d bytes, this one has %d", MaxEvent, size), Fix: "send less data with it"}
}

// envelope reads attributes; the first fault sticks.
type envelope struct {
	attributes map[string]json.RawMessage
	fault      *Outcome
}

func (p *envelope) event(now time.Time) (meter.Event, *Outcome) {
	e := meter.Event{ID: p.text("id", true), Source: p.text("source", true), Type: p.text("type", true), Subject: p.text("subject", false)}
	if v := p.text("specversion", true); v != "1.0" {
		p.fail("/specversion", "must be \"1.0\"", "set it to \"1.0\"")
	}
	if v := p.text("datacontenttype", false); v != "" && v != "application/json" {
		p.fail("/datacontenttype", "must be \"application/json\" or absent", "send the data as a JSON object")
	}
	if !p.absent("data_base64") {
		p.fail("/data_base64", "is not supported", "send the data as a JSON object in \"data\"")
	}
	e.TraceParent = p.text("traceparent", false)
	e.Time = p.time(now)
	if !p.absent("data") {
		if e.Data = p.attributes["data"]; e.Data[0] != '{' {
			p.fail("/data", "must be a JSON object", "put the value into an object")
		}
		e.Data = bytes.Clone(e.Data)
	}
	if p.fault != nil {
		p.fault.ID = e.ID
		return meter.Event{}, p.fault
	}
	return e, nil
}

func (p *envelope) absent(name string) bool {
	v, ok := p.attributes[name]
	return !ok || string(v) == "null"
}

func (p *envelope) text(name string, required bool) string {
	if p.absent(name) {
		if required {
			p.fail("/"+name, "is missing", fmt.Sprintf("CloudEvents 1.0 requires %q", name))
		}
		return ""
	}
	var s string
	if err := json.Unmarshal(p.attributes[name], &s); err != nil {
		p.fail("/"+name, "must be a string", "put it in quotes")
	}
	return s
}

func (p *envelope) time(now time.Time) time.Time {
	s := p.text("time", false)
	if s == "" {
		if !p.absent("time") {
			p.fail("/time", "must not be empty", "leave it out for the time of receipt")
		}
		return period.Truncate(now)
	}
	t, rule := eventTime(s)
	if rule != "" {
		p.fail("/time", rule, "write it like "+period.Format(now))
	}
	return t
}

// eventTime reads an event's time; rule is what it breaks, "" for none.
func eventTime(s string) (t time.Time, rule string) {
	t, err := time.Parse(time.RFC3339, s)
	// Parse takes an hour of one digit and a comma too.
	if err != nil || s[len("2006-01-02T15")] != ':' || strings.Contains(s, ",") {
		return time.Time{}, "must be an RFC 3339 time"
	}
	if t = period.Truncate(t); t.Year() < yearMin {
		return time.Time{}, "is too long ago"
	}
	return t, ""
}

func (p *envelope) fail(pointer, rule, fix string) {
	if p.fault == nil {
		p.fault = &Outcome{Status: rejected, Pointer: pointer, Rule: rule, Fix: fix}
	}
}
