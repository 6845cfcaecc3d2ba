package httpapi_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// billed is a world with customers whose months are invoiced.
func billed(t *testing.T, customers int) *world {
	w := newWorld(t)
	w.apply()
	for i := range customers {
		secret := w.subscribe(fmt.Sprintf("c%d", i), "pro")
		for range 3 + i {
			w.request(secret)
		}
		w.step()
	}
	for _, to := range []string{"2026-11-16T00:00:00Z", "2026-12-16T00:00:00Z"} {
		w.want(http.StatusOK, http.MethodPost, "/v1/clock/advance", `{"to":"`+to+`"}`)
	}
	return w
}

// first is the newest invoice with a line of usage.
func (w *world) first() string {
	for i := range 9 {
		a := w.get("/v1/invoices?limit=1000")
		if kind, _ := a.field(w.t, fmt.Sprintf("items.%d.lines.0.kind", i)).(string); kind == "usage" {
			return a.text(w.t, fmt.Sprintf("items.%d.id", i))
		}
	}
	w.t.Fatal("no invoice has usage")
	return ""
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	w := billed(t, 1)
	id := w.first()
	pdf := w.want(http.StatusOK, http.MethodGet, "/v1/invoices/"+id+"/pdf", "")
	if !bytes.HasPrefix(pdf.body, []byte("%PDF-")) || pdf.header.Get("Content-Type") != "application/pdf" ||
		!strings.HasPrefix(pdf.header.Get("Content-Disposition"), `attachment; filename="invoice-`) || pdf.header.Get("Cache-Control") != "no-store" {
		t.Errorf("PDF: %v", pdf.header)
	}
	if again := w.get("/v1/invoices/" + id + "/pdf"); !bytes.Equal(again.body, pdf.body) {
		t.Error("two calls, two files")
	}
	table := w.want(http.StatusOK, http.MethodGet, "/v1/invoices/"+id+"/csv", "")
	if rows, err := csv.NewReader(bytes.NewReader(table.body)).ReadAll(); err != nil || len(rows) < 2 || rows[0][0] != "document" {
		t.Errorf("CSV: %v, %v", rows, err)
	}
	if a := w.want(http.StatusUnprocessableEntity, http.MethodGet, "/v1/invoices/"+id+"/ubl", ""); a.text(t, "code") != "document_incomplete" || !strings.Contains(a.text(t, "detail"), "the seller's name") {
		t.Errorf("UBL without a seller: %s", a.body)
	}
	if a := w.want(http.StatusOK, http.MethodGet, "/v1/customers/c0/preview/pdf", ""); !bytes.HasPrefix(a.body, []byte("%PDF-")) {
		t.Error("no PDF of the preview")
	}
	for path, status := range map[string]int{
		"/v1/invoices/inv_none/pdf": 404, "/v1/invoices/" + id + "/pdf?x=1": 422, "/v1/invoices/" + id + "/docx": 404, "/v1/customers/none/preview/pdf": 404,
		"/v1/invoices/" + id + "/usage.csv?by=hour": 422, "/v1/invoices/" + id + "/usage.csv?line=99": 404, "/v1/invoices/" + id + "/usage.csv?group_by=none": 422,
	} {
		a := w.want(status, http.MethodGet, path, "")
		if a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Content-Disposition") != "" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
}

// TestUsageTable: by day, with and without groups, and by event, the table adds up to what the line charges.
func TestUsageTable(t *testing.T) {
	t.Parallel()
	w := billed(t, 1)
	id := w.first()
	for _, query := range []string{"", "?by=day&group_by=route", "?by=event", "?line=1"} {
		a := w.want(http.StatusOK, http.MethodGet, "/v1/invoices/"+id+"/usage.csv"+query, "")
		rows, err := csv.NewReader(bytes.NewReader(a.body)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		at, sum := 0, 0
		for i, name := range rows[0] {
			if name == "quantity" {
				at = i
			}
		}
		for _, r := range rows[1:] {
			n := 0
			if _, err := fmt.Sscan(r[at], &n); err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		if sum != 3 {
			t.Errorf("%s: the table adds up to %d:\n%s", query, sum, a.body)
		}
	}
}

// part reads an archive and checks it against its manifest.
func (w *world) part(query string) (names []string, next string) {
	w.t.Helper()
	a := w.want(http.StatusOK, http.MethodGet, "/v1/exports/invoices"+query, "")
	r, err := zip.NewReader(bytes.NewReader(a.body), int64(len(a.body)))
	if err != nil {
		w.t.Fatal(err)
	}
	var list struct {
		Items []struct {
			File, Error, SHA256 string
			Bytes               int
		}
		Next *string
	}
	files := map[string][]byte{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			w.t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(in); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := json.Unmarshal(files["manifest.json"], &list); err != nil || r.File[len(r.File)-1].Name != "manifest.json" {
		w.t.Fatalf("manifest: %v", err)
	}
	listed := 1
	for _, i := range list.Items {
		if i.Error != "" {
			continue
		}
		listed++
		sum := sha256.Sum256(files[i.File])
		if i.SHA256 != hex.EncodeToString(sum[:]) || i.Bytes != len(files[i.File]) {
			w.t.Errorf("%s is not what the manifest says", i.File)
		}
		names = append(names, i.File)
	}
	if listed != len(files) {
		w.t.Errorf("%d files, %d listed", len(files), listed)
	}
	if list.Next != nil {
		next = *list.Next
	}
	return names, next
}

// TestExport takes all invoices in one part and in parts of two: the same files in the same order.
func TestExport(t *testing.T) {
	t.Parallel()
	w := billed(t, 3)
	all, next := w.part("?format=pdf,csv,json,ubl")
	if next != "" || len(all) != 3*3*3 { // three customers, three invoices each, three formats that can be made
		t.Fatalf("%d files, next %q", len(all), next)
	}
	var parts []string
	for query := "?format=pdf,csv,json&limit=2"; ; query = "?format=pdf,csv,json&limit=2&cursor=" + next {
		var names []string
		names, next = w.part(query)
		if parts = append(parts, names...); next == "" {
			break
		}
	}
	if strings.Join(all, " ") != strings.Join(parts, " ") {
		t.Errorf("in parts:\n%v\nwhole:\n%v", parts, all)
	}
	for query, want := range map[string]int{
		"?customer=c1": 3, "?period=2026-10": 6, "?period=2026-11": 3, "?period=2026-09": 0, "?from=2026-12-01T00:00:00Z": 3, "?to=2026-12-01T00:00:00Z": 6,
		"?customer=c1&period=2026-11": 1,
	} {
		if names, _ := w.part(query); len(names) != want {
			t.Errorf("%s: %v, want %d", query, names, want)
		}
	}
	for query, code := range map[string]string{
		"?format=docx": "invalid", "?period=october": "invalid", "?from=yesterday": "invalid", "?limit=0": "invalid", "?limit=1001": "invalid", "?x=1": "invalid",
		"?customer=none": "not_found", "?cursor=x": "cursor_invalid",
	} {
		a := w.call(http.MethodGet, "/v1/exports/invoices"+query, "")
		if got := a.text(t, "code"); got != code || a.header.Get("Content-Disposition") != "" {
			t.Errorf("%s: %s, want %s", query, got, code)
		}
	}
	if a := w.call(http.MethodGet, "/v1/exports/invoices", "", "Authorization", ""); a.status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", a.status)
	}
}
