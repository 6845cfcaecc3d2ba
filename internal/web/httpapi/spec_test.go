package httpapi_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/web/httpapi"
)

const committed = "../../../api/openapi.yaml"

func TestSpecIsCommitted(t *testing.T) {
	t.Parallel()
	got, err := httpapi.Spec()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(committed), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(committed, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("api/openapi.yaml is not what the code says: run make gen")
	}
}

// described is the part of the document that the lint looks at.
type described struct {
	OpenAPI string `json:"openapi"`
	Paths   map[string]map[string]struct {
		OperationID string                `json:"operationId"`
		Security    []map[string][]string `json:"security"`
		Parameters  []struct{ Name, In string }
		RequestBody struct {
			Content map[string]json.RawMessage
		} `json:"requestBody"`
		Responses map[string]struct {
			Content map[string]struct {
				Schema map[string]any
			}
		}
	}
	Components struct {
		Schemas         map[string]map[string]any
		SecuritySchemes map[string]any `json:"securitySchemes"`
	}
}

func TestSpecLint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	raw := w.want(http.StatusOK, http.MethodGet, "/openapi.json", "").body
	var doc described
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	ids := map[string]string{}
	var routes []string
	for path, operations := range doc.Paths {
		for method, op := range operations {
			route := strings.ToUpper(method) + " " + path
			routes = append(routes, route)
			if op.OperationID == "" || ids[op.OperationID] != "" {
				t.Errorf("%s: operation id %q is empty or that of %s", route, op.OperationID, ids[op.OperationID])
			}
			ids[op.OperationID] = route
			if len(op.Security) == 0 {
				t.Errorf("%s says nothing of security", route)
			}
			for _, alternatives := range op.Security {
				for scheme := range alternatives {
					if doc.Components.SecuritySchemes[scheme] == nil {
						t.Errorf("%s: security scheme %q is not declared", route, scheme)
					}
				}
			}
			if op.Responses["default"].Content["application/problem+json"].Schema["$ref"] != "#/components/schemas/Problem" {
				t.Errorf("%s: no problem response", route)
			}
			keyed := false
			for _, p := range op.Parameters {
				keyed = keyed || p.Name == "Idempotency-Key" && p.In == "header"
			}
			if keyed != (method == "post") {
				t.Errorf("%s: Idempotency-Key is documented: %v", route, keyed)
			}
		}
	}
	slices.Sort(routes)
	for _, pattern := range httpapi.Patterns(w.h) {
		if strings.Contains(pattern, " /v1/") && !slices.Contains(routes, pattern) {
			t.Errorf("%s is not described", pattern)
		}
	}
	for _, route := range routes {
		if !slices.Contains(httpapi.Patterns(w.h), route) {
			t.Errorf("%s is described, but there is no such route", route)
		}
	}
	for _, bad := range []string{`"$schema"`, "ErrorModel", "ErrorDetail", `["array","null"]`, `"type":"number"`} {
		if strings.Contains(strings.Join(strings.Fields(string(raw)), ""), strings.ReplaceAll(bad, " ", "")) {
			t.Errorf("the document says %s", bad)
		}
	}
}
