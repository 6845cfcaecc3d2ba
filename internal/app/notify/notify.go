// Package notify tells customers and operators what they should know in time: a limit's threshold was passed, a limit will be used
// up before its window ends, use is abnormal. Each is told once, kept as a notice, and sent to webhooks until one answers.
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/forecast"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// The kinds of notices.
const (
	LimitThreshold = "limit.threshold" // a percentage of a limit was passed
	LimitForecast  = "limit.forecast"  // at this pace it is used up before its window ends
	CreditsLow     = "credits.low"     // a percentage of the credits was passed
	SpendCapNear   = "spend_cap.near"  // a percentage of the cap was passed
	UsageAbnormal  = "usage.abnormal"  // far above what is usual at this hour of the week
	UsageNormal    = "usage.normal"    // usual again

	BalanceLow      = "balance.low"       // a fifth of what was granted is left, or less
	BalanceEmpty    = "balance.empty"     // nothing is left of the credits
	BalanceToppedUp = "balance.topped_up" // credits were granted by a rule
)

// Kinds lists them all.
func Kinds() []string {
	usual := []string{LimitThreshold, LimitForecast, CreditsLow, SpendCapNear, UsageAbnormal, UsageNormal, BalanceLow, BalanceEmpty, BalanceToppedUp}
	return append(usual, invoiceKinds()...)
}

const (
	queueMax   = 10_000 // notices that wait to be stored
	kept       = 90 * 24 * time.Hour
	pruneEvery = time.Hour
	pageUsual  = 100
	pageMax    = 1000
)

// Directory is what notices need of accounts.
type Directory interface {
	Customer(ref string) (account.Customer, bool)
}

// Records is what is kept.
type Records interface{ store.Messages }

// Sender sends one body to a webhook. status is the answer's; err when there was none.
type Sender interface {
	Send(ctx context.Context, url string, header map[string]string, body []byte) (status int, err error)
}

// Config of a Service; all fields are required.
type Config struct {
	Directory Directory
	Records   Records
	Sender    Sender
	Now       func() time.Time // business clock
	Random    io.Reader
	// Key signs what is sent: each webhook's secret is derived from it. 32 bytes.
	Key []byte
	Log *slog.Logger
}

// Service is safe for concurrent use.
type Service struct {
	cfg     Config
	ticking sync.Mutex // one Tick at a time: the head of the queue is stored once, then removed
	writing sync.Mutex // guards cfg.Random, and what is stored in the order of ids

	mu      sync.Mutex // guards all below
	queue   []Message
	seen    map[string]bool // of the present queue and what was stored lately: their Once
	lost    int64
	told    int64
	pruned  time.Time
	sent    int64
	failed  int64
	retried int64
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Records == nil || cfg.Sender == nil || cfg.Now == nil || cfg.Random == nil || cfg.Log == nil || len(cfg.Key) != keyLen {
		return nil, errors.New("notify: incomplete configuration")
	}
	return &Service{cfg: cfg, seen: map[string]bool{}}, nil
}

// Message is what a notice says. Once names the occasion: of two with the same one is told.
type Message struct {
	Kind, CustomerID, Once string
	At                     time.Time
	Limit, Meter, Scope    string
	Percent                int
	Consumed, Quota        money.Decimal
	WindowStart, WindowEnd time.Time
	ExhaustedAt            time.Time // LimitForecast
	Usual                  money.Decimal
	Invoice                *Invoice      // nil: about none
	Left                   money.Decimal // BalanceLow: of Quota, which is what was granted; without Meter it is money
}

// body is the notice as it is stored and sent.
type body struct {
	ID          string         `json:"id"`
	Type        string         `json:"type"`
	Time        time.Time      `json:"time"`
	Customer    string         `json:"customer"`
	CustomerID  string         `json:"customer_id"`
	Limit       string         `json:"limit,omitempty"`
	Meter       string         `json:"meter,omitempty"`
	Scope       string         `json:"scope,omitempty"`
	Percent     int            `json:"percent,omitempty"`
	Consumed    *money.Decimal `json:"consumed,omitempty"`
	Quota       *money.Decimal `json:"quota,omitempty"`
	Usual       *money.Decimal `json:"usual,omitempty"`
	Left        *money.Decimal `json:"left,omitempty"`
	Granted     *money.Decimal `json:"granted,omitempty"`
	WindowStart time.Time      `json:"window_start,omitzero"`
	WindowEnd   time.Time      `json:"window_end,omitzero"`
	ExhaustedAt time.Time      `json:"exhausted_at,omitzero"`
	Invoice     *Invoice       `json:"invoice,omitempty"`
}

// seenMax bounds the memory of what was told; the records know the rest.
const seenMax = 50_000

// Tell queues a message. It never blocks: a full queue drops it and counts.
func (s *Service) Tell(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.seen[m.Once]:
	case len(s.queue) >= queueMax:
		s.lost++
	default:
		if len(s.seen) >= seenMax {
			clear(s.seen)
		}
		s.seen[m.Once] = true
		s.queue = append(s.queue, m)
	}
}

// Passed queues what enforcement noticed: a threshold, and from half of a limit on its forecast.
func (s *Service) Passed(n enforce.Notice) {
	m := Message{
		Kind: LimitThreshold, CustomerID: n.CustomerID, At: time.UnixMicro(n.At).UTC(), Limit: n.Limit, Meter: n.Meter, Scope: n.Scope, Percent: n.Percent,
		Consumed: money.FromScaled(n.Consumed, n.Scale), Quota: money.FromScaled(n.Quota, n.Scale),
	}
	if n.WindowEnd > 0 {
		m.WindowStart, m.WindowEnd = time.UnixMicro(n.WindowStart).UTC(), time.UnixMicro(n.WindowEnd).UTC()
	}
	switch {
	case n.Credits:
		m.Kind = CreditsLow
	case n.Money:
		m.Kind = SpendCapNear
	}
	occasion := fmt.Sprintf("%s|%s|%s|%d", n.CustomerID, n.Limit, n.Scope, n.WindowStart)
	m.Once = fmt.Sprintf("%s|%s|%d", m.Kind, occasion, n.Percent)
	s.Tell(m)
	if at, ok := forecast.Exhausts(n.Consumed, n.Quota, n.WindowStart, n.WindowEnd, n.At); ok && n.WindowEnd > 0 {
		m.Kind, m.Once, m.ExhaustedAt = LimitForecast, LimitForecast+"|"+occasion, time.UnixMicro(at).UTC()
		s.Tell(m)
	}
}

// Tick stores what was queued and drops what is old. A second one waits for the first.
func (s *Service) Tick(ctx context.Context) error {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	for {
		s.mu.Lock()
		var m Message
		some := len(s.queue) > 0
		if some {
			m = s.queue[0]
		}
		s.mu.Unlock()
		if !some {
			return s.prune(ctx)
		}
		if err := s.store(ctx, m); err != nil {
			return err // it stays at the head
		}
		s.mu.Lock()
		s.queue = s.queue[1:]
		s.mu.Unlock()
	}
}

// Store stores a message at once. Doing it again does nothing.
func (s *Service) Store(ctx context.Context, m Message) error { return s.store(ctx, m) }

func (s *Service) store(ctx context.Context, m Message) error {
	cust, ok := s.cfg.Directory.Customer(m.CustomerID)
	if !ok {
		return nil // nobody to tell
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	id, err := account.NewID("ntc", m.At, s.cfg.Random)
	if err != nil {
		return err
	}
	b := body{
		ID: id, Type: m.Kind, Time: m.At, Customer: cust.Key, CustomerID: cust.ID, Limit: m.Limit, Meter: m.Meter, Scope: m.Scope, Percent: m.Percent,
		WindowStart: m.WindowStart, WindowEnd: m.WindowEnd, ExhaustedAt: m.ExhaustedAt,
		Invoice: m.Invoice,
	}
	switch {
	case m.Invoice != nil:
	case m.Kind == BalanceToppedUp:
		b.Granted = &m.Quota
	case m.Kind == BalanceLow || m.Kind == BalanceEmpty:
		b.Left, b.Granted = &m.Left, &m.Quota
	case m.Limit != "":
		b.Consumed, b.Quota = &m.Consumed, &m.Quota
	default:
		b.Consumed, b.Usual = &m.Consumed, &m.Usual
	}
	text, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("notice %s: %w", id, err)
	}
	added, err := s.cfg.Records.PutNotice(ctx, store.Notice{ID: id, Kind: m.Kind, CustomerID: cust.ID, Once: m.Once, At: m.At, Body: text})
	if err != nil {
		return fmt.Errorf("store notice: %w", err)
	}
	if added {
		s.mu.Lock()
		s.told++
		s.mu.Unlock()
	}
	return nil
}

func (s *Service) prune(ctx context.Context) error {
	now := s.cfg.Now()
	s.mu.Lock()
	due := now.Sub(s.pruned) >= pruneEvery || now.Before(s.pruned)
	if due {
		s.pruned = now
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.cfg.Records.PruneNotices(ctx, now.Add(-kept))
}

// Query asks for a page of a list.
type Query = store.Query

// List pages through notices, newest first; a CustomerID in the query may be a customer's key.
func (s *Service) List(ctx context.Context, q Query) ([]store.Notice, error) {
	if q.CustomerID != "" {
		cust, ok := s.cfg.Directory.Customer(q.CustomerID)
		if !ok {
			return nil, fmt.Errorf("there is no customer %q: %w", q.CustomerID, account.ErrNotFound)
		}
		q.CustomerID = cust.ID
	}
	return s.cfg.Records.ListNotices(ctx, paged(q))
}

func paged(q Query) Query {
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	q.Limit = min(q.Limit, pageMax)
	return q
}

// Sentence says in words what a stored notice tells.
func Sentence(n store.Notice) string {
	var b body
	if json.Unmarshal(n.Body, &b) != nil {
		return n.Kind
	}
	of := fmt.Sprintf("limit %s", b.Limit)
	if b.Scope != "" {
		of += " (" + strings.ReplaceAll(b.Scope, ";", ", ") + ")"
	}
	number := func(d *money.Decimal) string {
		if d == nil {
			return "0"
		}
		return d.String()
	}
	if b.Invoice != nil {
		return invoiceSentence(n.Kind, b.Invoice)
	}
	switch n.Kind {
	case LimitForecast:
		return fmt.Sprintf("At this pace %s is used up at %s, before it resets.", of, b.ExhaustedAt.Format(time.RFC3339))
	case CreditsLow:
		return fmt.Sprintf("%d %% of the credits of %s are used: %s of %s.", b.Percent, of, number(b.Consumed), number(b.Quota))
	case SpendCapNear:
		return fmt.Sprintf("%d %% of the spend cap %s is reached: %s of %s.", b.Percent, b.Limit, number(b.Consumed), number(b.Quota))
	case UsageAbnormal:
		return fmt.Sprintf("Usage of %s is abnormal: %s in this hour, usual are %s.", b.Meter, number(b.Consumed), number(b.Usual))
	case BalanceLow:
		return fmt.Sprintf("%s of %s %s are left.", number(b.Left), number(b.Granted), creditsOf(b.Meter))
	case BalanceEmpty:
		return fmt.Sprintf("The %s are used up.", creditsOf(b.Meter))
	case BalanceToppedUp:
		return fmt.Sprintf("%s %s were granted, since few were left.", number(b.Granted), creditsOf(b.Meter))
	case UsageNormal:
		return fmt.Sprintf("Usage of %s is usual again.", b.Meter)
	}
	return fmt.Sprintf("%d %% of %s is used: %s of %s.", b.Percent, of, number(b.Consumed), number(b.Quota))
}

func creditsOf(meterKey string) string {
	if meterKey == "" {
		return "credits in money"
	}
	return "credits of " + meterKey
}

// Stats are running totals since start, and the length of the queue.
type Stats struct{ Told, Lost, Sent, Retried, Failed, Queued int64 }

// Stats reads them.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Told: s.told, Lost: s.lost, Sent: s.sent, Retried: s.retried, Failed: s.failed, Queued: int64(len(s.queue))}
}
