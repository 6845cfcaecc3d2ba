package wire

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
)

// ErrMalformed is an answer that is no HTTP/1.1, or so ambiguous that two readers could see different messages in it.
var ErrMalformed = errors.New("malformed answer")

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// head is what an answer begins with.
type head struct {
	status    int
	old       bool // HTTP/1.0
	length    int64
	chunked   bool
	keep      bool // the connection may be used again
	announced []string
}

// parse reads a whole head, its empty line included, and adds its fields to h. It is as strict as the message's frame needs:
// one form of length, no folded lines, no space before a colon.
func parse(text string, h http.Header) (head, error) {
	line, rest, ok := cutLine(text)
	if !ok {
		return head{}, malformed("no status line")
	}
	var d head
	if err := d.statusLine(line); err != nil {
		return head{}, err
	}
	if err := fields(rest, h); err != nil {
		return head{}, err
	}
	if err := d.frame(h); err != nil {
		return head{}, err
	}
	d.keep = !d.old
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			name = textproto.TrimString(name)
			if strings.EqualFold(name, "close") {
				d.keep = false
			}
			if name != "" && !strings.EqualFold(name, "content-length") { // a frame is not taken away
				h.Del(name)
			}
		}
	}
	for _, v := range h["Trailer"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)); trails(name) {
				d.announced = append(d.announced, name)
			}
		}
	}
	dropHop(h)
	return d, nil
}

// dropHop removes the fields that belong to one connection.
func dropHop(h http.Header) {
	delete(h, "Connection")
	delete(h, "Proxy-Connection")
	delete(h, "Keep-Alive")
	delete(h, "Proxy-Authenticate")
	delete(h, "Proxy-Authorization")
	delete(h, "Te")
	delete(h, "Trailer")
	delete(h, "Transfer-Encoding")
	delete(h, "Upgrade")
}

// trails says whether a field may come after the body: those that frame the message may not.
func trails(name string) bool {
	return token(name) && name != "Content-Length" && name != "Transfer-Encoding" && name != "Trailer"
}

func (d *head) statusLine(line string) error {
	const version = "HTTP/1."
	if len(line) < len(version)+5 || line[:len(version)] != version || line[len(version)+1] != ' ' {
		return malformed("status line")
	}
	minor, code := line[len(version)], line[len(version)+2:]
	if minor != '0' && minor != '1' || len(code) > 3 && code[3] != ' ' {
		return malformed("status line")
	}
	for i := range 3 {
		if code[i] < '0' || code[i] > '9' {
			return malformed("status")
		}
		d.status = d.status*10 + int(code[i]-'0')
	}
	if d.status < 100 {
		return malformed("status")
	}
	d.old = minor == '0'
	return nil
}

// frame finds out where the body ends.
func (d *head) frame(h http.Header) error {
	d.length = -1
	lengths, codings := h["Content-Length"], h["Transfer-Encoding"]
	if len(codings) > 0 {
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") || d.old {
			return malformed("transfer encoding")
		}
		if len(lengths) > 0 {
			return malformed("a length beside a transfer encoding")
		}
		d.chunked = true
		return nil
	}
	if len(lengths) == 0 {
		return nil
	}
	n := lengths[0]
	if len(lengths) > 1 || n == "" || len(n) > 18 {
		return malformed("length")
	}
	d.length = 0
	for i := range len(n) {
		if n[i] < '0' || n[i] > '9' {
			return malformed("length")
		}
		d.length = d.length*10 + int64(n[i]-'0')
	}
	return nil
}

// fields reads header lines up to the empty one, which must be the end.
func fields(text string, h http.Header) error {
	n := strings.Count(text, "\n")
	values := make([]string, 0, n)
	for {
		line, rest, ok := cutLine(text)
		if !ok {
			return malformed("the head breaks off")
		}
		text = rest
		if line == "" {
			if text != "" {
				return malformed("the head goes on behind its end")
			}
			return nil
		}
		colon := strings.IndexByte(line, ':')
		if colon < 0 || !token(line[:colon]) {
			return malformed("field name") // a folded line among them
		}
		value := strings.Trim(line[colon+1:], " \t")
		if !visible(value) {
			return malformed("field value")
		}
		name := textproto.CanonicalMIMEHeaderKey(line[:colon])
		if had := h[name]; had != nil {
			h[name] = append(had, value)
			continue
		}
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
}

// visible says that a value has no control character but tabs.
func visible(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// cutLine takes a line off; its end is CRLF or LF.
func cutLine(text string) (line, rest string, ok bool) {
	i := strings.IndexByte(text, '\n')
	if i < 0 {
		return "", "", false
	}
	line = text[:i]
	if i > 0 && text[i-1] == '\r' {
		line = text[:i-1]
	}
	return line, text[i+1:], true
}

// token says whether s is a token of RFC 9110, section 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		if !tokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func tokenByte(c byte) bool {
	switch {
	case c|0x20 >= 'a' && c|0x20 <= 'z', c >= '0' && c <= '9', c == '-':
		return true
	}
	return c < 0x80 && strings.IndexByte("!#$%&'*+.^_`|~", c) >= 0
}
