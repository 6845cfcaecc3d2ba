// Command gateway measures the gateway (key, five limits, metering) against a bare reverse proxy of net/http and, where it is installed,
// nginx with limit_req, over the same upstream, in one run: rounds alternate, and upstream, proxies and load are processes of their
// own. It then measures latencies at half load, a customer beside one who floods, and a million unknown keys.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"github.com/tallystick/tallystick/internal/web/gateway"
)

func main() {
	var err error
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	switch role {
	case "upstream":
		err = serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"hello":"world"}`) // the client may be gone
		}))
	case "bare":
		err = bare(os.Args[2])
	case "load":
		err = sendLoad(os.Args[2:])
	default:
		err = compare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// serve listens on a free port, prints it and serves until standard input ends.
func serve(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		os.Exit(0)
	}()
	return (&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}).Serve(l)
}

// bare is the floor: the standard reverse proxy with the gateway's own transport and buffers.
func bare(upstream string) error {
	target, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	return serve(&httputil.ReverseProxy{
		Rewrite:    func(pr *httputil.ProxyRequest) { pr.SetURL(target); pr.SetXForwarded() },
		Transport:  gateway.NewTransport(30 * time.Second),
		BufferPool: gateway.NewBufferPool(),
	})
}
