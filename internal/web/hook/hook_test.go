package hook_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/web/hook"
)

func TestSend(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		default:
			got = r
			body, _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer s.Close()
	c := hook.New()
	status, err := c.Send(t.Context(), s.URL+"/x", map[string]string{"Webhook-Id": "ntc_1", "Content-Type": "application/json"}, []byte(`{"a":1}`))
	if err != nil || status != 202 || got.Method != http.MethodPost || got.Header.Get("Webhook-Id") != "ntc_1" || string(body) != `{"a":1}` {
		t.Errorf("%d %v %+v %q", status, err, got, body)
	}
	if status, err := c.Send(t.Context(), s.URL+"/moved", nil, nil); err != nil || status != 302 {
		t.Errorf("a redirect: %d %v", status, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Send(ctx, s.URL+"/slow", nil, nil); err == nil {
		t.Error("a slow receiver was waited for")
	}
	if _, err := c.Send(t.Context(), "http://127.0.0.1:1/", nil, nil); err == nil {
		t.Error("nobody listens there")
	}
}
