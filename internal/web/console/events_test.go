package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// report sends events of a type for a subject; ids are what follows.
func (w *world) report(kind, subject string, ids ...string) {
	w.t.Helper()
	var list []meter.Event
	for _, id := range ids {
		list = append(list, meter.Event{Source: "jobs", ID: id, Type: kind, Subject: subject, Data: []byte(`{"note":"<b>&"}`)})
	}
	if _, err := w.ingest.Report(w.t.Context(), "test", list); err != nil {
		w.t.Fatal(err)
	}
	if err := w.inbox.Tick(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// post sends a form that must be answered with a status, and returns where it leads or the page.
func (w *world) post(status int, path string, form url.Values) (to, body string) {
	w.t.Helper()
	resp := w.call(http.MethodPost, path, form)
	body = text(w.t, resp)
	if resp.StatusCode != status {
		w.t.Fatalf("POST %s: status %d, want %d: %s", path, resp.StatusCode, status, body)
	}
	return resp.Header.Get("Location"), body
}

// listed are the ids of the events on a page, in its order.
func listed(page string) (ids []string) {
	for _, m := range regexp.MustCompile(`data-event="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

func TestEventsPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	w.send("demo_pro", 2)
	w.page("/events") // has them shipped
	w.report("request", "acme", "a1", "a2")
	w.report("requst", "acme", "odd")
	w.report("request", "bolt", "b1")

	all := listed(w.page("/events"))
	if len(all) != 6 || all[0] != "b1" || all[1] != "odd" {
		t.Errorf("newest first: %q", all)
	}
	for query, want := range map[string]string{
		"customer=bolt": "b1", "customer=acme&type=request&meter=api_calls": "6", "type=requst": "odd", "outcome=unmatched": "odd",
		"type=nothing": "", "customer=nobody": "", "unit=nothing": "", "meter=nothing": "",
	} {
		got := listed(w.page("/events?" + query))
		switch {
		case want == "6":
			if len(got) != 4 {
				t.Errorf("%s: %q", query, got)
			}
		case strings.Join(got, " ") != want:
			t.Errorf("%s: %q, want %q", query, got, want)
		}
		if live := listed(w.page("/events/live?" + query)); strings.Join(live, " ") != strings.Join(got, " ") {
			t.Errorf("%s: the live part has %q, the page %q", query, live, got)
		}
	}
	page := w.page("/events")
	if attribute(t, page, "unmatched-total") != "1" || !strings.Contains(page, `data-hx-get="/events/live"`) {
		t.Error("the page does not tell of unmatched events, or does not update")
	}
	if resp := w.call(http.MethodGet, "/events?cursor=x", nil); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a made-up cursor: status %d", resp.StatusCode)
	}
	for range 50 {
		w.send("demo_pro", 1)
	}
	page = w.page("/events?customer=acme")
	next := regexp.MustCompile(`href="(/events\?[^"]*cursor=[^"]*)"`).FindStringSubmatch(page)
	if next == nil || len(listed(page)) != 50 {
		t.Fatalf("%d on the first page, next %q", len(listed(page)), next)
	}
	if rest := listed(w.page(strings.ReplaceAll(next[1], "&amp;", "&"))); len(rest) != 4 {
		t.Errorf("the next page has %q", rest)
	}
}

func TestOneEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	w.send("demo_pro", 1)
	admitted := listed(w.page("/events"))[0]
	w.report("request", "acme", "a1")
	page := w.page("/events/show?source=gateway%2F1&id=" + admitted)
	decision := regexp.MustCompile(`href="(/decisions/[^"]*)"`).FindStringSubmatch(page)
	if decision == nil || !strings.Contains(page, "line 1 of the bill so far") && !strings.Contains(page, "of the bill so far") {
		t.Fatalf("no decision or line on %s", page)
	}
	w.page(decision[1])

	show := "/events/show?id=a1&source=jobs"
	page = w.page(show)
	if strings.Contains(page, "<b>&") || !strings.Contains(page, "&lt;b&gt;") {
		t.Error("data is not escaped")
	}
	identity := func(extra ...string) url.Values {
		form := url.Values{"source": {"jobs"}, "id": {"a1"}, "revision": {regexp.MustCompile(`name="revision" value="(\d+)"`).FindStringSubmatch(w.page(show))[1]}}
		for i := 0; i+1 < len(extra); i += 2 {
			form.Set(extra[i], extra[i+1])
		}
		return form
	}
	old := identity("reason", "sent twice")
	_, body := w.post(http.StatusUnprocessableEntity, "/events/void", identity("reason", " "))
	if !strings.Contains(body, `role="alert"`) || !strings.Contains(body, "reason") {
		t.Errorf("without a reason: %s", body)
	}
	if to, _ := w.post(http.StatusSeeOther, "/events/void", old); to != show {
		t.Errorf("voiding leads to %s", to)
	}
	page = w.page(show)
	if !strings.Contains(page, "voided") || !strings.Contains(page, "operator: sent twice") || strings.Contains(page, `action="/events/void"`) {
		t.Errorf("voided: %s", page)
	}
	if _, body := w.post(http.StatusUnprocessableEntity, "/events/amend", identity("reason", "r", "type", "request", "subject", "nobody", "data", `{}`)); !strings.Contains(body, `value="nobody"`) {
		t.Error("a refused form forgets what was typed")
	}
	old.Set("subject", "bolt")
	old.Set("type", "request")
	if _, body := w.post(http.StatusUnprocessableEntity, "/events/amend", old); !strings.Contains(body, "in the meantime") {
		t.Errorf("an old revision: %s", body)
	}
	w.post(http.StatusSeeOther, "/events/amend", identity("reason", "it was bolt", "type", "request", "subject", "bolt", "data", `{"note":2}`))
	page = w.page(show)
	if !strings.Contains(page, `href="/customers/bolt"`) || !strings.Contains(page, "operator: it was bolt") || !strings.Contains(page, "counts, revised") {
		t.Errorf("amended: %s", page)
	}
	if got := w.page("/customers/bolt"); attribute(t, got, "usage-value") != "1" {
		t.Error("the amendment does not count")
	}
	for path, form := range map[string]url.Values{
		"/events/void": {"source": {"jobs"}, "id": {"nothing"}, "revision": {"0"}, "reason": {"r"}}, "/events/amend": {"source": {"jobs"}, "id": {"a1"}, "revision": {"x"}},
	} {
		if resp := w.call(http.MethodPost, path, form); resp.StatusCode/100 != 4 {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	if resp := w.call(http.MethodPost, "/events/void", url.Values{"reason": {strings.Repeat("x", 1<<19)}}); resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a huge form: status %d", resp.StatusCode)
	}
	if resp := w.call(http.MethodPost, "/events/void", identity("reason", "r"), "Sec-Fetch-Site", "cross-site"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site: status %d", resp.StatusCode)
	}
}

func TestUnmatchedPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	if !strings.Contains(w.page("/events/unmatched"), "There are none") {
		t.Error("an empty inbox does not say so")
	}
	w.report("requst", "acme", "t1", "t2")
	w.report("request", "acmee", "c1")
	page := w.page("/events/unmatched")
	if !strings.Contains(page, "did you mean request?") || !strings.Contains(page, `name="to" value="acme"`) {
		t.Errorf("no suggestions: %s", page)
	}
	if _, body := w.post(http.StatusUnprocessableEntity, "/events/unmatched/fix", url.Values{"cause": {"unknown_customer"}, "value": {"acmee"}, "to": {"nobody"}}); !strings.Contains(body, `role="alert"`) {
		t.Errorf("to nobody: %s", body)
	}
	if _, body := w.post(http.StatusUnprocessableEntity, "/events/unmatched/fix", url.Values{"cause": {"odd"}}); !strings.Contains(body, "cause") {
		t.Errorf("an odd cause: %s", body)
	}
	to, _ := w.post(http.StatusSeeOther, "/events/unmatched/fix", url.Values{"cause": {"unknown_type"}, "value": {"requst"}, "to": {"request"}})
	if to != "/events/unmatched?replayed=2" || !strings.Contains(w.page(to), "<strong>Done:</strong> 2 events counted anew") {
		t.Errorf("leads to %s", to)
	}
	w.post(http.StatusSeeOther, "/events/unmatched/fix", url.Values{"cause": {"unknown_customer"}, "value": {"acmee"}, "to": {"acme"}})
	if !strings.Contains(w.page("/events/unmatched"), "There are none") {
		t.Error("something is left")
	}
	if got := w.page("/customers/acme"); attribute(t, got, "usage-value") != "3" {
		t.Errorf("usage %s", attribute(t, got, "usage-value"))
	}
	// A cause that is mended elsewhere leaves a group that only has to be replayed.
	w.report("requst2", "bolt", "t3")
	if _, err := w.govern.CreateAlias(t.Context(), "op", govern.NewAlias{Kind: "type", From: "requst2", To: "request"}); err != nil {
		t.Fatal(err)
	}
	if page := w.page("/events/unmatched"); !strings.Contains(page, "They would count now") {
		t.Errorf("mended elsewhere: %s", page)
	}
	if to, _ := w.post(http.StatusSeeOther, "/events/unmatched/fix", url.Values{"cause": {"ready"}, "value": {"requst2"}}); to != "/events/unmatched?replayed=1" {
		t.Errorf("leads to %s", to)
	}
}
