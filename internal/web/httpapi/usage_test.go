package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestUsageQueries asks for groups, tops, zones and pages, and applies a new meter to what is kept.
func TestUsageQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	secret := w.subscribe("acme", "pro")
	w.subscribe("bolt", "pro")
	var events []string
	for i := range 6 {
		customer := []string{"acme", "bolt"}[i%2]
		events = append(events, fmt.Sprintf(`{"specversion":"1.0","id":"r/%d","source":"shop/1","type":"request","subject":%q,"time":"2026-10-0%dT23:30:00Z","data":{"route":"/%s"}}`,
			i, customer, 1+i, strings.Repeat("x", i%3)),
			fmt.Sprintf(`{"specversion":"1.0","id":"t/%d","source":"shop/1","type":"completion","subject":%q,"time":"2026-10-0%dT23:30:00Z","data":{"tokens":%d.5}}`, i, customer, 1+i, i))
	}
	w.want(http.StatusOK, http.MethodPost, "/v1/events", "["+strings.Join(events, ",")+"]", "Content-Type", batchType)
	w.step()
	w.request(secret)
	get := func(name, path string) answer {
		t.Helper()
		a := w.want(http.StatusOK, http.MethodGet, path, "")
		w.golden(name, a)
		return a
	}
	get("usage_all", "/v1/usage?meter=tokens")
	get("usage_by_customer", "/v1/usage?meter=tokens&group_by=customer&window=day&zone=Asia/Kathmandu&customer=acme&customer=bolt")
	get("usage_top", "/v1/usage?meter=api_calls&group_by=customer&group_by=route&top=3")
	get("usage_where", "/v1/usage?meter=api_calls&customer=acme&where=route:/x&from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:00Z&window=15m")
	page := w.want(http.StatusOK, http.MethodGet, "/v1/usage?meter=api_calls&group_by=route&limit=2", "")
	w.golden("usage_page", page)
	w.request(secret) // is not on the second page: that is of the first one's position
	second := get("usage_page_last", "/v1/usage?meter=api_calls&group_by=route&limit=2&cursor="+page.text(t, "next"))
	if page.field(t, "position") != second.field(t, "position") {
		t.Errorf("pages of two positions: %s %s", page.body, second.body)
	}

	w.step()
	added := strings.Replace(testCatalog, "plans:", "  - {key: completions, event: completion, aggregation: count}\nplans:", 1)
	w.want(http.StatusCreated, http.MethodPost, "/v1/catalog/versions", added, "Content-Type", yamlType)
	w.step()
	job := w.want(http.StatusCreated, http.MethodPost, "/v1/recounts", `{"meter":"completions","from":"2026-10-02T00:00:00Z","reason":"a new price"}`)
	w.golden("recount_create", job)
	if a := w.call(http.MethodPost, "/v1/recounts", `{"meter":"completions"}`); a.status != http.StatusConflict || !strings.Contains(a.text(t, "detail"), "running already") {
		t.Errorf("a second one: %d %s", a.status, a.body)
	}
	for more := true; more; {
		var err error
		if more, err = w.recount.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	get("recount_get", "/v1/recounts/"+job.text(t, "id"))
	if a := w.want(http.StatusOK, http.MethodGet, "/v1/usage?meter=completions&customer=acme&from=2026-10-01T00:00:00Z", ""); a.text(t, "value") != "2" {
		t.Errorf("usage of the new meter: %s", a.body)
	}
	w.step()
	job = w.want(http.StatusCreated, http.MethodPost, "/v1/recounts", `{"meter":"completions","dry_run":true,"include_closed":true}`)
	w.golden("recount_cancel", w.want(http.StatusOK, http.MethodPost, "/v1/recounts/"+job.text(t, "id")+"/cancel", `{}`))
	get("recount_list", "/v1/recounts?limit=1")
	w.want(http.StatusConflict, http.MethodPost, "/v1/recounts/"+job.text(t, "id")+"/cancel", `{}`)
}
