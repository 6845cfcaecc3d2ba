package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestCalc(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const path = "/v1/calc"
	got := w.post(http.StatusOK, path, `{"op":"allocate","id":"a","currency":"USD","amount":"1","weights":["1","1"]}`)
	if want := `{"id":"a","parts":["0.50","0.50"]}` + "\n"; string(got.body) != want {
		t.Errorf("%s, want %s", got.body, want)
	}
	tests := []struct{ body, code, pointer string }{
		{`{"op":"allocate","currency":"USD","amount":"1","weights":["` + hidden + `"]}`, "calc_invalid", "/weights/0"},
		{`{"op":"` + hidden + `"}`, "calc_invalid", "/op"},
		{`{"op":"` + hidden, "calc_syntax", ""},
		{`{"op":"allocate","currency":"USD","amount":"` + strings.Repeat("9", 30) + `","weights":["1"]}`, "calc_overflow", ""},
	}
	for _, tt := range tests {
		a := w.post(http.StatusUnprocessableEntity, path, tt.body)
		if a.text(t, "code") != tt.code || a.text(t, "errors.0.rule") == "" || strings.Contains(string(a.body), hidden) {
			t.Errorf("%s: %s, want %s", tt.body, a.body, tt.code)
		}
		if tt.pointer != "" && a.text(t, "errors.0.pointer") != tt.pointer {
			t.Errorf("%s: %s, want it at %s", tt.body, a.body, tt.pointer)
		}
	}
	if a := w.call(http.MethodPost, path, `{}`, "Content-Type", "text/plain"); a.status != http.StatusUnsupportedMediaType {
		t.Errorf("a text: %d", a.status)
	}
	if a := w.call(http.MethodPost, path, `{}`, "Authorization", "Bearer nobody"); a.status != http.StatusUnauthorized {
		t.Errorf("anybody: %d", a.status)
	}
}
