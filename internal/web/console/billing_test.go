package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
)

// quoted is the first text between another one and a quotation mark.
func quoted(t *testing.T, page, before string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, before)
	if !ok {
		t.Fatalf("the page lacks %q", before)
	}
	found, _, _ := strings.Cut(rest, `"`)
	return found
}

func TestChangeIsPreviewedFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	page := w.page("/customers/bolt")
	id := quoted(t, page, `name="subscription" value="`)
	change := url.Values{"subscription": {id}, "kind": {"plan"}, "plan": {"pro"}, "at": {"now"}, "reason": {"<b>grows"}}
	_, page = w.post(http.StatusOK, "/customers/bolt/changes", change)
	for _, want := range []string{"Nothing was changed yet", `data-test="change-difference"`, "Make the change", "&lt;b&gt;grows"} {
		if !strings.Contains(page, want) {
			t.Errorf("the preview lacks %q", want)
		}
	}
	if before, after := quoted(t, page, `data-test="change-before" data-value="`), quoted(t, page, `data-test="change-after" data-value="`); before == after {
		t.Errorf("both plans cost %s", before)
	}
	if subs := w.govern.SubscriptionsOf(mustCustomer(t, w)); len(subs) != 1 || subs[0].Plan == "pro" {
		t.Fatal("the preview changed the plan")
	}
	change.Set("confirm", "yes")
	if to, _ := w.post(http.StatusSeeOther, "/customers/bolt/changes", change); to != "/customers/bolt#changes-title" {
		t.Errorf("leads to %s", to)
	}
	if page = w.page("/customers/bolt"); !strings.Contains(page, "to plan pro") {
		t.Error("the change is not told")
	}
	change.Set("plan", "none")
	if _, page = w.post(http.StatusUnprocessableEntity, "/customers/bolt/changes", change); strings.Count(page, `role="alert"`) != 1 {
		t.Error("an unknown plan is not told once")
	}
	change.Set("subscription", "sub_none")
	w.post(http.StatusNotFound, "/customers/bolt/changes", change)
}

func mustCustomer(t *testing.T, w *world) string {
	t.Helper()
	c, ok := w.govern.Customer("bolt")
	if !ok {
		t.Fatal("no customer")
	}
	return c.ID
}

func TestMoneyAndBillingDetails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.signIn()
	w.post(http.StatusSeeOther, "/customers/bolt/deposits", url.Values{"amount": {"12.34"}, "method": {"transfer"}, "reference": {"b 1"}})
	w.post(http.StatusSeeOther, "/customers/bolt/deposits", url.Values{"amount": {"12.34"}, "method": {"transfer"}, "reference": {"b 1"}}) // once
	if _, page := w.post(http.StatusUnprocessableEntity, "/customers/bolt/deposits", url.Values{"amount": {"1.234"}}); !strings.Contains(page, "at most 2 decimals") {
		t.Error("a wrong amount is not told")
	}
	w.post(http.StatusSeeOther, "/customers/bolt/billing", url.Values{"legal_name": {"Bolt SAS"}, "country": {"FR"}, "exempt": {"yes"}})
	if _, page := w.post(http.StatusUnprocessableEntity, "/customers/bolt/billing", url.Values{"country": {"france"}}); !strings.Contains(page, `role="alert"`) {
		t.Error("a wrong country is not told")
	}
	page := w.page("/customers/bolt")
	for _, want := range []string{`data-test="balance" data-value="12.34"`, "Bolt SAS", "<dd>exempt</dd>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestInvoiceIsCreditedPaidAndNotVoided(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.seed()
	w.pass(time.Hour)
	w.signIn()
	list, err := w.bill.Invoices(t.Context(), govern.Query{CustomerID: "acme"})
	if err != nil || len(list) == 0 {
		t.Fatalf("invoices of acme: %v, %v", list, err)
	}
	path := "/invoices/" + list[len(list)-1].ID
	page := w.page(path)
	left := quoted(t, page, `data-test="remaining" data-value="`)
	line := quoted(t, page, `<option value="iln_`)
	if _, page = w.post(http.StatusUnprocessableEntity, path+"/void", url.Values{"reason": {" "}}); strings.Count(page, `role="alert"`) != 1 {
		t.Error("a void without a reason is not told once")
	}
	credit := url.Values{"line": {"iln_" + line}, "amount": {"1.00"}, "reason": {"<b>outage"}}
	if to, _ := w.post(http.StatusSeeOther, path+"/credit-notes", credit); to != path+"#actions-title" {
		t.Errorf("leads to %s", to)
	}
	credit.Set("amount", "1000000")
	if _, page = w.post(http.StatusUnprocessableEntity, path+"/credit-notes", credit); strings.Count(page, `role="alert"`) != 1 {
		t.Error("a credit note above the line is not told once")
	}
	page = w.page(path)
	for _, want := range []string{"CN-1", "operator: &lt;b&gt;outage", "credit note CN-1"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, path+"/void") {
		t.Error("an invoice with a credit note can be voided")
	}
	if pdf := text(t, w.call(http.MethodGet, "/credit-notes/"+quoted(t, page, `data-note="`)+"/pdf", nil)); !strings.HasPrefix(pdf, "%PDF-") {
		t.Errorf("the credit note is %.20q", pdf)
	}
	rest := quoted(t, page, `data-test="remaining" data-value="`)
	if rest == left {
		t.Errorf("%s are left with the credit note and were before", rest)
	}
	w.post(http.StatusSeeOther, path+"/payments", url.Values{"amount": {rest}, "method": {"transfer"}})
	page = w.page(path)
	if got := quoted(t, page, `data-test="remaining" data-value="`); got != "0.00" {
		t.Errorf("%s are left of a paid invoice", got)
	}
	if got := quoted(t, page, `data-test="invoice-status" data-value="`); got != "paid" {
		t.Errorf("a paid invoice is %s", got)
	}
	if page = w.page("/invoices?status=paid&customer=acme"); !strings.Contains(page, path+`"`) {
		t.Error("the list does not have it as paid")
	}
}
