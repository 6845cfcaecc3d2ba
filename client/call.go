package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	answerMax   = 32 << 20 // bytes of an answer that are read
	problemMax  = 64 << 10
	attemptsMax = 4
	backoff     = 100 * time.Millisecond
	backoffMax  = 5 * time.Second
	waitMax     = 30 * time.Second // a Retry-After above is not waited for
)

// call is one call to the server.
type call struct {
	method, path string
	body         any    // nil: none
	contentType  string // default: application/json
	token        string // default: the client's
	repeat       string // Idempotency-Key; empty: none
	patient      bool   // wait and repeat on 429, too
}

// errUnreachable: no answer came, or one that the server was not able to decide.
var errUnreachable = errors.New("the server cannot be reached")

// errShut: the call was not made.
var errShut = errors.New("it did not answer several times in a row")

// once makes a call. Its errors are *Problem, or wrap errUnreachable. The breaker hears of it.
func (c *Client) once(ctx context.Context, q call, out any) error {
	if !c.breaker.enter(c.cfg.Now()) {
		return fmt.Errorf("client: %w: %w", errUnreachable, errShut)
	}
	c.stats.calls.Add(1)
	err := c.send(ctx, q, out)
	var p *Problem
	answered := err == nil || errors.As(err, &p) && p.Status < http.StatusInternalServerError
	c.breaker.leave(c.cfg.Now(), answered, errors.Is(err, context.Canceled))
	if err != nil && p == nil {
		return fmt.Errorf("client: %s %s: %w: %w", q.method, q.path, errUnreachable, err)
	}
	return err
}

func (c *Client) send(ctx context.Context, q call, out any) error {
	var body io.Reader
	if q.body != nil {
		b, err := json.Marshal(q.body)
		if err != nil {
			return newProblem(http.StatusUnprocessableEntity, "invalid", err.Error(), "")
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, q.method, c.cfg.URL+q.path, body)
	if err != nil {
		return err
	}
	token := q.token
	if token == "" {
		token = c.cfg.Token
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
		if q.contentType != "" {
			r.Header.Set("Content-Type", q.contentType)
		}
	}
	if q.repeat != "" {
		r.Header.Set("Idempotency-Key", q.repeat)
	}
	resp, err := c.cfg.HTTP.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	if resp.StatusCode >= http.StatusMultipleChoices {
		return problemOf(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// problemOf reads an error answer. One that is no problem of ours came from something in between.
func problemOf(resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, problemMax))
	if err != nil {
		return err
	}
	p := &Problem{}
	if json.Unmarshal(b, p) != nil || p.Code == "" {
		p = newProblem(resp.StatusCode, "unavailable", "The server's address answered "+strconv.Itoa(resp.StatusCode)+", and it is not a Tallystick that did.", "Check the URL.")
	}
	p.Status = resp.StatusCode
	p.RateLimitPolicy, p.RateLimit = resp.Header.Get("RateLimit-Policy"), resp.Header.Get("RateLimit")
	return p
}

// try makes a call that may be repeated, with growing pauses, until it is answered, refused, or ctx ends.
func (c *Client) try(ctx context.Context, q call, out any) error {
	for attempt := 1; ; attempt++ {
		err := c.once(ctx, q, out)
		pause, again := repeatable(err, q.patient)
		if !again || attempt == attemptsMax || ctx.Err() != nil {
			return err
		}
		pause = max(pause, jitter(min(backoff<<(attempt-1), backoffMax)))
		if end, ok := ctx.Deadline(); ok && c.cfg.Now().Add(pause).After(end) {
			return err
		}
		if !c.pause(ctx, pause) {
			return err
		}
	}
}

// repeatable says whether a repetition may help, and how long the server wants to be left alone.
func repeatable(err error, patient bool) (time.Duration, bool) {
	var p *Problem
	switch {
	case err == nil:
		return 0, false
	case !errors.As(err, &p):
		return 0, true
	case p.Status == http.StatusServiceUnavailable, p.Status == http.StatusTooManyRequests && patient && p.Retryable,
		p.Code == "idempotency_in_progress":
		return p.wait(), p.wait() <= waitMax
	}
	return 0, false
}

// pause waits; false when the context or the client ended first.
func (c *Client) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-c.closing:
		return false
	}
}

func repeatKey() string { return rand.Text() }
