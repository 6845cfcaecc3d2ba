package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

func TestProblemTable(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err    error
		code   code
		status int
		retry  int64
	}{
		{account.ErrNotFound, codeNotFound, 404, 0},
		{store.ErrNotFound, codeNotFound, 404, 0},
		{account.ErrExists, codeExists, 409, 0},
		{store.ErrExists, codeExists, 409, 0},
		{account.ErrState, codeState, 409, 0},
		{store.ErrConflict, codeConflict, 409, 0},
		{fmt.Errorf("%w: %w", account.ErrState, store.ErrConflict), codeState, 409, 0},
		{&govern.Invalid{Pointer: "/zone", Rule: "r", Fix: "f"}, codeInvalid, 422, 0},
		{&ingest.Invalid{Pointer: "/from", Rule: "r", Fix: "f"}, codeInvalid, 422, 0},
		{account.ErrInvalid, codeInvalid, 422, 0},
		{&govern.CatalogFaults{}, codeCatalogInvalid, 422, 0},
		{clock.ErrNotTest, codeClockNotTest, 409, 0},
		{clock.ErrBackward, codeClockBackward, 422, 0},
		{receipt.ErrToken, codeDecisionUnknown, 422, 0},
		{store.ErrFull, codeStoreFull, 503, 1},
		{fmt.Errorf("%w: %w", context.DeadlineExceeded, store.ErrUnknown), codeOutcomeUnknown, 503, 1},
	}
	for _, tt := range tests {
		p := problemOf(fmt.Errorf("a call: %w", tt.err))
		if p == nil || p.Code != tt.code || p.Status != tt.status || p.RetryAfter != tt.retry {
			t.Errorf("%v: %+v", tt.err, p)
			continue
		}
		if got := p.GetHeaders().Get("Retry-After"); got != "" != (tt.retry > 0) {
			t.Errorf("%v: Retry-After %q", tt.err, got)
		}
	}
	if p := problemOf(errors.New("a secret")); p != nil {
		t.Errorf("an unknown error is %+v", p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p := (&api{}).problem(ctx, ctx.Err()); p.Code != codeUnavailable { // and no log line, or it would panic
		t.Errorf("a call given up is %+v", p)
	}
}

func TestListEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ limit, have, items int }{
		{1, 0, 0}, {1, 1, 1}, {1, 2, 1}, {999, 999, 999}, {999, 1000, 999}, {1000, 999, 999}, {1000, 1000, 1000}, {1000, 2000, 1000},
	} {
		p := Paging{Limit: tt.limit}
		rows := make([]int, min(tt.have, p.fetch()))
		for i := range rows {
			rows[i] = i
		}
		l := listOf(p, "n", rows, strconv.Itoa, strconv.Itoa)
		more := tt.have > tt.limit || tt.have == pageMax && tt.limit == pageMax // a full last page cannot be told from others
		if len(l.Items) != tt.items || (l.Next != nil) != more {
			t.Errorf("limit %d of %d: %d items, next %v", tt.limit, tt.have, len(l.Items), l.Next)
		}
		if l.Next == nil {
			continue
		}
		if at, err := place("n", *l.Next); err != nil || at != strconv.Itoa(tt.limit-1) {
			t.Errorf("limit %d of %d: next begins behind %q, %v", tt.limit, tt.have, at, err)
		}
	}
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 10, 15, 12, 0, 0, 0, time.UTC)
	r := receipt.Receipt{
		Outcome: receipt.DeniedSpend, Time: at.UnixMicro(), CustomerID: "cus_1", Deciding: 0, Cost: 5, Scale: 1,
		Limits: []receipt.Limit{{Key: "spend", Kind: uint8(quota.SpendCap), Scale: 6, Before: 1_500_000, After: 1_500_000, Quota: 2_000_000, ResetAt: at.Add(time.Hour).UnixMicro(), Violated: true}},
	}
	const want = `{"outcome":"denied","code":"spend_cap_reached","decision_id":"dec_1","time":"2026-10-15T12:00:00Z","customer":"cus_1","customer_id":"cus_1",` +
		`"key_id":"","plan":"","route":"","meter":"","cost":"0.5","limit":"spend","consumed":"1.5","quota":"2","resets_at":"2026-10-15T13:00:00Z","catalog_version":0,` +
		`"would_pass_on":[],"limits":[{"limit":"spend","kind":"spend_cap","meter":"","before":"1.5","after":"1.5","quota":"2","overage":"0","resets_at":"2026-10-15T13:00:00Z","violated":true}],"truncated":false}`
	got, err := json.Marshal(Explanation("dec_1", r))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	key := Explanation("dec_2", receipt.Receipt{Outcome: receipt.DeniedKey, Detail: "key_expired", Deciding: -1, Scale: 255, Cost: 1})
	if key.Code != "key_expired" || key.Limit != "" || key.Consumed != nil || !key.ResetsAt.IsZero() || !key.Cost.IsZero() {
		t.Errorf("%+v", key)
	}
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "catalog.yaml", "a/b/plans.yaml": "plans.yaml", "/": "catalog.yaml", "..": "..", "x\ny": "catalog.yaml",
		strings.Repeat("x", 200): "catalog.yaml", "\xff.yaml": ".yaml",
	} {
		if got := fileName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor("keys", "key_1"))
	f.Add("")
	f.Add("a2V5czo")
	f.Add("!")
	f.Fuzz(func(t *testing.T, s string) {
		at, err := place("keys", s)
		if err != nil {
			if p := problemOf(err); p == nil || p.Code != codeCursorInvalid {
				t.Errorf("%v", err)
			}
			return
		}
		if s != "" && cursor("keys", at) != s {
			t.Errorf("%q is read as %q, which is written %q", s, at, cursor("keys", at))
		}
	})
}

func FuzzPointer(f *testing.F) {
	f.Add("body.a[0].b")
	f.Add("query.limit")
	f.Add("body." + strings.Repeat("ä", 200))
	f.Fuzz(func(t *testing.T, s string) {
		if p := pointer(s); len(p) > pointerMax+8 || p != "" && p[0] != '/' {
			t.Errorf("%q: %q", s, p)
		}
	})
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	r := &http.Request{}
	if a := record(r, func(http.ResponseWriter, *http.Request) {}); a.Status != http.StatusOK {
		t.Errorf("%+v", a)
	}
	a := record(r, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK) // too late
		_, _ = io.WriteString(w, "x")
	})
	if a.Status != http.StatusTeapot || string(a.Body) != "x" {
		t.Errorf("%+v", a)
	}
}
