package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// invoiced is a world with a finalized invoice of acme over 20.00 USD.
func invoiced(t *testing.T) (w *world, id string) {
	t.Helper()
	w = newWorld(t)
	w.apply()
	w.subscribe("acme", "pro")
	w.post(http.StatusOK, "/v1/clock/advance", `{"by":"1h"}`)
	list := w.get("/v1/invoices?customer=acme")
	if got := list.text(t, "items.0.total.amount"); got != "20.00" {
		t.Fatalf("the first invoice is over %s", got)
	}
	return w, list.text(t, "items.0.id")
}

func (w *world) ledgerHolds() {
	w.t.Helper()
	if c := w.get("/v1/ledger/check"); c.field(w.t, "holds") != true {
		w.t.Errorf("the ledger: %s", c.body)
	}
}

func TestPayments(t *testing.T) {
	t.Parallel()
	w, id := invoiced(t)
	pay := "/v1/invoices/" + id + "/payments"
	body := `{"amount":{"amount":"15","currency":"USD"},"method":"transfer","reference":"bank 7"}`
	first := w.want(http.StatusCreated, http.MethodPost, pay, body, "Idempotency-Key", "k")
	if first.text(t, "payment.applied.amount") != "15.00" || first.text(t, "invoice.remaining.amount") != "5.00" {
		t.Errorf("paid: %s", first.body)
	}
	if again := w.want(http.StatusCreated, http.MethodPost, pay, body, "Idempotency-Key", "k"); again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("repeated: %s", again.body)
	}
	if again := w.post(http.StatusCreated, pay, body); again.text(t, "payment.id") != first.text(t, "payment.id") {
		t.Errorf("the same reference: %s", again.body)
	}
	if p := w.post(http.StatusConflict, pay, strings.Replace(body, `"15"`, `"16"`, 1)); p.text(t, "code") != "already_exists" {
		t.Errorf("another payment of the reference: %s", p.body)
	}
	for pointer, body := range map[string]string{
		"/amount/currency": `{"amount":{"amount":"1","currency":"EUR"}}`, "/amount/amount": `{"amount":{"amount":"-1","currency":"USD"}}`,
		"/received_at": `{"amount":{"amount":"1","currency":"USD"},"received_at":"2099-01-01T00:00:00Z"}`,
	} {
		if p := w.post(http.StatusUnprocessableEntity, pay, body); p.text(t, "errors.0.pointer") != pointer {
			t.Errorf("%s: %s", pointer, p.body)
		}
	}
	for _, amount := range []string{"1.234", "x", "", "1e99", "99999999999999999999"} {
		if p := w.post(http.StatusUnprocessableEntity, pay, `{"amount":{"amount":"`+amount+`","currency":"USD"}}`); p.text(t, "errors.0.pointer") != "/amount/amount" {
			t.Errorf("amount %q: %s", amount, p.body)
		}
	}
	if p := w.post(http.StatusNotFound, "/v1/invoices/inv_x/payments", body); p.text(t, "code") != "not_found" {
		t.Errorf("no invoice: %s", p.body)
	}
	w.ledgerHolds()
	w.step()
	if last := w.post(http.StatusCreated, pay, `{"amount":{"amount":"7.50","currency":"USD"}}`); last.text(t, "invoice.status") != "paid" {
		t.Errorf("paid: %s", last.body)
	}
	if b := w.get("/v1/customers/acme/balance"); b.text(t, "balance.amount") != "2.50" || b.text(t, "owed.amount") != "0.00" {
		t.Errorf("balance: %s", b.body)
	}
	if i := w.get("/v1/invoices/" + id); i.text(t, "status") != "paid" || i.text(t, "standing.paid.amount") != "20.00" {
		t.Errorf("shown: %s", i.body)
	}
	if p := w.post(http.StatusConflict, "/v1/invoices/"+id+"/void", `{"reason":"r"}`); p.text(t, "code") != "wrong_state" {
		t.Errorf("void a paid one: %s", p.body)
	}
	list := w.get("/v1/payments?customer=acme&limit=1")
	if list.text(t, "items.0.amount.amount") != "7.50" || w.get("/v1/payments?limit=1&cursor="+list.text(t, "next")).text(t, "items.0.reference") != "bank 7" {
		t.Errorf("payments: %s", list.body)
	}
	if a := w.get("/v1/audit?limit=1"); a.text(t, "items.0.action") != "invoice.pay" || a.text(t, "items.0.target") != id {
		t.Errorf("audit: %s", a.body)
	}
	w.ledgerHolds()
}

func TestTakeBack(t *testing.T) {
	t.Parallel()
	w, id := invoiced(t)
	path := "/v1/invoices/" + id
	note := w.post(http.StatusCreated, path+"/credit-notes", `{"reason":"outage","lines":[{"line":"1","amount":{"amount":"5.00","currency":"USD"}}]}`)
	if note.field(t, "number") != 1.0 || note.text(t, "total.amount") != "5.00" || note.text(t, "off.amount") != "5.00" {
		t.Errorf("note: %s", note.body)
	}
	for pointer, body := range map[string]string{
		"/lines":        `{"reason":"r","lines":[{"line":"1","amount":{"amount":"15.01","currency":"USD"}}]}`,
		"/lines/0/line": `{"reason":"r","lines":[{"line":"9","amount":{"amount":"1","currency":"USD"}}]}`,
		"/reason":       `{"lines":[]}`,
	} {
		if p := w.post(http.StatusUnprocessableEntity, path+"/credit-notes", body); p.text(t, "errors.0.pointer") != pointer {
			t.Errorf("%s: %s", pointer, p.body)
		}
	}
	if v := w.post(http.StatusOK, path+"/uncollectible", `{"reason":"bankrupt"}`); v.text(t, "status") != "uncollectible" || v.text(t, "remaining.amount") != "15.00" {
		t.Errorf("given up: %s", v.body)
	}
	if p := w.post(http.StatusConflict, path+"/credit-notes", `{"reason":"r"}`); p.text(t, "code") != "wrong_state" {
		t.Errorf("credit a lost one: %s", p.body)
	}
	if h := w.get(path + "/history"); h.text(t, "items.0.status") != "finalized" || h.text(t, "items.1.reference") != note.text(t, "id") || h.text(t, "items.2.reason") != "bankrupt" {
		t.Errorf("history: %s", h.body)
	}
	if l := w.get("/v1/credit-notes?invoice=" + id); l.text(t, "items.0.id") != note.text(t, "id") {
		t.Errorf("notes: %s", l.body)
	}
	w.ledgerHolds()
	entries := w.get("/v1/ledger/entries?customer=acme&limit=1&reference=" + id)
	if entries.text(t, "items.0.kind") != "write_off" || entries.text(t, "items.0.postings.0.account") != "loss" {
		t.Errorf("entries: %s", entries.body)
	}
	if e := w.get("/v1/ledger/entries?account=revenue&limit=1&cursor=" + entries.text(t, "next")); e.text(t, "items.0.kind") != "credit_note" {
		t.Errorf("next entries: %s", e.body)
	}

	other, void := invoiced(t)
	if v := other.post(http.StatusOK, "/v1/invoices/"+void+"/void", `{"reason":"wrong customer"}`); v.text(t, "status") != "void" {
		t.Errorf("void: %s", v.body)
	}
	if l := other.get("/v1/invoices"); l.text(t, "items.0.status") != "void" || l.text(t, "items.0.standing.remaining.amount") != "0.00" {
		t.Errorf("list: %s", l.body)
	}
	other.ledgerHolds()
}

func TestBalances(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.subscribe("acme", "pro")
	path := "/v1/customers/acme/balance"
	if p := w.post(http.StatusCreated, path, `{"amount":{"amount":"50.00","currency":"USD"}}`); p.text(t, "kind") != "payment" {
		t.Errorf("deposit: %s", p.body)
	}
	if p := w.post(http.StatusConflict, path, `{"kind":"refund","amount":{"amount":"50.01","currency":"USD"}}`); p.text(t, "code") != "wrong_state" {
		t.Errorf("more than there is: %s", p.body)
	}
	if p := w.post(http.StatusCreated, path, `{"kind":"refund","amount":{"amount":"20.00","currency":"USD"}}`); p.text(t, "kind") != "refund" {
		t.Errorf("refund: %s", p.body)
	}
	if b := w.get(path); b.text(t, "balance.amount") != "30.00" {
		t.Errorf("balance: %s", b.body)
	}
	w.want(http.StatusNotFound, http.MethodPost, "/v1/customers/nobody/balance", `{"amount":{"amount":"1","currency":"USD"}}`)
	w.ledgerHolds()
}

func TestCreditNoteDocuments(t *testing.T) {
	t.Parallel()
	w, id := invoiced(t)
	note := w.post(http.StatusCreated, "/v1/invoices/"+id+"/credit-notes", `{"reason":"an outage","lines":[{"line":"1","amount":{"amount":"5.00","currency":"USD"}}]}`)
	path := "/v1/credit-notes/" + note.text(t, "id")
	wantField(t, w.get(path), "total.amount", "5.00")
	pdf := w.want(http.StatusOK, http.MethodGet, path+"/pdf", "")
	if !strings.HasPrefix(string(pdf.body), "%PDF-") || pdf.header.Get("Content-Disposition") != `attachment; filename="credit-note-CN-1.pdf"` {
		t.Errorf("the file is %q of %d bytes", pdf.header.Get("Content-Disposition"), len(pdf.body))
	}
	// The standard demands parties that this seller and customer do not name.
	wantField(t, w.want(http.StatusUnprocessableEntity, http.MethodGet, path+"/ubl", ""), "code", "document_incomplete")
	wantField(t, w.want(http.StatusNotFound, http.MethodGet, "/v1/credit-notes/crn_none", ""), "code", "not_found")
	w.want(http.StatusNotFound, http.MethodGet, "/v1/credit-notes/crn_none/pdf", "")
	csv := w.want(http.StatusOK, http.MethodGet, "/v1/invoices/"+id+"/csv", "")
	if !strings.Contains(string(csv.body), "finalized") {
		t.Errorf("the invoice: %s", csv.body)
	}
}
