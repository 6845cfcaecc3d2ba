package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/internal/cli/problem"
)

// answerMax bounds what a command reads of an answer.
const answerMax = 64 << 20

// client speaks /v1 for the commands.
type client struct {
	Endpoint
	http     *http.Client
	backfill string // that reported events are loaded into; empty: none
}

// newClient finds the server: an explicit --dir beats TALLY_URL, which beats ./tally-data.
func newClient(e *Env) (*client, error) {
	ep, err := findServer(e)
	if err != nil {
		return nil, err
	}
	return &client{Endpoint: ep, http: &http.Client{Transport: ep.transport(), Timeout: 10 * time.Minute}}, nil
}

func findServer(e *Env) (Endpoint, error) {
	if u := os.Getenv("TALLY_URL"); u != "" && e.Dir == "" {
		return Endpoint{API: strings.TrimSuffix(u, "/"), Gateway: os.Getenv("TALLY_GATEWAY_URL"), Token: os.Getenv("TALLY_TOKEN")}, nil
	}
	path := filepath.Join(e.DataDir(), "client.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Endpoint{}, fmt.Errorf("no server found: %s does not exist; start one with `tally demo` or `tally serve`, name its folder with --dir, or set TALLY_URL and TALLY_TOKEN", path)
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("read %s: %w", path, err)
	}
	var ep Endpoint
	if err := json.Unmarshal(b, &ep); err != nil {
		return Endpoint{}, fmt.Errorf("%s is damaged; restart the server to write it anew: %w", path, err)
	}
	if g := os.Getenv("TALLY_GATEWAY_URL"); g != "" {
		ep.Gateway = g
	}
	return ep, nil
}

// do sends a request and returns the JSON answer; a problem comes back as *problem.Answer.
func (c *client) do(ctx context.Context, method, path string, query url.Values, contentType string, body []byte) (json.RawMessage, error) {
	u := c.API + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Idempotency-Key", rand.Text())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreached(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to the end or the command fails
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		p := &problem.Answer{Status: resp.StatusCode, Title: resp.Status}
		_ = json.Unmarshal(b, p) // an answer that is no problem document still has its status
		return nil, p
	}
	return b, nil
}

// unreached says why there is no answer: nobody listens, or something else went wrong on the way.
func (c *client) unreached(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("the server at %s does not answer; is it running? (%w)", c.API, err)
	}
	return fmt.Errorf("no answer from the server at %s: %w", c.API, err)
}

func (c *client) get(ctx context.Context, path string, query url.Values) (json.RawMessage, error) {
	return c.do(ctx, http.MethodGet, path, query, "", nil)
}

func (c *client) post(ctx context.Context, path string, body any) (json.RawMessage, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, http.MethodPost, path, nil, "application/json", b)
}

// all reads every page of a list into one document.
func (c *client) all(ctx context.Context, path string, query url.Values, limit int) (json.RawMessage, error) {
	if query == nil {
		query = url.Values{}
	}
	out := list{Items: []json.RawMessage{}}
	for {
		query.Set("limit", fmt.Sprint(min(1000, limit-len(out.Items))))
		b, err := c.get(ctx, path, query)
		if err != nil {
			return nil, err
		}
		var page list
		if err := json.Unmarshal(b, &page); err != nil {
			return nil, fmt.Errorf("read the list: %w", err)
		}
		out.Items = append(out.Items, page.Items...)
		if page.Next == nil || len(out.Items) >= limit {
			out.Next = page.Next
			return json.Marshal(out)
		}
		query.Set("cursor", *page.Next)
	}
}

// gather reads all pages of a document whose elements are in one field, into the first page's document.
func (c *client) gather(ctx context.Context, path string, query url.Values, field string, limit int) (json.RawMessage, error) {
	var out map[string]json.RawMessage
	elements := []json.RawMessage{}
	for {
		query.Set("limit", fmt.Sprint(max(1, min(1000, limit-len(elements)))))
		b, err := c.get(ctx, path, query)
		if err != nil {
			return nil, err
		}
		var doc map[string]json.RawMessage
		var page []json.RawMessage
		var next *string
		if err := errors.Join(json.Unmarshal(b, &doc), json.Unmarshal(doc[field], &page), json.Unmarshal(doc["next"], &next)); err != nil {
			return nil, fmt.Errorf("the server's answer is not understood: %w", err)
		}
		if out == nil {
			out = doc
		}
		elements = append(elements, page...)
		if next == nil || len(elements) >= limit {
			if out[field], err = json.Marshal(elements); err != nil {
				return nil, err
			}
			out["next"] = doc["next"]
			return json.Marshal(out)
		}
		query.Set("cursor", *next)
	}
}

type list struct {
	Items []json.RawMessage `json:"items"`
	Next  *string           `json:"next"`
}

// decode reads an answer into a value.
func decode(b json.RawMessage, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the server's answer is not understood: %w", err)
	}
	return nil
}
