package ingest

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/meter"
)

// HeaderPrefix begins the HTTP headers that carry attributes in CloudEvents' binary mode.
const HeaderPrefix = "ce-"

// ParseBinary reads one event in CloudEvents' binary mode: its attributes from the headers, by their names in lower case, and
// its data, JSON or nothing, from the body. It answers as ParseCloudEvent does.
func ParseBinary(headers map[string][]string, data []byte, now time.Time) (meter.Event, *Outcome) {
	attributes := map[string]json.RawMessage{}
	size := len(data)
	for name, values := range headers {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), HeaderPrefix)
		if !ok || attribute == "datacontenttype" || attribute == "data" || attribute == "data_base64" { // of these Content-Type and body tell
			continue
		}
		if len(values) != 1 || attributes[attribute] != nil {
			return meter.Event{}, &Outcome{Status: rejected, Pointer: "/" + named(attribute), Rule: "stands in more than one header", Fix: "send each ce- header once"}
		}
		text, rule := headerText(values[0])
		if rule != "" {
			return meter.Event{}, &Outcome{Status: rejected, Pointer: "/" + named(attribute), Rule: rule, Fix: "percent-encode the value as UTF-8, as CloudEvents' HTTP binding says"}
		}
		quoted, err := json.Marshal(text)
		if err != nil {
			return meter.Event{}, &Outcome{Status: rejected, Pointer: "/" + named(attribute), Rule: "must be a text", Fix: "send plain text"}
		}
		size += len(attribute) + len(quoted)
		attributes[attribute] = quoted
	}
	if size > MaxEvent {
		return meter.Event{}, tooLong(size)
	}
	if len(data) > 0 {
		canonical, err := meter.Canonical(data)
		if err != nil {
			return meter.Event{}, &Outcome{Status: rejected, Pointer: "/data", Rule: "must be a JSON object: " + err.Error(), Fix: "mend the JSON"}
		}
		attributes["data"] = canonical
	}
	p := envelope{attributes: attributes}
	return p.event(now)
}

// named bounds a name that a client chose.
func named(name string) string {
	if len(name) > textMax {
		return strings.ToValidUTF8(name[:textMax], "") + "…"
	}
	return strings.ToValidUTF8(name, "")
}

// headerText decodes a header's value as CloudEvents' HTTP binding says: a quoted string is unquoted, then percent-encoding is
// undone once. rule is what the value breaks, "" for none.
func headerText(value string) (text, rule string) {
	value = strings.Trim(value, " \t")
	if len(value) > 0 && value[0] == '"' {
		if value, rule = unquoted(value); rule != "" {
			return "", rule
		}
	}
	if strings.IndexByte(value, '%') >= 0 {
		out := make([]byte, 0, len(value))
		for i := 0; i < len(value); i++ {
			if value[i] != '%' {
				out = append(out, value[i])
				continue
			}
			if i+2 >= len(value) || hexDigit(value[i+1]) < 0 || hexDigit(value[i+2]) < 0 {
				return "", "has a % without two hexadecimal digits behind it"
			}
			out = append(out, byte(hexDigit(value[i+1])<<4|hexDigit(value[i+2])))
			i += 2
		}
		value = string(out)
	}
	if !utf8.ValidString(value) {
		return "", "must be valid UTF-8"
	}
	return value, ""
}

// unquoted is what a quoted string of RFC 9110 says.
func unquoted(value string) (text, rule string) {
	out := make([]byte, 0, len(value))
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"' && i == len(value)-1:
			return string(out), ""
		case c == '"':
			return "", "has text after its closing quote"
		case c == '\\' && i+1 < len(value):
			i++
			out = append(out, value[i])
		default:
			out = append(out, c)
		}
	}
	return "", "has no closing quote"
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
