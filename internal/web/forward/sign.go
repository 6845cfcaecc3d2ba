package forward

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/tallystick/tallystick/internal/web/answer"
)

// Headers between servers. Those that come from elsewhere are taken off.
const (
	passedHeader    = "Tally-Passed-On"
	notLeaderHeader = "Tally-Not-Leader"
)

// What a server tells of the connection on which it got a request.
const (
	lineClear    = "clear"
	lineTLS      = "tls"
	lineVerified = "verified" // the client showed a certificate that one of --gateway-ca signed
)

// mac vouches for a request that was passed on: for its caller's address and line, its method and path.
func (f *Front) mac(r *http.Request, remote, line string) string {
	m := hmac.New(sha256.New, f.key)
	_, _ = m.Write([]byte(strings.Join([]string{remote, line, r.Method, r.URL.Path}, "\n"))) // a hash never fails
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// sign says that a server of this deployment passes a request on, and from whom it came.
func (f *Front) sign(in, out *http.Request) {
	line := lineClear
	if in.TLS != nil {
		line = lineTLS
		if len(in.TLS.VerifiedChains) > 0 {
			line = lineVerified
		}
	}
	out.Header.Set(passedHeader, in.RemoteAddr+" "+line+" "+f.mac(in, in.RemoteAddr, line))
}

// received finds out whether another server of the deployment passed a request on. It then looks as if it had come directly.
func (f *Front) received(r *http.Request) (passed bool, _ *http.Request) {
	text := r.Header.Get(passedHeader)
	if text == "" {
		return false, r
	}
	r = r.Clone(r.Context())
	r.Header.Del(passedHeader)
	part := strings.Split(text, " ")
	if len(part) != 3 || !hmac.Equal([]byte(part[2]), []byte(f.mac(r, part[0], part[1]))) {
		return false, r
	}
	r.RemoteAddr, r.TLS = part[0], nil
	switch part[1] {
	case lineTLS:
		r.TLS = &tls.ConnectionState{}
	case lineVerified:
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}}}
	}
	return true, r
}

// What the header of that name says.
const (
	notLeading = "1"
	notHere    = "elsewhere" // this server leads, and what the request is about is with one that is not there
)

// notLeader answers a server that took this one for the leader, or that must wait: see Elsewhere.
func (f *Front) notLeader(w http.ResponseWriter, away bool) {
	w.Header().Set(notLeaderHeader, notLeading)
	if away {
		w.Header().Set(notLeaderHeader, notHere)
	}
	w.Header().Set("Connection", "close") // the body is not read
	answer.Write(w, answer.Problem{
		Code: "no_leader", Status: http.StatusServiceUnavailable, Detail: "This server does not lead.", Fix: "Try again soon.", Retryable: true, RetryAfter: 1,
	})
}
