package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSubscriptionOverTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	sub := w.want(http.StatusCreated, http.MethodPost, "/v1/subscriptions",
		`{"customer":"acme","phases":[{"plan":"free","for":"2 months"},{"plan":"pro"}],"start":"2026-10-01T00:00:00Z","trial_days":7}`)
	wantField(t, sub, "trial_end", "2026-10-08T00:00:00Z")
	path := "/v1/subscriptions/" + sub.text(t, "id")
	w.golden("timeline", w.get(path+"/changes"))

	dry := w.want(http.StatusOK, http.MethodPost, path+"/changes?dry_run=true", `{"kind":"plan","plan":"pro","invoice_now":true}`)
	wantField(t, dry, "subscription.plan", "pro")
	wantField(t, dry, "dry_run", true)
	wantField(t, w.get(path), "plan", "free")
	wantField(t, dry, "money.before.amount", "0.00")
	wantField(t, dry, "money.after.amount", dry.text(t, "money.invoice_after.total.amount"))
	wantField(t, dry, "money.difference.amount", dry.text(t, "money.after.amount"))
	wantField(t, dry, "money.invoice_after.status", "preview")

	wantField(t, w.want(http.StatusOK, http.MethodPost, path+"/pause", ``), "subscription.status", "paused")
	w.step()
	wantField(t, w.want(http.StatusOK, http.MethodPost, path+"/resume", `{"reason":"back"}`), "subscription.status", "active")
	w.step()
	wantField(t, w.want(http.StatusOK, http.MethodPost, path+"/cancel", `{"at":"period_end"}`), "subscription.end", "2026-11-08T00:00:00Z")
	w.want(http.StatusOK, http.MethodPost, path+"/revive", `{}`)
	list := w.want(http.StatusOK, http.MethodPost, path+"/changes", `{"kind":"plan","plan":"pro","at":"2026-10-09T00:00:00Z"}`)
	wantField(t, list, "subscription.plan", "pro")

	refused := w.want(http.StatusUnprocessableEntity, http.MethodPost, path+"/changes", `{"kind":"quantity","key":"calls","quantity":"x"}`)
	wantField(t, refused, "errors.0.pointer", "/quantity")
	refused = w.want(http.StatusUnprocessableEntity, http.MethodPost, path+"/resume", `{}`)
	wantField(t, refused, "errors.0.pointer", "/kind")
	w.want(http.StatusNotFound, http.MethodPost, "/v1/subscriptions/sub_none/pause", `{}`)

	w.want(http.StatusCreated, http.MethodPost, "/v1/catalog/versions", strings.Replace(testCatalog, `amount: "20.00"`, `amount: "25.00"`, 1), "Content-Type", "application/yaml")
	moved := w.want(http.StatusOK, http.MethodPost, "/v1/subscriptions/migrate?dry_run=true", `{"plan":"pro"}`)
	wantField(t, moved, "items.0.customer", "acme")
	wantField(t, w.get(path), "catalog_version", 1)
	w.want(http.StatusOK, http.MethodPost, "/v1/subscriptions/migrate", `{"plan":"pro","customer":"acme","to_version":2}`)
	wantField(t, w.get(path), "catalog_version", 2)
}

func TestUpdateCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme","name":"Acme"}`)
	w.want(http.StatusOK, http.MethodPatch, "/v1/customers/acme", `{"billing":{"legal_name":"Acme SAS","country":"FR","due_days":30}}`)
	a := w.want(http.StatusOK, http.MethodPatch, "/v1/customers/acme", `{"billing":{"city":"Paris","due_days":0}}`)
	wantField(t, a, "name", "Acme")
	wantField(t, a, "billing.legal_name", "Acme SAS")
	wantField(t, a, "billing.city", "Paris")
	refused := w.want(http.StatusUnprocessableEntity, http.MethodPatch, "/v1/customers/acme", `{"billing":{"country":"france"}}`)
	wantField(t, refused, "errors.0.pointer", "/billing/country")
	wantField(t, w.get("/v1/customers/acme"), "billing.country", "FR")
}

// TestLimitsFollowTheTimeline: the gateway's decisions change at the instant of a change, by the clock alone.
func TestLimitsFollowTheTimeline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	secret := w.subscribe("acme", "free")
	later := w.now().Add(20 * time.Second)
	w.want(http.StatusOK, http.MethodPost, "/v1/subscriptions/acme/changes", `{"kind":"plan","plan":"pro","at":"`+later.Format(time.RFC3339)+`"}`)
	denied := 0
	for w.now().Before(later.Add(-time.Second)) {
		w.step()
		if a := w.request(secret); !a.Allowed() {
			denied++
		}
	}
	if denied == 0 {
		t.Fatal("the plan free denies nothing")
	}
	for w.now().Before(later) {
		w.step()
	}
	if a := w.request(secret); !a.Allowed() {
		t.Errorf("on the plan pro: %s, %s", a.Code, a.Detail)
	}
	w.want(http.StatusOK, http.MethodPost, "/v1/subscriptions/acme/pause", `{}`)
	if a := w.request(secret); a.Allowed() || a.Code != "no_subscription" || !strings.Contains(a.Detail, "paused") {
		t.Errorf("paused: %s, %s", a.Code, a.Detail)
	}
	w.want(http.StatusOK, http.MethodPost, "/v1/subscriptions/acme/resume", `{}`)
	if a := w.request(secret); !a.Allowed() {
		t.Errorf("resumed: %s, %s", a.Code, a.Detail)
	}
}

func TestMigrationIsPricedFirst(t *testing.T) {
	t.Parallel()
	w, _ := invoiced(t)
	w.want(http.StatusCreated, http.MethodPost, "/v1/catalog/versions", strings.Replace(testCatalog, `amount: "20.00"`, `amount: "25.00"`, 1), "Content-Type", "application/yaml")
	moved := w.want(http.StatusOK, http.MethodPost, "/v1/subscriptions/migrate?dry_run=true", `{"plan":"pro","at":"period_end"}`)
	for field, want := range map[string]any{
		"items.0.customer": "acme", "items.0.money.before.amount": "20.00", "items.0.money.after.amount": "25.00",
		"items.0.money.difference.amount": "5.00", "totals.0.difference.amount": "5.00", "totals.0.after.currency": "USD", "dry_run": true,
	} {
		wantField(t, moved, field, want)
	}
	wantField(t, w.get("/v1/subscriptions?customer=acme"), "items.0.catalog_version", 1)
	if moved = w.want(http.StatusOK, http.MethodPost, "/v1/subscriptions/migrate", `{"plan":"pro","at":"period_end"}`); strings.Contains(string(moved.body), "money") {
		t.Errorf("a migration that was made tells what it would cost: %s", moved.body)
	}
}
