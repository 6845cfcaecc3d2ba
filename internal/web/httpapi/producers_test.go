package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

func eventOf(source, id, kind string) string {
	return `{"specversion":"1.0","source":"` + source + `","id":"` + id + `","type":"` + kind + `","subject":"acme","data":{"tokens":5}}`
}

func TestProducers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("acme", "pro")
	made := w.want(http.StatusCreated, http.MethodPost, "/v1/producers", `{"key":"jobs","sources":["jobs/*"],"types":["completion"]}`)
	id, secret, first := made.text(t, "id"), made.text(t, "secret"), made.text(t, "token")
	as := func(secret string) []string { return []string{"Authorization", "Bearer " + secret} }
	report := func(secret string, events ...string) answer {
		t.Helper()
		return w.call(http.MethodPost, "/v1/events", "["+strings.Join(events, ",")+"]", append(as(secret), "Content-Type", "application/cloudevents-batch+json")...)
	}

	// Its neighbours are not touched by an event outside what the token may send.
	a := report(secret, eventOf("jobs/a", "1", "completion"), eventOf("cron", "2", "completion"), eventOf("jobs/a", "3", "request"), eventOf("jobs/b", "4", "completion"))
	if a.status != http.StatusOK || a.field(t, "accepted") != 2.0 || a.field(t, "rejected") != 2.0 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for path, want := range map[string]string{
		"outcomes.0.status": "accepted", "outcomes.1.status": "rejected", "outcomes.1.pointer": "/source", "outcomes.1.id": "2",
		"outcomes.1.fix": "this token is for jobs/*", "outcomes.2.pointer": "/type", "outcomes.2.fix": "this token is for completion", "outcomes.3.status": "accepted",
	} {
		if got := a.text(t, path); got != want {
			t.Errorf("%s is %q, want %q: %s", path, got, want, a.body)
		}
	}
	if got := w.want(http.StatusOK, http.MethodGet, "/v1/usage?customer=acme&meter=tokens", "").text(t, "value"); got != "10" {
		t.Errorf("metered %s", got)
	}

	// The operator may not send for it, and another producer may not have it.
	a = w.want(http.StatusOK, http.MethodPost, "/v1/events", eventOf("jobs/a", "9", "completion"))
	if a.text(t, "outcomes.0.pointer") != "/source" || !strings.Contains(a.text(t, "outcomes.0.rule"), `"jobs"`) {
		t.Errorf("the operator's: %s", a.body)
	}
	a = w.want(http.StatusUnprocessableEntity, http.MethodPost, "/v1/producers", `{"key":"other","sources":["jobs/a"],"types":["*"]}`)
	if a.text(t, "errors.0.pointer") != "/sources/0" || !strings.Contains(a.text(t, "errors.0.rule"), `"jobs"`) {
		t.Errorf("overlap: %s", a.body)
	}

	// It opens nothing else.
	for _, tc := range [][2]string{
		{http.MethodGet, "/v1/events"},
		{http.MethodGet, "/v1/producers"},
		{http.MethodPost, "/v1/producers/jobs/rotate"},
		{http.MethodPost, "/v1/events/"},
		{http.MethodGet, "/v1/nowhere"},
	} {
		if a := w.call(tc[0], tc[1], "", as(secret)...); a.status != http.StatusForbidden || a.text(t, "code") != "token_scope" {
			t.Errorf("%v: %d %s", tc, a.status, a.body)
		}
	}

	// Nor does it load a backfill, which takes events of ten years ago.
	w.want(http.StatusCreated, http.MethodPost, "/v1/backfills", `{"name":"march","reason":"an outage"}`)
	a = w.call(http.MethodPost, "/v1/events?backfill=march", eventOf("jobs/a", "6", "completion"), append(as(secret), "Content-Type", "application/cloudevents+json")...)
	if a.status != http.StatusForbidden || a.text(t, "code") != "token_scope" {
		t.Errorf("backfill: %d %s", a.status, a.body)
	}

	rotated := w.want(http.StatusOK, http.MethodPost, "/v1/producers/jobs/rotate", "")
	if rotated.text(t, "replaces") != first {
		t.Errorf("rotated: %s", rotated.body)
	}
	w.want(http.StatusConflict, http.MethodPost, "/v1/producers/"+id+"/rotate", "")
	w.want(http.StatusOK, http.MethodPost, "/v1/producers/jobs/revoke", `{"token":"`+first+`"}`)
	wantCode := func(secret, code string) {
		t.Helper()
		if a := report(secret, eventOf("jobs/a", "5", "completion")); a.status != http.StatusUnauthorized || a.text(t, "code") != code {
			t.Errorf("%d %s, want %s", a.status, a.body, code)
		}
	}
	wantCode(secret, "token_revoked")
	if a := report(rotated.text(t, "secret"), eventOf("jobs/a", "5", "completion")); a.status != http.StatusOK {
		t.Errorf("the new token: %d %s", a.status, a.body)
	}
	wantCode("tally_prd_"+strings.Repeat("x", 49), "token_unknown")
	wantCode(secret[:len(secret)-1]+"-", "token_unknown")
	w.want(http.StatusOK, http.MethodPost, "/v1/producers/jobs/revoke", "")
	wantCode(rotated.text(t, "secret"), "token_revoked")
	if got := w.want(http.StatusOK, http.MethodGet, "/v1/producers/"+id, ""); got.text(t, "status") != "revoked" || strings.Contains(string(got.body), secret) {
		t.Errorf("shown: %s", got.body)
	}
	w.want(http.StatusOK, http.MethodPost, "/v1/events", eventOf("jobs/a", "9", "completion")) // free again
	if list := w.get("/v1/producers?limit=1"); list.text(t, "items.0.key") != "jobs" || list.field(t, "next") != nil {
		t.Errorf("list: %s", list.body)
	}
	w.want(http.StatusNotFound, http.MethodGet, "/v1/producers/nobody", "")
	if strings.Contains(w.log.String(), secret) {
		t.Error("a secret is in the log")
	}
}

// TestRepeatedReports: two producers may use the same Idempotency-Key.
func TestRepeatedReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	for _, key := range []string{"a", "b"} {
		secret := w.want(http.StatusCreated, http.MethodPost, "/v1/producers", `{"key":"`+key+`","sources":["`+key+`"],"types":["*"]}`).text(t, "secret")
		for i, replayed := range []string{"", "true"} {
			a := w.want(http.StatusOK, http.MethodPost, "/v1/events", eventOf(key, "1", "completion"), "Authorization", "Bearer "+secret, "Idempotency-Key", "k")
			if got := a.header.Get("Idempotent-Replayed"); got != replayed || a.text(t, "outcomes.0.status") != "unmatched" {
				t.Errorf("%s, call %d: replayed %q: %s", key, i, got, a.body)
			}
		}
	}
}
