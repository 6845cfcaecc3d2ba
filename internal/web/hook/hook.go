// Package hook posts notices to webhooks.
package hook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// answerMax is how much of an answer is read, so that the connection can be used again.
const answerMax = 64 << 10

// Client posts over HTTP. Redirects are not followed: a receiver that moved is to be registered anew.
type Client struct{ http *http.Client }

// New makes a client with connections of its own.
func New() *Client {
	return &Client{http: &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  10 * time.Second,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Send implements notify.Sender.
func (c *Client) Send(ctx context.Context, url string, header map[string]string, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("request: %w", err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", "tallystick")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()                         // nothing is written through it
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, answerMax)) // what it says does not matter
	return resp.StatusCode, nil
}
