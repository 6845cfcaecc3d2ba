package gateway

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// frameOf is an HTTP/2 frame as bytes.
func frameOf(kind, flags byte, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// A client that opens streams and resets each at once (CVE-2023-44487) keeps no others from being served, and leaves nothing
// behind: each of its requests that was admitted is given back.
func TestRapidReset(t *testing.T) {
	var running, most atomic.Int64
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Fast") != "" {
			return
		}
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			runtime.Gosched()
		}
		<-r.Context().Done()
	})
	w := newWorld(t)
	w.declare(2, "1000000", catalog.Route{Match: "GET /hello", Upstream: url})
	l := w.open(100)
	before := runtime.NumGoroutine()

	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	over := make(chan struct{}) // the server has closed the connection, or has come to the attack's end
	go func() {
		defer close(over)
		for head := make([]byte, 9); ; {
			if _, err := io.ReadFull(c, head); err != nil || head[3] == 6 { // 6: the answer to our ping
				return
			}
			if _, err := io.CopyN(io.Discard, c, int64(head[0])<<16|int64(head[1])<<8|int64(head[2])); err != nil {
				return
			}
		}
	}()
	field := func(b []byte, index []byte, value string) []byte {
		return append(append(append(b, index...), byte(len(value))), value...)
	}
	head := field([]byte{0x82, 0x86}, []byte{0x04}, "/hello") // GET, http, :path
	head = field(head, []byte{0x01}, "x")                     // :authority
	head = field(head, []byte{0x0f, 0x08}, "Bearer good")     // authorization
	attack := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frameOf(4, 0, 0, nil)...)
	const streams = 5000
	for i := range uint32(streams) {
		attack = append(attack, frameOf(1, 5, 2*i+1, head)...) // END_STREAM, END_HEADERS
		attack = append(attack, frameOf(3, 0, 2*i+1, []byte{0, 0, 0, 8})...)
	}
	attack = append(attack, frameOf(6, 0, 0, make([]byte, 8))...)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = c.Write(attack) // the server may close the connection before its end
	}()

	peak, others := 0, 0
	for end := time.Now().Add(60 * time.Second); ; {
		peak = max(peak, runtime.NumGoroutine())
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/hello", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Authorization": {"Bearer good"}, "X-Fast": {"1"}}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("another client: %v %v", resp, err)
		}
		_ = resp.Body.Close() // it is empty
		others++
		select {
		case <-over:
		default:
			if time.Now().Before(end) {
				continue
			}
			t.Error("the server takes the attack for 60 s")
		}
		break
	}
	_ = c.Close() // what is still open ends
	<-sent
	if err := w.e.Settled(t.Context(), w.now); err != nil {
		t.Fatal(err)
	}
	if s := w.e.Stats(); s.Open != 0 || s.Settled != int64(others) || s.Admitted != s.Settled+s.Released {
		t.Errorf("%+v, want %d settled and the rest released", s, others)
	}
	if most.Load() > streamsMax {
		t.Errorf("%d requests at once reached the API", most.Load())
	}
	if peak > before+8*streamsMax {
		t.Errorf("%d goroutines at most, %d before", peak, before)
	}
	t.Logf("%d others were served meanwhile; at most %d goroutines, %d requests at the API; %d of %d streams were admitted", others, peak, most.Load(), w.e.Stats().Released, streams)
}
