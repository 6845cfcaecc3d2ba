package account_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
)

func at(second int) time.Time { return time.Date(2026, 3, 1, 12, 0, second, 0, time.UTC) }

func TestKeyStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		key  account.APIKey
		now  time.Time
		want account.KeyStatus
		text string
	}{
		{"without end", account.APIKey{}, at(0), account.KeyActive, "active"},
		{"just before expiry", account.APIKey{ExpiresAt: at(10)}, at(10).Add(-1), account.KeyActive, "active"},
		{"at expiry", account.APIKey{ExpiresAt: at(10)}, at(10), account.KeyExpired, "expired"},
		{"revoked and expired", account.APIKey{ExpiresAt: at(10), RevokedAt: at(5)}, at(20), account.KeyRevoked, "revoked"},
		{"the clock stepped back", account.APIKey{RevokedAt: at(5)}, at(1), account.KeyRevoked, "revoked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.key.Status(tt.now); got != tt.want || got.String() != tt.text {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestSubscriptionActive(t *testing.T) {
	t.Parallel()
	open := account.Subscription{Start: at(10)}
	ended := account.Subscription{Start: at(10), End: at(20)}
	tests := []struct {
		name string
		sub  account.Subscription
		now  time.Time
		want bool
	}{
		{"before", open, at(10).Add(-1), false},
		{"at start", open, at(10), true},
		{"open for ever", open, at(10).AddDate(100, 0, 0), true},
		{"just before the end", ended, at(20).Add(-1), true},
		{"at the end", ended, at(20), false},
		{"empty", account.Subscription{Start: at(10), End: at(10)}, at(10), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.sub.Active(tt.now); got != tt.want {
				t.Errorf("Active = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSubscriptionAnchor(t *testing.T) {
	t.Parallel()
	got := account.Subscription{Start: at(10), BillingDay: 31}.Anchor(period.Zone{})
	want := period.Anchor{Start: at(10), Day: 31}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(period.Zone{})); diff != "" {
		t.Errorf("anchor (-want +got):\n%s", diff)
	}
}
