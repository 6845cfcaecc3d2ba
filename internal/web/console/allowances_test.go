package console_test

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

func TestOverridesAndGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	set := url.Values{"limit": {"daily"}, "value": {"5"}, "reason": {"<b>launch"}, "for": {"24h"}}
	if to, _ := w.post(http.StatusSeeOther, "/customers/bolt/overrides", set); !strings.HasPrefix(to, "/login") {
		t.Errorf("without a session: %s", to)
	}
	w.signIn()
	if resp := w.call(http.MethodPost, "/customers/bolt/overrides", set, "Sec-Fetch-Site", "cross-site"); text(t, resp) == "" || resp.StatusCode != http.StatusForbidden {
		t.Errorf("from another site: status %d", resp.StatusCode)
	}
	w.post(http.StatusNotFound, "/customers/nobody/overrides", set)
	for field, value := range map[string]string{"limit": "none", "value": "much", "reason": " ", "for": "-1h"} {
		bad := maps.Clone(set)
		bad.Set(field, value)
		if _, page := w.post(http.StatusUnprocessableEntity, "/customers/bolt/overrides", bad); !strings.Contains(page, `role="alert"`) || !strings.Contains(page, "<details open>") {
			t.Errorf("%s %q is not told", field, value)
		}
	}
	if to, _ := w.post(http.StatusSeeOther, "/customers/bolt/overrides", set); to != "/customers/bolt#overrides-title" {
		t.Errorf("leads to %s", to)
	}
	page := w.page("/customers/bolt")
	for _, want := range []string{"operator: &lt;b&gt;launch", ">override<", "of 5</span>", "until 16 Oct 2026 12:00"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	id, _, _ := strings.Cut(strings.SplitN(page, `data-override="`, 2)[1], `"`)
	w.post(http.StatusSeeOther, "/customers/bolt/overrides/end", url.Values{"id": {id}})
	w.post(http.StatusNotFound, "/customers/bolt/overrides/end", url.Values{"id": {"ovr_none"}})
	if page = w.page("/customers/bolt"); !strings.Contains(page, ">ended<") || !strings.Contains(page, "of 3</span>") {
		t.Error("the override has not ended")
	}
	grant := url.Values{"meter": {"api_calls"}, "amount": {"1000"}, "reason": {"prepaid"}}
	w.post(http.StatusSeeOther, "/customers/bolt/grants", grant)
	grant.Set("amount", "-1")
	if _, page = w.post(http.StatusUnprocessableEntity, "/customers/bolt/grants", grant); strings.Count(page, `role="alert"`) != 1 {
		t.Error("a grant below 0 is not told once")
	}
	if page = w.page("/customers/bolt"); !strings.Contains(page, "operator: prepaid") {
		t.Error("the grant is not shown")
	}
	id, _, _ = strings.Cut(strings.SplitN(page, `data-grant="`, 2)[1], `"`)
	w.post(http.StatusSeeOther, "/customers/bolt/grants/void", url.Values{"id": {id}, "reason": {"test"}})
	w.post(http.StatusNotFound, "/customers/bolt/grants/void", url.Values{"id": {"grt_none"}, "reason": {"test"}})
	if page = w.page("/customers/bolt"); !strings.Contains(page, ">voided<") || strings.Contains(page, "/grants/void") {
		t.Error("the grant is not void")
	}
}

func TestNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	if page := w.page("/notices"); !strings.Contains(page, "None so far") {
		t.Error("an empty list does not say so")
	}
	if _, _, err := w.notify.Create(t.Context(), "op", "http://127.0.0.1:9/<hook>", nil); err != nil {
		t.Fatal(err)
	}
	cust, _ := w.govern.Customer("bolt")
	w.notify.Tell(notify.Message{
		Kind: "limit.threshold", CustomerID: cust.ID, Once: "x", At: w.now(), Limit: "daily", Meter: "api_calls", Percent: 80, Consumed: money.FromInt(80),
		Quota: money.FromInt(100), WindowStart: w.now(), WindowEnd: w.now().Add(time.Hour),
	})
	if err := w.notify.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := must[[]store.Notice](t)(w.notify.List(t.Context(), store.Query{Limit: 10}))
	if len(list) != 1 {
		t.Fatalf("%d notices", len(list))
	}
	page := w.page("/notices")
	for _, want := range []string{"/customers/bolt", "80", ">due<", "&lt;hook", `aria-current="page">Notices<`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if to, _ := w.post(http.StatusSeeOther, "/notices/"+list[0].ID+"/redeliver", nil); to != "/notices?sent=1" {
		t.Errorf("leads to %s", to)
	}
	w.post(http.StatusNotFound, "/notices/ntc_none/redeliver", nil)
	if !strings.Contains(w.page("/notices?sent=1"), "sent again") {
		t.Error("it is not said that it was sent")
	}
}
