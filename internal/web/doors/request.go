package doors

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/web/answer"
)

// The bounds of what a proxy tells, in bytes; beyond them 431.
const (
	methodMax = 32
	hostMax   = 255
	targetMax = 8 << 10
)

// holdMax bounds how long an admission may wait for what it did cost.
const holdMax = 5 * time.Minute

// options are what the proxy's configuration says in the query of the door's address. A caller cannot reach them.
type options struct {
	mapped bool          // status=403: any denial is a 401 or 403, with Tally-Status and Tally-Problem
	from   source        // where the original request is told
	hold   time.Duration // hold=30s: wait so long for what it did cost; 0: the reserved cost is it
}

// source names the headers of the original request. One set alone is read: a proxy passes on the others as its caller sent
// them.
type source struct{ method, uri, host string }

// The two sets, by their names in from=.
func forwarded() source { return source{"X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host"} }

func originals() source { return source{"X-Original-Method", "X-Original-Uri", "X-Original-Host"} }

// readOptions reads the query. What it does not know is refused: a typing error must not loosen anything.
func readOptions(query string) (options, *answer.Problem) {
	o := options{from: forwarded()}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case pair == "status=403":
			o.mapped = true
		case pair == "from=forwarded":
		case pair == "from=original":
			o.from = originals()
		case name == "hold":
			d, err := time.ParseDuration(value)
			if err != nil || d < time.Second || d > holdMax {
				return o, malformed("hold= must be 1s to 5m.", "Write it as hold=30s.")
			}
			o.hold = d
		default:
			return o, malformed("The door's address has an option that it does not know.", "Use status=403, from=original or from=forwarded, and hold=DURATION.")
		}
	}
	return o, nil
}

// original is the request that the proxy asks about.
type original struct{ method, host, target string }

// readOriginal reads it from one set of headers. What is missing, there twice or malformed is refused.
func readOriginal(r *http.Request, from source) (original, *answer.Problem) {
	var o original
	var p *answer.Problem
	if o.method, p = only(r.Header, from.method, methodMax); p != nil {
		return o, p
	}
	if o.target, p = only(r.Header, from.uri, targetMax); p != nil {
		return o, p
	}
	if len(r.Header[from.host]) > 0 {
		if o.host, p = only(r.Header, from.host, hostMax); p != nil {
			return o, p
		}
	} else {
		o.host = r.Host
	}
	switch {
	case !token(o.method):
		return o, malformed(from.method+" is no method.", "Let the proxy send the method as it came.")
	case o.target[0] != '/' || !visible(o.target):
		return o, malformed(from.uri+" is no path.", "Let the proxy send path and query as they came.")
	case !visible(o.host):
		return o, malformed(from.host+" is no host.", "Let the proxy send the host as it came.")
	}
	return o, nil
}

// only is the one value of a header.
func only(h http.Header, name string, limit int) (string, *answer.Problem) {
	v := h[name]
	switch {
	case len(v) == 0 || v[0] == "":
		return "", malformed("The proxy did not say what was asked: "+name+" is missing.", "Let the proxy send it; tally gateway add prints how.")
	case len(v) > 1:
		return "", malformed(name+" is there more than once.", "Let the proxy replace what its caller sent.")
	case len(v[0]) > limit:
		return "", &answer.Problem{
			Code: "headers_too_large", Status: http.StatusRequestHeaderFieldsTooLarge,
			Detail: fmt.Sprintf("%s is longer than %d bytes.", name, limit), Fix: "Send less in the address, or in the headers.",
		}
	}
	return v[0], nil
}

func malformed(detail, fix string) *answer.Problem {
	return &answer.Problem{Code: "door_malformed", Status: http.StatusBadRequest, Detail: detail, Fix: fix}
}

// token says whether a text is a method (RFC 9110, section 5.6.2). CONNECT asks for a tunnel, which no proxy here opens.
func token(m string) bool {
	for i := range len(m) {
		c := m[i]
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return m != "" && m != http.MethodConnect
}

// visible says whether a text has no blank and no control character.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// headerText is a JSON document as one line of ASCII, so that it fits into a header.
func headerText(doc []byte) string {
	var b strings.Builder
	b.Grow(len(doc) + 16)
	for len(doc) > 0 {
		r, n := utf8.DecodeRune(doc)
		doc = doc[n:]
		switch {
		case r == '\n' || r == '\r': // between members: inside of texts they are escaped
		case r >= ' ' && r < 0x7f:
			b.WriteByte(byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, "\\u%04x\\u%04x", high, low)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}
