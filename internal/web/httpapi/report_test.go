package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// TestOfficialSDK: the CloudEvents SDK for Go sends in all three modes to a real server over TCP, and takes the answers for
// what they are.
func TestOfficialSDK(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.real = time.Now() // connections have deadlines
	w.apply()
	w.subscribe("acme", "free")
	server := httptest.NewServer(w.h)
	t.Cleanup(server.Close)
	target := server.URL + "/v1/events"
	client, err := cloudevents.NewClientHTTP(cehttp.WithTarget(target), cehttp.WithHeader("Authorization", "Bearer "+token))
	if err != nil {
		t.Fatal(err)
	}
	event := func(id string) cloudevents.Event {
		e := cloudevents.NewEvent()
		e.SetID(id)
		e.SetSource("/sdk/go")
		e.SetType("completion")
		e.SetSubject("acme")
		e.SetTime(w.now())
		e.SetExtension("partitionkey", "7")
		if err := e.SetData(cloudevents.ApplicationJSON, map[string]any{"tokens": 1.25, "model": "größer"}); err != nil {
			t.Fatal(err)
		}
		return e
	}
	for id, mode := range map[string]func(t *testing.T) error{
		"structured": func(t *testing.T) error {
			return client.Send(cloudevents.WithEncodingStructured(t.Context()), event("structured"))
		},
		"binary": func(t *testing.T) error {
			return client.Send(cloudevents.WithEncodingBinary(t.Context()), event("binary"))
		},
	} {
		if result := mode(t); !cloudevents.IsACK(result) || cloudevents.IsUndelivered(result) {
			t.Errorf("%s: %v", id, result)
		}
	}
	r, err := cloudevents.NewHTTPRequestFromEvents(t.Context(), target, []cloudevents.Event{event("batch 1"), event("batch 2"), event("binary")})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if a := (answer{resp.StatusCode, resp.Header, body.Bytes()}); a.status != http.StatusOK || a.field(t, "accepted") != 2.0 || a.text(t, "outcomes.2.status") != "duplicate" {
		t.Errorf("batch: %d %s", a.status, a.body)
	}
	// All modes stored the same content, and it counts.
	if u := w.want(http.StatusOK, http.MethodGet, "/v1/usage?customer=acme&meter=tokens", ""); u.text(t, "value") != "5" {
		t.Errorf("%s", u.body)
	}
	// What cannot be taken at all, the SDK learns from the status.
	text := event("text")
	if err := text.SetData(cloudevents.TextPlain, "no object"); err != nil {
		t.Fatal(err)
	}
	if result := client.Send(cloudevents.WithEncodingBinary(t.Context()), text); cloudevents.IsACK(result) {
		t.Errorf("a text as data is %v", result)
	}
}

func packed(t *testing.T, encoding, body string) string {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch encoding {
	case "gzip":
		w := gzip.NewWriter(&b)
		_, err = w.Write([]byte(body))
		if err == nil {
			err = w.Close()
		}
	case "zstd":
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1)); err != nil {
			t.Fatal(err)
		}
		_, err = w.Write([]byte(body))
		if err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestWaysToReport: golden answers, and what was accepted is in the next usage answer, whatever way it came.
func TestWaysToReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("acme", "free")
	event := func(id, subject, tokens string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"shop/1","type":"completion","subject":"` + subject + `","data":{"tokens":` + tokens + `}}`
	}
	lines := event("l/1", "acme", "1") + "\n\nrubbish\n" + event("l/1", "acme", "2") + "\r\n" + event("l/2", "nobody", "1") + "\n" + event("l/1", "acme", "1.00")
	used := 0
	for _, tt := range []struct {
		name, body string
		status     int
		uses       int
		header     []string
	}{
		{"lines", lines, 200, 1, []string{"Content-Type", linesType}},
		{"gzip", packed(t, "gzip", event("g/1", "acme", "2")), 200, 2, []string{"Content-Type", eventType, "Content-Encoding", "gzip"}},
		{"zstd", packed(t, "zstd", "["+event("z/1", "acme", "3")+"]"), 200, 3, []string{"Content-Type", batchType, "Content-Encoding", "zstd"}},
		{"json_list", "[" + event("j/1", "acme", "4") + "]", 200, 4, nil},
		{"binary", `{"tokens":"5"}`, 200, 5, []string{"ce-specversion", "1.0", "ce-id", "b%201", "ce-source", "shop/1", "ce-type", "completion", "ce-subject", "acme"}},
		{"binary_refused", `{"tokens":"5"}`, 200, 0, []string{"ce-specversion", "1.0", "ce-id", "b%2", "ce-source", "shop/1", "ce-type", "completion"}},
		{"bomb", packed(t, "gzip", strings.Repeat("\n", 17<<20)), 413, 0, []string{"Content-Type", linesType, "Content-Encoding", "gzip"}},
		{"bomb_zstd", packed(t, "zstd", strings.Repeat("\n", 17<<20)), 413, 0, []string{"Content-Type", linesType, "Content-Encoding", "zstd"}},
		{"type", "x", 415, 0, []string{"Content-Type", "text/csv"}},
		{"encoding", "x", 415, 0, []string{"Content-Type", eventType, "Content-Encoding", "br"}},
		{"not_packed", "x", 400, 0, []string{"Content-Type", eventType, "Content-Encoding", "gzip"}},
		{"no_event", "7", 422, 0, nil},
	} {
		a := w.want(tt.status, http.MethodPost, "/v1/events", tt.body, tt.header...)
		w.golden("report_"+tt.name, a)
		if tt.name == "encoding" && a.header.Get("Accept-Encoding") != "gzip, zstd" {
			t.Errorf("%v", a.header)
		}
		used += tt.uses
		if u := w.want(http.StatusOK, http.MethodGet, "/v1/usage?customer=acme&meter=tokens", ""); u.text(t, "value") != fmt.Sprint(used) {
			t.Fatalf("after %s: %s, want %d", tt.name, u.body, used)
		}
	}
}

// TestAtomic: one event that is rejected or a conflict, and nothing of the call is stored.
func TestAtomic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("acme", "free")
	event := func(id, tokens string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"shop/1","type":"completion","subject":"acme","data":{"tokens":` + tokens + `}}`
	}
	usage := func(want string) {
		t.Helper()
		if u := w.want(http.StatusOK, http.MethodGet, "/v1/usage?customer=acme&meter=tokens", ""); u.text(t, "value") != want {
			t.Errorf("%s, want %s", u.body, want)
		}
	}
	post := func(status int, path string, events ...string) answer {
		t.Helper()
		return w.want(status, http.MethodPost, path, "["+strings.Join(events, ",")+"]", "Content-Type", batchType)
	}
	post(http.StatusOK, "/v1/events?atomic=true", event("1", "1"), event("2", "2"))
	usage("3")
	w.golden("atomic_unread", post(http.StatusUnprocessableEntity, "/v1/events?atomic=true", event("3", "3"), `{"id":"4"}`))
	w.golden("atomic_rejected", post(http.StatusUnprocessableEntity, "/v1/events?atomic=true", event("3", "3"), event("4", "-4"), event("2", "2")))
	usage("3")
	post(http.StatusOK, "/v1/events?atomic=true&detail=false", event("1", "1"), event("3", "4"))
	usage("7")
	w.golden("atomic_conflict", post(http.StatusUnprocessableEntity, "/v1/events?atomic=true", event("5", "5"), event("1", "9"), event("2", "2")))
	w.golden("atomic_brief", post(http.StatusUnprocessableEntity, "/v1/events?atomic=true&detail=false", event("5", "5"), event("1", "9")))
	usage("7")
	w.want(http.StatusNotFound, http.MethodGet, "/v1/events/5?source=shop%2F1", "")
	many := make([]string, 10_000)
	for i := range many {
		many[i] = event(fmt.Sprint("m", i), "1")
	}
	w.step()
	post(http.StatusUnprocessableEntity, "/v1/events?atomic=true&detail=false", append(slices.Clone(many[1:]), event("1", "9"))...)
	usage("7")
	post(http.StatusOK, "/v1/events?atomic=true&detail=false", many...)
	usage("10007")
}
