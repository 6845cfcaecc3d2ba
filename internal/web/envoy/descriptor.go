package envoy

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The keys of a descriptor's entries.
const (
	keyEntry      = "key"      // the caller's API key, or the value of its Authorization header
	customerEntry = "customer" // a customer's id or key, on the gateway's word
	keyIDEntry    = "key_id"   // a key's id, on the gateway's word
	routeEntry    = "route"    // a route's match pattern
	methodEntry   = "method"
	pathEntry     = "path"
	hostEntry     = "host"
	userEntry     = "user"
	settleEntry   = "settle"
	decisionEntry = "decision" // the name of an admission that is open
	statusEntry   = "status"   // the answer's status, of a request that has ended

	settleNow   = "now"
	settleLater = "stream_done"
	settleAfter = "after"
)

// hitsMax bounds the cost of one call in units of the meter, as of one event.
const hitsMax = 1_000_000_000_000_000

// settling is when the cost of a descriptor is charged.
type settling uint8

const (
	now   settling = iota // at once
	later                 // when the gateway tells the end of the admission
	after                 // it was used already: charge it, also beyond the limit
)

// descriptor is one of a RateLimitRequest: who asks, for what, and how much.
type descriptor struct {
	key, trusted      string
	route             string
	method, path      string
	host, user        string
	decision          string
	keyed             bool // there is an entry key, empty perhaps
	settle            settling
	status            int // 0: not told, or none was sent
	ended             bool
	hits              uint64
	counted, negative bool // hits is given; it is given back
}

// set takes an entry in. A fault is one of the gateway's configuration: what a caller can make up (key, path, user) never is
// one, since Envoy may let pass what it gets an error for.
func (d *descriptor) set(key, value []byte) (fault string) {
	v := string(value)
	switch string(key) {
	case keyEntry:
		d.key, d.keyed = bearer(v), true
	case customerEntry, keyIDEntry:
		if d.trusted != "" {
			return "customer and key_id exclude each other"
		}
		if v == "" {
			return "is empty"
		}
		d.trusted = v
	case routeEntry:
		d.route = v
	case methodEntry:
		d.method = v
	case pathEntry:
		d.path = v
	case hostEntry:
		d.host = v
	case userEntry:
		d.user = user(v)
	case decisionEntry:
		d.decision = v
	case settleEntry:
		return d.when(v)
	case statusEntry:
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n > 999 {
			return "is no HTTP status"
		}
		d.status, d.ended = int(n), true
	default:
		return "is not an entry that Tallystick knows"
	}
	return ""
}

func (d *descriptor) when(v string) (fault string) {
	switch v {
	case settleNow:
		d.settle = now
	case settleLater:
		d.settle = later
	case settleAfter:
		d.settle = after
	default:
		return "must be now, stream_done or after"
	}
	return ""
}

// bearer takes the scheme off an Authorization header.
func bearer(v string) string {
	const scheme = "bearer "
	if len(v) > len(scheme) && strings.EqualFold(v[:len(scheme)], scheme) {
		return strings.TrimSpace(v[len(scheme):])
	}
	return v
}

// userMax bounds an end user's name in bytes, as match does.
const userMax = 256

func user(v string) string {
	if len(v) > userMax || !utf8.ValidString(v) {
		return ""
	}
	return v
}

// check says what is missing or does not go together; the first thing.
func (d *descriptor) check(trust bool) (fault string) {
	switch {
	case d.hits > hitsMax:
		return "hits_addend: is more than one request may cost"
	case d.decision != "":
		return ""
	case d.negative:
		return "is_negative_hits: needs the entry decision: only what an open admission reserved can be given back"
	case d.ended:
		return `entry "status": needs the entry decision`
	case d.trusted != "" && !trust:
		return `entries "customer" and "key_id": are not taken from this gateway; start tally with --grpc-trust`
	case d.trusted != "" && d.keyed:
		return `entry "key": excludes customer and key_id`
	case d.trusted == "" && !d.keyed:
		return `entry "key": is missing`
	case d.route == "" && (d.method == "" || d.path == ""):
		return `entry "route": is missing, or method and path`
	case d.route != "" && d.path != "":
		return `entry "route": excludes path`
	}
	return ""
}
