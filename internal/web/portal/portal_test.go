package portal_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/web/session"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	acme, _ := w.govern.Customer("acme")
	good, _ := w.signer.Sign(session.PortalLink, acme.ID, time.Hour)
	operator, _ := w.signer.Sign(session.Operator, acme.ID, time.Hour)
	gone, _ := w.signer.Sign(session.PortalLink, "cus_00000000000000000000000000", time.Hour)
	w.pass(time.Hour)
	for name, token := range map[string]string{"none": "", "forged": good[:len(good)-1] + "x", "expired": good, "of another kind": operator, "of nobody": gone} {
		resp := w.call(http.MethodGet, "/portal/open?token="+token)
		body := text(t, resp)
		if resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) != 0 || !strings.Contains(body, "does not open the portal") {
			t.Errorf("%s: status %d, cookies %v", name, resp.StatusCode, resp.Cookies())
		}
		if resp.Header.Get("Referrer-Policy") != "no-referrer" || token != "" && strings.Contains(body, token) {
			t.Errorf("%s: the token may leak", name)
		}
	}
	resp := w.open("acme")
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/portal" {
		t.Fatalf("status %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if c := w.cookie; !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/portal" || !c.Expires.Equal(w.now().Add(12*time.Hour)) {
		t.Errorf("cookie %v", c)
	}
	w.page("/portal")
	w.pass(12 * time.Hour)
	if resp := w.call(http.MethodGet, "/portal"); !strings.Contains(text(t, resp), "with your link") || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after 12 hours: status %d", resp.StatusCode)
	}
	resp = w.call(http.MethodPost, "/portal/leave")
	if text(t, resp); len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("leaving keeps %v", resp.Cookies())
	}
}

// bills passes time until the usage stands on invoices, and returns acme's with usage.
func (w *world) bills() invoice.Invoice {
	w.t.Helper()
	if err := w.enforce.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.pass(60 * 24 * time.Hour)
	for more := true; more; {
		more = must[bool](w.t)(w.bill.Tick(w.t.Context()))
	}
	for _, inv := range must[[]invoice.Invoice](w.t)(w.bill.Invoices(w.t.Context(), govern.Query{CustomerID: "acme"})) {
		if inv.Lines[0].Quantity.String() == "5" {
			return inv
		}
	}
	w.t.Fatal("no invoice has the usage")
	return invoice.Invoice{}
}

// TestOwnDataOnly: each address of the portal answers its own customer, and nobody else.
func TestOwnDataOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	admitted := w.send("demo_pro", 5)
	nobody := w.send("demo_nobody", 1)
	refused := w.send(freeSecret, 4)
	inv := w.bills()
	addresses := []string{"/portal/invoices/" + inv.ID, "/portal/invoices/" + inv.ID + "/pdf", "/portal/invoices/" + inv.ID + "/csv", "/portal/invoices/" + inv.ID + "/lines/1", "/portal/decisions/" + url.PathEscape(admitted.DecisionID)}

	for _, path := range append([]string{"/portal", "/portal/live", "/portal/nothing"}, addresses...) {
		if resp := w.call(http.MethodGet, path); strings.Contains(text(t, resp), "Acme") || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a session: status %d", path, resp.StatusCode)
		}
		if resp := w.call(http.MethodGet, path, "HX-Request", "true"); text(t, resp) != "" || resp.Header.Get("HX-Redirect") != "/portal" {
			t.Errorf("part %s without a session: %v", path, resp.Header)
		}
	}
	acme, _ := w.govern.Customer("acme")
	for _, k := range []session.Kind{session.Operator, session.PortalLink} {
		token, _ := w.signer.Sign(k, acme.ID, time.Hour)
		w.cookie = &http.Cookie{Name: "tally_portal", Value: token}
		if resp := w.call(http.MethodGet, "/portal"); text(t, resp) == "" || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a token of kind %s: status %d", k, resp.StatusCode)
		}
	}

	w.cookie = nil
	w.open("acme")
	for _, path := range append([]string{"/portal", "/portal/live"}, addresses...) {
		if body := w.page(path); strings.Contains(body, "bolt") || strings.Contains(body, "Bolt") {
			t.Errorf("%s shows another customer to acme", path)
		}
	}
	for _, path := range []string{"/portal/decisions/" + url.PathEscape(nobody.DecisionID), "/portal/decisions/" + url.PathEscape(refused.DecisionID)} {
		if resp := w.call(http.MethodGet, path); text(t, resp) == "" || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s for acme: status %d", path, resp.StatusCode)
		}
	}

	w.cookie = nil
	w.open("bolt")
	for _, path := range addresses {
		if resp := w.call(http.MethodGet, path); strings.Contains(text(t, resp), "0.0012") || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s for bolt: status %d", path, resp.StatusCode)
		}
	}
	if body := w.page("/portal"); strings.Contains(body, "Acme") || strings.Contains(body, inv.ID) || strings.Contains(body, evil) {
		t.Error("bolt's page shows acme, or a name as markup")
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.send("demo_pro", 5)
	w.send(freeSecret, 4)
	value := func(page, name string) string {
		m := regexp.MustCompile(`data-test="` + name + `"[^>]*data-value="([^"]*)"`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("there is no %s with a value", name)
		}
		return m[1]
	}
	w.open("acme")
	page := w.page("/portal")
	for name, want := range map[string]string{"usage-value": "5", "limit-spend-consumed": "0.0012", "bill-total": "20.00"} {
		if got := value(page, name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	for _, want := range []string{"Beyond the included:", "$0.0012", "Europe/Berlin, UTC+2", "Invoice 1"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	w.cookie = nil
	w.open("bolt")
	page = w.page("/portal/live")
	if value(page, "limit-daily-consumed") != "3" || !strings.Contains(page, "Stopped:") || strings.Count(page, `data-outcome="denied"`) != 1 || strings.Contains(page, `data-outcome="allowed"`) {
		t.Error("the refused request does not show, or admitted ones do")
	}
}
