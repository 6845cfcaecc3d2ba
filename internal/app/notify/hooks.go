package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	keyLen      = 32
	urlMax      = 2048
	webhooksMax = 100
	dueMax      = 100
	errorMax    = 200
	timeout     = 10 * time.Second
)

// backoff is how long the next attempt waits after each failed one; after the last the delivery is given up.
func backoff() []time.Duration {
	return []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	}
}

// Invalid is a refused webhook.
type Invalid = govern.Invalid

// Create adds a webhook. The secret can be shown again: it is derived from the deployment's key.
func (s *Service) Create(ctx context.Context, actor, target string, kinds []string) (w store.Webhook, secret string, err error) {
	u, perr := url.Parse(target)
	switch {
	case len(target) > urlMax || perr != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return w, "", &Invalid{Pointer: "/url", Rule: "is not an absolute http or https URL of at most 2048 bytes", Fix: "such as https://example.com/tally"}
	case u.User != nil || u.Fragment != "":
		return w, "", &Invalid{Pointer: "/url", Rule: "must hold neither credentials nor a fragment", Fix: "check the signature instead"}
	}
	for i, k := range kinds {
		if !slices.Contains(Kinds(), k) {
			return w, "", &Invalid{Pointer: fmt.Sprintf("/kinds/%d", i), Rule: fmt.Sprintf("%q is no kind of notice", k), Fix: "one of " + strings.Join(Kinds(), ", ")}
		}
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	all, err := s.cfg.Records.ListWebhooks(ctx, Query{Limit: pageMax})
	if err != nil {
		return w, "", err
	}
	live := slices.DeleteFunc(slices.Clone(all), func(w store.Webhook) bool { return !w.DisabledAt.IsZero() })
	if len(live) >= webhooksMax || len(all) >= pageMax {
		return w, "", &Invalid{Pointer: "/url", Rule: fmt.Sprintf("there are %d webhooks in use, the most there may be", len(live)), Fix: "disable one"}
	}
	now := s.cfg.Now().UTC().Truncate(time.Microsecond)
	w = store.Webhook{URL: target, Kinds: append([]string{}, kinds...), CreatedAt: now}
	if w.ID, err = account.NewID("whk", now, s.cfg.Random); err != nil {
		return w, "", err
	}
	a, err := s.audit(now, actor, "webhook.create", w.ID)
	if err != nil {
		return w, "", err
	}
	if err := s.cfg.Records.PutWebhook(ctx, w, a); err != nil {
		return w, "", fmt.Errorf("create webhook: %w", err)
	}
	return w, s.Secret(w.ID), nil
}

func (s *Service) audit(now time.Time, actor, action, target string) (store.Audit, error) {
	id, err := account.NewID("aud", now, s.cfg.Random)
	return store.Audit{ID: id, Time: now, Actor: actor, Action: action, Target: target, Detail: "{}"}, err
}

// Disable ends a webhook; doing it twice keeps the first time. account.ErrNotFound.
func (s *Service) Disable(ctx context.Context, actor, id string) (store.Webhook, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.cfg.Now().UTC().Truncate(time.Microsecond)
	a, err := s.audit(now, actor, "webhook.disable", id)
	if err != nil {
		return store.Webhook{}, err
	}
	w, err := s.cfg.Records.DisableWebhook(ctx, id, now, a)
	if errors.Is(err, store.ErrNotFound) {
		return w, fmt.Errorf("there is no webhook %q: %w", id, account.ErrNotFound)
	}
	return w, err
}

// Webhooks pages through all, newest first.
func (s *Service) Webhooks(ctx context.Context, q Query) ([]store.Webhook, error) {
	return s.cfg.Records.ListWebhooks(ctx, paged(q))
}

// Deliveries are a notice's. account.ErrNotFound.
func (s *Service) Deliveries(ctx context.Context, noticeID string) (store.Notice, []store.Delivery, error) {
	n, err := s.cfg.Records.Notice(ctx, noticeID)
	if errors.Is(err, store.ErrNotFound) {
		return n, nil, fmt.Errorf("there is no notice %q: %w", noticeID, account.ErrNotFound)
	}
	if err != nil {
		return n, nil, err
	}
	ds, err := s.cfg.Records.DeliveriesOf(ctx, noticeID)
	return n, ds, err
}

// Redeliver makes a notice due again at every webhook in use that it was meant for. account.ErrNotFound.
func (s *Service) Redeliver(ctx context.Context, noticeID string) error {
	_, ds, err := s.Deliveries(ctx, noticeID)
	if err != nil {
		return err
	}
	hooks, err := s.hooks(ctx)
	if err != nil {
		return err
	}
	for _, d := range ds {
		if w, ok := hooks[d.WebhookID]; !ok || !w.DisabledAt.IsZero() {
			continue
		}
		d.State, d.Attempts, d.NextAt, d.LastError = store.DeliveryDue, 0, s.cfg.Now(), ""
		if err := s.cfg.Records.PutDelivery(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) hooks(ctx context.Context) (map[string]store.Webhook, error) {
	all, err := s.cfg.Records.ListWebhooks(ctx, Query{Limit: pageMax})
	if err != nil {
		return nil, err
	}
	out := make(map[string]store.Webhook, len(all))
	for _, w := range all {
		out[w.ID] = w
	}
	return out, nil
}

// Secret is what a webhook's deliveries are signed with, in the form of Standard Webhooks (standardwebhooks.com).
func (s *Service) Secret(webhookID string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(s.key(webhookID))
}

func (s *Service) key(webhookID string) []byte {
	mac := hmac.New(sha256.New, s.cfg.Key)
	mac.Write([]byte("webhook " + webhookID))
	return mac.Sum(nil)
}

// sign makes the header fields of Standard Webhooks 1.0: the signature is HMAC-SHA-256 over "id.timestamp.body".
func (s *Service) sign(webhookID, noticeID string, at time.Time, text []byte) map[string]string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, s.key(webhookID))
	mac.Write([]byte(noticeID + "." + stamp + "."))
	mac.Write(text)
	return map[string]string{
		"Content-Type": "application/json", "Webhook-Id": noticeID, "Webhook-Timestamp": stamp,
		"Webhook-Signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}
}

// Deliver sends what is due, a bounded number a call. real is the machine's clock, which receivers compare the signature's with.
// more says that there may be more.
func (s *Service) Deliver(ctx context.Context, real time.Time) (more bool, err error) {
	due, err := s.cfg.Records.DueDeliveries(ctx, s.cfg.Now(), dueMax)
	if err != nil || len(due) == 0 {
		return false, err
	}
	hooks, err := s.hooks(ctx)
	if err != nil {
		return false, err
	}
	tried := map[string]int{} // by webhook: one that does not answer holds up the others once
	for _, d := range due {
		if tried[d.WebhookID] > 0 {
			continue
		}
		ok, err := s.attempt(ctx, d, hooks[d.WebhookID], real)
		if err != nil {
			return false, err
		}
		if !ok {
			tried[d.WebhookID]++
		}
	}
	return len(due) == dueMax, nil
}

// attempt sends one delivery and notes how it went.
func (s *Service) attempt(ctx context.Context, d store.Delivery, w store.Webhook, real time.Time) (ok bool, err error) {
	n, err := s.cfg.Records.Notice(ctx, d.NoticeID)
	if err != nil {
		return false, err
	}
	sending, cancel := context.WithTimeout(ctx, timeout)
	status, fault := s.cfg.Sender.Send(sending, w.URL, s.sign(w.ID, n.ID, real, n.Body), n.Body)
	cancel()
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	now := s.cfg.Now()
	d.Attempts, d.LastAt, d.LastError = d.Attempts+1, now, ""
	switch waits := backoff(); {
	case fault == nil && status >= 200 && status < 300:
		d.State, d.NextAt, ok = store.DeliveryDelivered, time.Time{}, true
	case fault == nil && status == 410: // gone for good
		d.State, d.NextAt, d.LastError = store.DeliveryFailed, time.Time{}, "the receiver answered 410 Gone"
	case d.Attempts > len(waits):
		d.State, d.NextAt, d.LastError = store.DeliveryFailed, time.Time{}, said(status, fault)
	default:
		d.NextAt, d.LastError = now.Add(waits[d.Attempts-1]), said(status, fault)
	}
	s.count(d)
	return ok, s.cfg.Records.PutDelivery(ctx, d)
}

func (s *Service) count(d store.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch d.State {
	case store.DeliveryDelivered:
		s.sent++
	case store.DeliveryFailed:
		s.failed++
	case store.DeliveryDue:
		s.retried++
	}
}

func said(status int, fault error) string {
	text := fmt.Sprintf("the receiver answered %d", status)
	if fault != nil {
		text = fault.Error()
	}
	return text[:min(len(text), errorMax)]
}
