package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/export"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
)

func TestOnlyOperators(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	for _, c := range []struct{ method, path string }{
		{"GET", "/"},
		{"GET", "/live"},
		{"GET", "/decisions"},
		{"GET", "/decisions/dec_x"},
		{"GET", "/customers"},
		{"GET", "/customers/acme"},
		{"GET", "/customers/acme/live"},
		{"POST", "/customers/acme/portal"},
		{"GET", "/events"},
		{"GET", "/events/live"},
		{"GET", "/events/show?source=gateway/1&id=x"},
		{"POST", "/events/void"},
		{"POST", "/events/amend"},
		{"GET", "/events/unmatched"},
		{"POST", "/events/unmatched/fix"},
		{"GET", "/invoices"},
		{"GET", "/invoices/inv_x"},
		{"GET", "/invoices/inv_x/lines/1"},
		{"GET", "/invoices/inv_x/pdf"},
		{"GET", "/nothing/here"},
	} {
		resp := w.call(c.method, c.path, nil)
		if body := text(t, resp); resp.StatusCode != http.StatusSeeOther || strings.Contains(body, "acme</") {
			t.Errorf("%s %s: status %d without a session: %s", c.method, c.path, resp.StatusCode, body)
		}
		if to := resp.Header.Get("Location"); !strings.HasPrefix(to, "/login") {
			t.Errorf("%s %s leads to %q", c.method, c.path, to)
		}
		resp = w.call(c.method, c.path, nil, "HX-Request", "true")
		if body := text(t, resp); resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("HX-Redirect") != "/login" || body != "" {
			t.Errorf("part %s %s: status %d, %v, %q", c.method, c.path, resp.StatusCode, resp.Header, body)
		}
	}
	for _, path := range []string{"/login", "/assets/app.css", "/assets/app.js", "/assets/htmx.js", "/assets/favicon.svg"} {
		if resp := w.call(http.MethodGet, path, nil); resp.StatusCode != http.StatusOK || text(t, resp) == "" {
			t.Errorf("GET %s: status %d, want 200 for everyone", path, resp.StatusCode)
		}
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp := w.call(http.MethodPost, "/login", url.Values{"token": {"tally_op_wrong"}})
	body := text(t, resp)
	if resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) != 0 || !strings.Contains(body, "this is not the operator token") {
		t.Errorf("wrong token: status %d, cookies %v", resp.StatusCode, resp.Cookies())
	}
	if strings.Contains(body, "tally_op_wrong") {
		t.Error("the answer repeats the token")
	}
	if resp := w.call(http.MethodPost, "/login", url.Values{"token": {strings.Repeat("x", 1<<20)}}); text(t, resp) == "" || resp.StatusCode/100 != 4 {
		t.Errorf("a huge form: status %d", resp.StatusCode)
	}
	if resp := w.call(http.MethodPost, "/login", url.Values{"token": {token}}, "Sec-Fetch-Site", "cross-site"); text(t, resp) == "" || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site: status %d", resp.StatusCode)
	}

	resp = w.call(http.MethodPost, "/login", url.Values{"token": {" " + token + "\n"}, "next": {"/customers?find=a"}})
	if text(t, resp); resp.Header.Get("Location") != "/customers?find=a" {
		t.Errorf("leads to %q", resp.Header.Get("Location"))
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" || !c.Expires.Equal(w.now().Add(12*time.Hour)) {
		t.Errorf("cookie %v", c)
	}
	tls := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://tally.example/login", strings.NewReader(url.Values{"token": {token}}.Encode()))
	tls.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, tls)
	if secure := rec.Result().Cookies(); len(secure) != 1 || !secure[0].Secure {
		t.Errorf("over TLS: cookies %v", secure)
	}

	w.cookie = c
	w.page("/")
	w.pass(12 * time.Hour)
	if resp := w.call(http.MethodGet, "/", nil); text(t, resp) == "" || resp.StatusCode != http.StatusSeeOther {
		t.Errorf("after 12 hours: status %d", resp.StatusCode)
	}
	w.signIn()
	resp = w.call(http.MethodPost, "/logout", nil)
	if text(t, resp); len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("signing out leaves %v", resp.Cookies())
	}
}

// attribute finds data-value of the element with a data-test name.
func attribute(t *testing.T, page, name string) string {
	t.Helper()
	m := regexp.MustCompile(`data-test="` + name + `"[^>]*data-value="([^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("there is no %s with a value", name)
	}
	return m[1]
}

// TestExportsLine: the home page says how exports stand, where there are any, and shows what fails.
func TestExportsLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	if strings.Contains(w.page("/"), `data-test="exports"`) {
		t.Error("exports are shown, and there are none")
	}
	e := export.Counted{Status: export.Status{Export: store.Export{Name: "warehouse"}}}
	w.exports = []export.Counted{e}
	if home := w.page("/"); !strings.Contains(home, `<p class="sub" data-test="exports">`) || !strings.Contains(home, "warehouse running, up to date") {
		t.Error("the export is not shown as up to date")
	}
	e.Failures, e.LastError, e.BehindRecords = 3, "the broker <is> away", 12
	w.exports = append(w.exports, e)
	if home := w.page("/live"); !strings.Contains(home, `<p class="headline bad" data-test="exports">`) || !strings.Contains(home, "warehouse failing, 12 records and 0 entries behind") ||
		!strings.Contains(home, "(the broker &lt;is&gt; away)") {
		t.Error("the failing export does not stand out")
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	w.send("demo_pro", 5)
	denied := w.send(freeSecret, 4)
	w.send("demo_nobody", 1)

	home := w.page("/")
	for name, want := range map[string]string{"admitted-total": "8", "denied-total": "2", "books-difference": "0"} {
		if got := attribute(t, home, name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	if !strings.Contains(home, `data-currency="USD" data-value="0.0012"`) {
		t.Error("accrued is not 3 × $0.0004")
	}
	if live := w.page("/live"); strings.Contains(live, "<html") || attribute(t, live, "admitted-total") != "8" {
		t.Error("the live part is not the same figures without a frame")
	}

	acme := w.page("/customers/acme")
	for name, want := range map[string]string{"usage-value": "5", "limit-spend-consumed": "0.0012", "bill-total": "20.00"} {
		if got := attribute(t, acme, name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	preview, err := w.bill.Preview(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if got := attribute(t, acme, "bill-total"); got != preview.Total.String() {
		t.Errorf("the page's bill is %s, the preview's %s", got, preview.Total)
	}
	if bolt := w.page("/customers/bolt/live"); attribute(t, bolt, "limit-daily-consumed") != "3" || !strings.Contains(bolt, "Stopped:") {
		t.Error("bolt's quota does not show as used up")
	}

	why := w.page("/decisions/" + url.PathEscape(denied.DecisionID))
	for _, want := range []string{"Quota used up: daily", "decided", "pro", `data-value="denied"`} {
		if !strings.Contains(why, want) {
			t.Errorf("the explanation lacks %q", want)
		}
	}
	resp := w.call(http.MethodGet, "/decisions?id="+url.QueryEscape(" Decision-Id: "+denied.DecisionID+" "), nil)
	if text(t, resp); resp.Header.Get("Location") != "/decisions/"+url.PathEscape(denied.DecisionID) {
		t.Errorf("a pasted id leads to %q", resp.Header.Get("Location"))
	}
	if resp := w.call(http.MethodGet, "/decisions?id=dec_forged", nil); !strings.Contains(text(t, resp), "not a decision id") || resp.StatusCode != http.StatusNotFound {
		t.Errorf("a forged id: status %d", resp.StatusCode)
	}
}

// TestFromInvoiceToDecision goes from an invoice line to the decision behind it, and back.
func TestFromInvoiceToDecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	w.send("demo_pro", 5)
	if err := w.enforce.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass(60 * 24 * time.Hour)
	w.signIn()
	for more := true; more; {
		more = must[bool](t)(w.bill.Tick(t.Context()))
	}
	list := must[[]invoice.Invoice](t)(w.bill.Invoices(t.Context(), govern.Query{CustomerID: "acme"}))
	var usage invoice.Invoice
	for _, inv := range list {
		if inv.Lines[0].Quantity.String() == "5" {
			usage = inv
		}
	}
	if usage.ID == "" {
		t.Fatal("no invoice has the usage")
	}
	doc := w.page("/invoices/" + usage.ID)
	line := "/invoices/" + usage.ID + "/lines/1"
	if !strings.Contains(doc, `href="`+line+`"`) || attribute(t, doc, "bill-total") != usage.Total.String() || !strings.Contains(doc, "$0.0012") {
		t.Error("the invoice lacks its line, its exact amount or its total")
	}
	way := w.page(line)
	if got := attribute(t, way, "line-quantity"); got != "5" {
		t.Errorf("quantity %s", got)
	}
	decisions := regexp.MustCompile(`href="(/decisions/[^"]+)"`).FindAllStringSubmatch(way, -1)
	if len(decisions) != 5 {
		t.Fatalf("the line leads to %d decisions, not 5", len(decisions))
	}
	if back := w.page(decisions[0][1]); !strings.Contains(back, `href="`+line+`"`) {
		t.Error("the decision does not lead back to its line")
	}
	if !strings.Contains(w.page("/invoices"), usage.ID) || !strings.Contains(w.page(strings.TrimSuffix(line, "1")+"2"), "A flat line") {
		t.Error("the list lacks the invoice, or the flat line its page")
	}
}

// TestInvoiceFiles: an operator takes all forms that can be made, and finds invoices by status and customer.
func TestInvoiceFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.pass(40 * 24 * time.Hour)
	w.signIn()
	for more := true; more; {
		more = must[bool](t)(w.bill.Tick(t.Context()))
	}
	list := must[[]invoice.Invoice](t)(w.bill.Invoices(t.Context(), govern.Query{CustomerID: "acme"}))
	if len(list) == 0 {
		t.Fatal("there is no invoice")
	}
	id := list[0].ID
	for form, want := range map[string]int{"pdf": http.StatusOK, "csv": http.StatusOK, "ubl": http.StatusUnprocessableEntity, "docx": http.StatusNotFound} {
		resp := w.call(http.MethodGet, "/invoices/"+id+"/"+form, nil)
		if body := text(t, resp); resp.StatusCode != want || want == http.StatusOK && !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment; ") {
			t.Errorf("%s: status %d, %v: %.200s", form, resp.StatusCode, resp.Header, body)
		}
	}
	for query, want := range map[string]bool{"": true, "?status=finalized": true, "?status=paid": false, "?customer=acme": true, "?customer=acme&status=void": false} {
		if got := strings.Contains(w.page("/invoices"+query), id); got != want {
			t.Errorf("/invoices%s shows it: %v", query, got)
		}
	}
	if resp := w.call(http.MethodGet, "/invoices?customer=nobody", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown customer: %d", resp.StatusCode)
	}
}

// TestNothingRunsOnPages: what users write stays text, and no page has a script or a style of its own.
func TestNothingRunsOnPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	login := text(t, w.call(http.MethodGet, "/login?next="+url.QueryEscape(`/"><script>`), nil))
	w.signIn()
	last := w.send(freeSecret, 4)
	pages := map[string]string{"/login": login}
	for _, path := range []string{
		"/", "/live", "/customers", "/customers?find=" + url.QueryEscape(evil), "/customers/bolt", "/customers/bolt/live", "/decisions", "/invoices",
		"/decisions/" + url.PathEscape(last.DecisionID),
	} {
		pages[path] = w.page(path)
	}
	pages["/nothing"] = text(t, w.call(http.MethodGet, "/nothing/"+url.PathEscape(evil), nil))
	inline := regexp.MustCompile(`(?i)<script(?:>| [^>]*[^r]>[^<])|<style|\sstyle=|\son[a-z]+=|javascript:`)
	for path, page := range pages {
		if strings.Contains(page, evil) || strings.Contains(page, `"><script>`) {
			t.Errorf("%s has the text as markup", path)
		}
		if found := inline.FindString(page); found != "" {
			t.Errorf("%s has %q", path, found)
		}
	}
	if !strings.Contains(pages["/customers/bolt"], "&lt;script&gt;alert(&#34;Bolt &amp; Sons&#34;)&lt;/script&gt;") {
		t.Error("the name does not stand on the customer's page")
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/", "/login", "/nothing"} {
		resp := w.call(http.MethodGet, path, nil)
		text(t, resp)
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self';") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Referrer-Policy") != "same-origin" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, resp.Header)
		}
	}
	address := regexp.MustCompile(`/assets/app\.css\?v=[0-9a-f]+`).FindString(text(t, w.call(http.MethodGet, "/login", nil)))
	resp := w.call(http.MethodGet, address, nil)
	text(t, resp)
	if got := resp.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") || resp.Header.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("%s: %v", address, resp.Header)
	}
	resp = w.call(http.MethodGet, "/assets/app.css?v=0", nil, "If-None-Match", resp.Header.Get("ETag"))
	if body := text(t, resp); resp.StatusCode != http.StatusNotModified || resp.Header.Get("Cache-Control") != "no-cache" || body != "" {
		t.Errorf("an old address: status %d, %v", resp.StatusCode, resp.Header)
	}
}

func TestPortalLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	resp := w.call(http.MethodPost, "/customers/acme/portal", nil)
	if body := text(t, resp); resp.StatusCode != http.StatusOK || !strings.Contains(body, "/portal/open?token=cus_") {
		t.Errorf("status %d: %s", resp.StatusCode, body)
	}
	log := must[[]govern.Audit](t)(w.govern.Audits(t.Context(), govern.Query{}))
	if log[0].Action != "portal.link" || log[0].Actor != "operator" || strings.Contains(log[0].Detail, "token") {
		t.Errorf("audit %+v", log[0])
	}
	if resp := w.call(http.MethodPost, "/customers/nobody/portal", nil); text(t, resp) == "" || resp.StatusCode != http.StatusNotFound {
		t.Errorf("of nobody: status %d", resp.StatusCode)
	}
	if resp := w.call(http.MethodPost, "/customers/acme/portal", nil, "Sec-Fetch-Site", "cross-site"); text(t, resp) == "" || resp.StatusCode != http.StatusForbidden {
		t.Errorf("from another site: status %d", resp.StatusCode)
	}
}
