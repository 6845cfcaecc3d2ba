package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/store"
)

// testSinks keeps the messages of all exports in one list.
type testSinks struct {
	got  []store.Message
	down error
}

func (s *testSinks) Check(to string) error {
	if !strings.HasPrefix(to, "kafka://") {
		return errors.New("is no kafka:// URL")
	}
	return nil
}

func (s *testSinks) Open(context.Context, string) (store.Sink, error) { return s, s.down }

func (s *testSinks) Send(_ context.Context, batch []store.Message) error {
	s.got = append(s.got, batch...)
	return nil
}

func (s *testSinks) Close() error { return nil }

func TestExports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply()
	w.want(http.StatusCreated, http.MethodPost, "/v1/customers", `{"key":"acme"}`)
	w.golden("export_create", w.want(http.StatusCreated, http.MethodPost, "/v1/exports", `{"name":"warehouse","to":"kafka://broker:9092/tally?user=u&password_env=TALLY_EXPORT_PW"}`))
	w.want(http.StatusConflict, http.MethodPost, "/v1/exports", `{"name":"warehouse","to":"kafka://b:1/x"}`)
	for body, pointer := range map[string]string{
		`{"name":"a","to":"http://b"}`:                         "/to",
		`{"name":"invoices","to":"kafka://b:1/x"}`:             "/name",
		`{"name":"a b","to":"kafka://b:1/x"}`:                  "/name",
		`{"name":"a","to":"kafka://b:1/x","what":["nothing"]}`: "/what/0",
		`{"name":"a","to":"kafka://b:1/x","from":"yesterday"}`: "/from",
	} {
		if a := w.post(422, "/v1/exports", body); !strings.Contains(string(a.body), pointer) {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	w.sinks.down = errors.New("kafka: the broker is away")
	w.reportSome()
	if err := w.exports.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.golden("checks", w.want(http.StatusOK, http.MethodGet, "/v1/checks", ""))
	w.golden("export_failing", w.want(http.StatusOK, http.MethodGet, "/v1/exports/warehouse", ""))
	w.sinks.down = nil
	w.step()
	if err := w.exports.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.golden("export_list", w.want(http.StatusOK, http.MethodGet, "/v1/exports", ""))
	if len(w.sinks.got) == 0 {
		t.Error("nothing was sent")
	}
	if a := w.post(200, "/v1/exports/warehouse/pause", `{}`); a.text(t, "state") != "paused" {
		t.Errorf("paused: %s", a.body)
	}
	if a := w.post(200, "/v1/exports/warehouse/resume", ``); a.text(t, "state") != "running" {
		t.Errorf("resumed: %s", a.body)
	}
	w.want(http.StatusNotFound, http.MethodGet, "/v1/exports/nobody", "")
	w.want(http.StatusOK, http.MethodDelete, "/v1/exports/warehouse", "")
	w.want(http.StatusNotFound, http.MethodDelete, "/v1/exports/warehouse", "")
	w.want(http.StatusNotFound, http.MethodPost, "/v1/exports/warehouse/pause", "{}")
	if a := w.want(http.StatusOK, http.MethodGet, "/v1/audit", ""); strings.Count(string(a.body), `"export.`) != 4 {
		t.Errorf("audit: %s", a.body)
	}
}
