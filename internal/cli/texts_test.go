package cli

import (
	"strings"
	"testing"
)

func TestInvoiceText(t *testing.T) {
	t.Parallel()
	d, err := parseDoc([]byte(`{"id":"inv_1","number":7,"lines":[
		{"number":1,"kind":"flat","price":"base","quantity":"1","exact":"50","rounded":{"amount":"50.00"},"tiers":[{"tier":0,"quantity":"1","unit_amount":"50","amount":"50"}]},
		{"number":2,"kind":"adjustment","price":"seats","quantity":"-1","exact":"-5","rounded":{"amount":"-5.00"}},
		{"number":3,"kind":"coupon","price":"","name":"Spring offer","quantity":"0","exact":"-9","rounded":{"amount":"-9.00"}}],
		"taxes":[{"name":"USt.","percent":"19","amount":{"amount":"6.84"}}],"total":{"amount":"42.84","currency":"EUR"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := invoiceText(&b, d); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"1 base\t\t1\t50\t50.00\n  charged\t\t1 × 50\t50\t\n", "2 seats (adjustment)\t\t-1\t-5\t-5.00\n", "3 Spring offer (coupon)\t\t\t-9\t-9.00\n",
		"USt. 19 %\t\t\t\t6.84\n", "total\t\t\t\t42.84 EUR\n",
	} {
		if !strings.Contains(b.String(), row) {
			t.Errorf("without the row %q:\n%s", row, b.String())
		}
	}
}

func TestGrantsSayWhatTheyAreOf(t *testing.T) {
	t.Parallel()
	d, err := parseDoc([]byte(`{"items":[
		{"id":"grt_1","customer":"acme","currency":"EUR","amount":"25","status":"active"},
		{"id":"grt_2","customer":"acme","meter":"minutes","amount":"1000","status":"active"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := grantsText(&b, d); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{"grt_1\tacme\tEUR\t25\t", "grt_2\tacme\tminutes\t1000\t"} {
		if !strings.Contains(b.String(), row) {
			t.Errorf("without the row %q:\n%s", row, b.String())
		}
	}
}
