package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// tokens is acme's usage of them as the API says.
func (w *world) tokens() any {
	w.t.Helper()
	return w.want(http.StatusOK, http.MethodGet, "/v1/usage?customer=acme&meter=tokens", "").field(w.t, "value")
}

func eventLine(id, eventType, subject, data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","source":"/jobs","id":%q,"type":%q,"subject":%q,"data":%s}`+"\n", id, eventType, subject, data)
}

func (w *world) lines(query string, lines ...string) answer {
	w.t.Helper()
	return w.want(http.StatusOK, http.MethodPost, "/v1/events"+query, strings.Join(lines, ""), "Content-Type", "application/x-ndjson")
}

// wantField checks a field of an answer.
func wantField(t *testing.T, a answer, path string, want any) {
	t.Helper()
	if got := a.field(t, path); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s is %v, want %v: %s", path, got, want, a.body)
	}
}

func TestCorrections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.step()
	w.subscribe("acme", "pro")
	w.step()
	w.lines("", eventLine("a", "completion", "acme", `{"tokens":5}`), eventLine("b", "completion", "acme", `{"tokens":7}`))
	const at = "/v1/events/a/"
	a := w.want(http.StatusOK, http.MethodPost, at+"amend?source=/jobs", `{"reason":"wrong unit","data":{"tokens":12345678901}}`, "Idempotency-Key", "one")
	wantField(t, a, "value", "12345678901")
	wantField(t, a, "data.tokens", 1.2345678901e10)
	again := w.want(http.StatusOK, http.MethodPost, at+"amend?source=/jobs", `{"reason":"wrong unit","data":{"tokens":12345678901}}`, "Idempotency-Key", "one")
	if again.header.Get("Idempotent-Replayed") != "true" || string(again.body) != string(a.body) {
		t.Errorf("a repeated call: %s", again.body)
	}
	if got := w.tokens(); got != "12345678908" {
		t.Errorf("usage after amending: %v", got)
	}
	revision := fmt.Sprintf("%.0f", a.field(t, "revision"))
	conflict := w.want(http.StatusConflict, http.MethodPost, at+"void?source=/jobs", `{"reason":"no","revision":0}`)
	wantField(t, conflict, "code", "conflict")
	v := w.want(http.StatusOK, http.MethodPost, at+"void?source=/jobs", `{"reason":"ran twice","revision":`+revision+`}`)
	wantField(t, v, "voided", true)
	if got := w.tokens(); got != "7" {
		t.Errorf("usage after voiding: %v", got)
	}
	h := w.want(http.StatusOK, http.MethodGet, at+"history?source=/jobs", "")
	wantField(t, h, "items.0.kind", "accepted")
	wantField(t, h, "items.1.reason", "wrong unit")
	wantField(t, h, "items.1.readings.0.value", "12345678901")
	wantField(t, h, "items.2.kind", "void")
	wantField(t, h, "items.2.actor", "operator")
	wantField(t, w.get("/v1/audit"), "items.0.action", "event.void")

	for _, c := range []struct {
		status           int
		path, body, says string
	}{
		{http.StatusNotFound, "/v1/events/a/void", `{"reason":"x"}`, "not_found"}, // of gateway/1
		{http.StatusUnprocessableEntity, at + "void?source=/jobs", `{}`, "/reason"},
		{http.StatusUnprocessableEntity, at + "void?source=/jobs", `{"reason":" "}`, "/reason"},
		{http.StatusUnprocessableEntity, at + "amend?source=/jobs", `{"reason":"x"}`, "names nothing to change"},
		{http.StatusUnprocessableEntity, at + "amend?source=/jobs", `{"reason":"x","data":{"tokens":-1}}`, "/data/tokens"},
		{http.StatusUnprocessableEntity, at + "amend?source=/jobs", `{"reason":"x","time":"2026-01-01T00:00:00Z"}`, "unexpected property"},
		{http.StatusNotFound, "/v1/events/x/history?source=/jobs", "", "not_found"},
	} {
		method := http.MethodPost
		if c.body == "" {
			method = http.MethodGet
		}
		if a := w.want(c.status, method, c.path, c.body); !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s %s does not say %q: %s", c.path, c.body, c.says, a.body)
		}
	}
}

func TestBackfills(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.step()
	w.subscribe("acme", "pro")
	w.step()
	wantField(t, w.want(http.StatusCreated, http.MethodPost, "/v1/backfills", `{"name":"march","reason":"the collector was down"}`), "state", "open")
	wantField(t, w.want(http.StatusConflict, http.MethodPost, "/v1/backfills", `{"name":"march","reason":"again"}`), "code", "already_exists")
	old := strings.Replace(eventLine("old", "completion", "acme", `{"tokens":9}`), `"id"`, `"time":"2018-01-01T00:00:00Z","id"`, 1)
	a := w.lines("?backfill=march", eventLine("a", "completion", "acme", `{"tokens":5}`), eventLine("b", "completion", "nobody", `{"tokens":7}`), old,
		eventLine("c", "completion", "acme", `{"tokens":-1}`))
	wantField(t, a, "accepted", 3)
	wantField(t, a, "rejected", 1)
	wantField(t, w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/events?backfill=", eventLine("z", "completion", "acme", `{}`), "Content-Type", "application/x-ndjson"), "errors.0.pointer", "/backfill")
	wantField(t, w.want(http.StatusNotFound, http.MethodPost, "/v1/events?backfill=none", eventLine("z", "completion", "acme", `{}`), "Content-Type", "application/x-ndjson"), "code", "not_found")
	e := w.get("/v1/events/a?source=/jobs")
	wantField(t, e, "flags.0", "held")
	wantField(t, w.get("/v1/unmatched"), "events", 0)
	if got := w.tokens(); got != "0" {
		t.Errorf("usage while it is open: %v", got)
	}
	p := w.want(http.StatusOK, http.MethodGet, "/v1/backfills/march/preview", "")
	wantField(t, p, "events", 3)
	wantField(t, p, "unmatched", 1)
	wantField(t, p, "items.0.from", "0")
	wantField(t, p, "items.0.to", "9")
	wantField(t, p, "items.1.to", "5")
	wantField(t, w.want(http.StatusAccepted, http.MethodPost, "/v1/backfills/march/close", ""), "state", "closing")
	if _, err := w.correct.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := w.want(http.StatusOK, http.MethodGet, "/v1/backfills/march", "")
	wantField(t, b, "state", "closed")
	wantField(t, b, "progress.counted", 2)
	if got := w.tokens(); got != "5" {
		t.Errorf("usage after closing: %v", got)
	}
	wantField(t, w.want(http.StatusConflict, http.MethodPost, "/v1/events?backfill=march", eventLine("z", "completion", "acme", `{}`), "Content-Type", "application/x-ndjson"), "code", "wrong_state")
	wantField(t, w.want(http.StatusAccepted, http.MethodPost, "/v1/backfills/march/revert", `{"reason":"the wrong file"}`), "state", "reverting")
	if _, err := w.correct.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.tokens(); got != "0" {
		t.Errorf("usage after reverting: %v", got)
	}
	wantField(t, w.get("/v1/backfills"), "items.0.state", "reverted")
	wantField(t, w.get("/v1/backfills/none"), "code", "not_found")
}

func TestUnmatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.step()
	w.subscribe("acme", "pro")
	w.step()
	w.lines("", eventLine("a", "completions", "acme", `{"tokens":5}`), eventLine("b", "completion", "acme corp", `{"tokens":7}`))
	g := w.get("/v1/unmatched")
	wantField(t, g, "items.0.cause", "unknown_customer")
	wantField(t, g, "items.0.value", "acme corp")
	wantField(t, g, "items.1.suggestion", "completion")
	wantField(t, w.get("/v1/unmatched/events?cause=unknown_type&value=completions"), "items.0.id", "a")
	wantField(t, w.want(http.StatusUnprocessableEntity, http.MethodGet, "/v1/unmatched/events?cause=bad", ""), "code", "invalid")
	bad := w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/aliases", `{"kind":"type","from":"completions","to":"complete"}`)
	wantField(t, bad, "errors.0.pointer", "/to")
	w.want(http.StatusCreated, http.MethodPost, "/v1/aliases", `{"kind":"type","from":"completions","to":"tokens"}`) // the meter's key
	wantField(t, w.want(http.StatusCreated, http.MethodPost, "/v1/aliases", `{"kind":"customer","from":"acme corp","to":"acme"}`), "to", "acme")
	dry := w.want(http.StatusOK, http.MethodPost, "/v1/unmatched/replay", `{"dry_run":true}`)
	wantField(t, dry, "replayed", 2)
	done := w.want(http.StatusOK, http.MethodPost, "/v1/unmatched/replay", `{"cause":"unknown_type","value":"completions"}`)
	wantField(t, done, "replayed", 1)
	wantField(t, done, "still_unmatched", 0)
	wantField(t, done, "next", "<nil>")
	w.want(http.StatusOK, http.MethodPost, "/v1/unmatched/replay", `{}`)
	if got := w.tokens(); got != "12" {
		t.Errorf("usage after replaying: %v", got)
	}
	list := w.get("/v1/aliases")
	wantField(t, list, "items.0.from", "acme corp")
	wantField(t, list, "items.1.to", "completion")
	w.want(http.StatusOK, http.MethodDelete, "/v1/aliases?kind=customer&from=acme+corp", "")
	w.want(http.StatusNotFound, http.MethodDelete, "/v1/aliases?kind=customer&from=acme+corp", "")
	wantField(t, w.lines("", eventLine("c", "completion", "acme corp", `{"tokens":7}`)), "unmatched", 1)
}

func TestLateArrivals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.step()
	w.subscribe("acme", "pro")
	w.step()
	w.lines("", eventLine("a", "completion", "acme", `{"tokens":5}`))
	event := w.get("/v1/events/a?source=/jobs")
	wantField(t, w.get("/v1/late"), "items", "[]")
	if _, err := w.clock.Advance(t.Context(), w.clock.Now().AddDate(0, 2, 0)); err != nil {
		t.Fatal(err)
	}
	late := strings.Replace(eventLine("late", "completion", "acme", `{"tokens":30}`), `"id"`, fmt.Sprintf(`"time":%q,"id"`, event.field(t, "time")), 1)
	w.lines("", late)
	a := w.want(http.StatusOK, http.MethodGet, "/v1/late?customer=acme", "")
	wantField(t, a, "items.0.quantity_at_close", "5")
	wantField(t, a, "items.0.change", "30")
	wantField(t, a, "items.0.events", 1)
	start, ok := a.field(t, "items.0.period.start").(string)
	if _, err := time.Parse(time.RFC3339, start); err != nil || !ok {
		t.Fatalf("period %q: %v", start, err)
	}
	events := w.want(http.StatusOK, http.MethodGet, "/v1/late/events?customer=acme&meter=tokens&period="+start, "")
	wantField(t, events, "items.0.id", "late")
	wantField(t, w.want(http.StatusUnprocessableEntity, http.MethodGet, "/v1/late/events?customer=acme&meter=tokens&period=2020-01-01T00:00:00Z", ""), "errors.0.pointer", "/period")
	w.want(http.StatusNotFound, http.MethodGet, "/v1/late?customer=nobody", "")
	w.want(http.StatusBadRequest, http.MethodGet, "/v1/late?cursor=bad", "")
}
