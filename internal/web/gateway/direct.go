package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/web/gateway/wire"
)

// uploadMax bounds the body of a request that is read before it is sent. Larger ones stream by the standard way.
const uploadMax = 64 << 10

// target is an upstream in clear text, as bytes.
type target struct {
	address string // host:port
	host    string // of the Host field
	prefix  string // of the path, escaped
}

// plainTarget says how to reach an upstream over plain connections; nil: it cannot be.
func plainTarget(u *url.URL) *target {
	if u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Opaque != "" || u.Host == "" || !plainHost(u.Host) {
		return nil
	}
	t := &target{host: u.Host, address: net.JoinHostPort(u.Hostname(), "80"), prefix: strings.TrimSuffix(u.EscapedPath(), "/")}
	if port := u.Port(); port != "" {
		t.address = net.JoinHostPort(u.Hostname(), port)
	}
	return t
}

func plainHost(h string) bool {
	for i := range len(h) {
		if c := h[i]; c <= ' ' || c >= 0x7f || c == '%' {
			return false
		}
	}
	return !strings.HasSuffix(h, ":")
}

// direct forwards plain HTTP/1.1 requests over connections of our own.
type direct struct {
	g      *Gateway
	client *wire.Client
	memory sync.Pool // of *memory
}

// memory is what one exchange needs in passing.
type memory struct {
	head   []byte
	body   []byte
	req    wire.Request
	w      http.ResponseWriter
	inform func(status int, h http.Header)
}

// informed passes an answer 1xx on; its fields are in the writer's header already.
func (m *memory) informed(status int, _ http.Header) { m.w.WriteHeader(status) }

func (d *direct) take() *memory {
	m, ok := d.memory.Get().(*memory)
	if !ok {
		m = &memory{}
		m.inform = m.informed
	}
	return m
}

func (d *direct) give(m *memory) {
	m.w, m.req = nil, wire.Request{}
	d.memory.Put(m)
}

func newDirect(g *Gateway) *direct {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &direct{g: g, client: wire.New(wire.Config{Dial: dialer.DialContext, Now: g.cfg.Now})}
}

// plain says whether the request can be sent as a head and a short body of known length.
func plain(r *http.Request) bool {
	if r.ContentLength < 0 || r.ContentLength > uploadMax || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0 || r.URL.Opaque != "" ||
		!strings.HasPrefix(r.URL.Path, "/") {
		return false
	}
	h := r.Header
	return h["Upgrade"] == nil && h["Expect"] == nil && h["Te"] == nil && plainQuery(r.URL.RawQuery)
}

// plainQuery says that every reader sees the same parameters. Others are cleaned by the standard way.
func plainQuery(q string) bool {
	for i := 0; i < len(q); i++ {
		switch c := q[i]; {
		case c == ';' || c <= ' ' || c == 0x7f:
			return false
		case c == '%':
			if i+2 >= len(q) || !hex(q[i+1]) || !hex(q[i+2]) {
				return false
			}
			i += 2
		}
	}
	return true
}

func hex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func (d *direct) forward(w http.ResponseWriter, r *http.Request, x *exchange) bool {
	t := x.route.direct
	if t == nil || !plain(r) {
		return false
	}
	m := d.take()
	defer d.give(m)
	var ok bool
	if m.head, ok = d.g.head(m.head[:0], r, x, t); !ok {
		return false
	}
	m.body = m.body[:0]
	if r.ContentLength > 0 {
		if err := m.read(r); err != nil {
			d.g.failed(w, r, x, err)
			return true
		}
	}
	h := w.Header()
	m.req = wire.Request{
		Head: m.head, Body: m.body, NoBody: r.Method == http.MethodHead, Timeout: x.route.Timeout, Header: h,
		Inform: m.inform,
	}
	m.w = w
	resp, err := d.client.Do(r.Context(), t.address, &m.req)
	if err != nil {
		clear(h)
		d.g.failed(w, r, x, err)
		return true
	}
	d.answer(w, r, x, resp)
	return true
}

// read takes the whole body in, and its end with it.
func (m *memory) read(r *http.Request) error {
	n := int(r.ContentLength)
	if cap(m.body) < n {
		m.body = make([]byte, n)
	}
	m.body = m.body[:n]
	if _, err := io.ReadFull(r.Body, m.body); err != nil {
		return err
	}
	var end [1]byte
	if n, err := r.Body.Read(end[:]); n > 0 || err != io.EOF {
		return errors.Join(errBody, err)
	}
	return nil
}

var errBody = errors.New("the request body has no end where it should")

// answer passes the upstream's answer on.
func (d *direct) answer(w http.ResponseWriter, r *http.Request, x *exchange, resp *wire.Response) {
	h := w.Header()
	bodied := resp.Length != 0 && r.Method != http.MethodHead && resp.Status != http.StatusNoContent && resp.Status != http.StatusNotModified
	if err := d.g.answered(x, resp.Status, h, bodied); err != nil {
		_ = resp.Close() // the answer is not used
		clear(h)
		d.g.failed(w, r, x, err)
		return
	}
	if len(resp.Announced) > 0 {
		h["Trailer"] = resp.Announced
	}
	b := x.track(d.g, resp, resp.Length)
	defer func() { _ = b.Close() }() // of a panic; else it is closed
	w.WriteHeader(resp.Status)
	if !bodied {
		b.done = true
		_ = b.Close() // it is whole
		return
	}
	err := d.copy(w, b, resp, resp.Length < 0 || strings.HasPrefix(h.Get("Content-Type"), "text/event-stream"))
	if err == nil {
		trailers(h, resp)
	}
	if cerr := b.Close(); err != nil || cerr != nil {
		panic(http.ErrAbortHandler) // the client must see that the answer is not whole
	}
}

// copy passes the body on; a stream without delay.
func (d *direct) copy(w http.ResponseWriter, b *body, resp *wire.Response, stream bool) error {
	var flush func() error
	if stream {
		flush = http.NewResponseController(w).Flush
		if !resp.Buffered() {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	buf := d.g.buffers.Get()
	defer d.g.buffers.Put(buf)
	for {
		n, err := b.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
			if stream {
				if ferr := flush(); ferr != nil {
					return ferr
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// trailers passes on what came after the body.
func trailers(h http.Header, resp *wire.Response) {
	for name, values := range resp.Trailer {
		if !announced(resp.Announced, name) {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

func announced(names []string, name string) bool {
	return slices.Contains(names, name)
}

// head writes the request to the upstream: never with the caller's key, nor with Tally-* of the caller's making. It says false for
// a request that it cannot write.
func (g *Gateway) head(b []byte, r *http.Request, x *exchange, t *target) ([]byte, bool) {
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, t.prefix...), r.URL.EscapedPath()...)
	if r.URL.ForceQuery || r.URL.RawQuery != "" {
		b = append(append(b, '?'), r.URL.RawQuery...)
	}
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), t.host...), "\r\n"...)
	var ok bool
	connection := r.Header["Connection"]
	for name, values := range r.Header {
		if dropped(name) || ours(name) || disguised(name) || sameName(name, x.keyHeader) || len(connection) > 0 && listed(connection, name) {
			continue
		}
		for _, v := range values {
			if b, ok = field(b, name, v); !ok {
				return b, false
			}
			if name == "User-Agent" {
				break
			}
		}
	}
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if g.trusted(r.RemoteAddr) {
			if prior := r.Header["X-Forwarded-For"]; len(prior) > 0 {
				ip = strings.Join(prior, ", ") + ", " + ip
			}
		}
		if b, ok = field(b, "X-Forwarded-For", ip); !ok {
			return b, false
		}
	}
	if b, ok = field(b, "X-Forwarded-Host", r.Host); !ok {
		return b, false
	}
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	b, _ = field(b, "X-Forwarded-Proto", proto)
	if b, ok = field(b, "Tally-Customer", x.Principal.Customer.Key); !ok {
		return b, false
	}
	if b, ok = field(b, "Tally-Key-Id", x.Principal.Key.ID); !ok {
		return b, false
	}
	if r.ContentLength > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10), "\r\n"...)
	}
	return append(b, "\r\n"...), true
}

// field writes one line; false for a value that would make another line.
func field(b []byte, name, value string) ([]byte, bool) {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return b, false
		}
	}
	return append(append(append(append(b, name...), ": "...), value...), "\r\n"...), true
}

// dropped are the fields that belong to one connection, and those that the head makes anew. Names are canonical.
func dropped(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Host", "Content-Length", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
		return true
	}
	return false
}

// listed says whether a Connection field names a header.
func listed(connection []string, name string) bool {
	for _, v := range connection {
		for n := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(n), name) {
				return true
			}
		}
	}
	return false
}
