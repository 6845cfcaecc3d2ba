// Package nats sends an export to a stream of NATS JetStream. Subjects are PREFIX.usage.CUSTOMER and PREFIX.ledger.CUSTOMER; the
// id of each message is its Nats-Msg-Id, by which the stream itself drops what comes twice within its window.
package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/sink"
)

const (
	dialMax   = 10 * time.Second
	flightMax = 256 // messages that wait for their acknowledgement
)

// Sink implements store.Sink.
type Sink struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	prefix string
}

// Open connects, and fails unless a stream takes the subjects.
func Open(ctx context.Context, t sink.Target, c sink.Credentials) (*Sink, error) {
	return open(ctx, t, c)
}

func open(ctx context.Context, t sink.Target, c sink.Credentials, more ...nats.Option) (*Sink, error) {
	// A lost connection is no reason to send what waits later on: the caller opens anew, and begins where it was acknowledged.
	opts := []nats.Option{nats.Name("tally-export"), nats.Timeout(dialMax), nats.NoReconnect()}
	cfg, err := t.Config(c)
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		opts = append(opts, nats.Secure(cfg))
	}
	password, err := t.Password(c)
	if err != nil {
		return nil, err
	}
	token, err := t.Token(c)
	if err != nil {
		return nil, err
	}
	switch creds := t.CredsFile(c); {
	case t.User != "":
		opts = append(opts, nats.UserInfo(t.User, password))
	case token != "":
		opts = append(opts, nats.Token(token))
	case creds != "":
		opts = append(opts, nats.UserCredentials(creds))
	}
	conn, err := nats.Connect("nats://"+strings.Join(t.Hosts, ",nats://"), append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("nats: connect: %w", err)
	}
	s := &Sink{conn: conn, prefix: t.Name}
	if s.js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(flightMax)); err == nil {
		err = s.look(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("nats: %w", err)
	}
	return s, nil
}

func (s *Sink) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialMax)
	defer cancel()
	_, err := s.js.StreamNameBySubject(ctx, s.prefix+".>")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("no stream takes the subjects %s.>; add one, such as: nats stream add TALLY --subjects '%s.>'", s.prefix, s.prefix)
	}
	if err != nil {
		return fmt.Errorf("ask for the stream of %s.>: %w", s.prefix, err)
	}
	return nil
}

// subject of a message. A source that stands for a customer may hold what subjects must not.
func (s *Sink) subject(m *store.Message) string {
	what := "usage"
	if m.Type == "tally.ledger.entry" {
		what = "ledger"
	}
	key := m.Key
	switch {
	case key == "":
		key = "all"
	case !strings.HasPrefix(key, "cus_"):
		key = "none"
	}
	return s.prefix + "." + what + "." + key
}

// Send implements store.Sink. A stream that changes its leader may lose one message and take the next, so those of one key wait for
// each other; of different keys up to flightMax are under way together.
func (s *Sink) Send(ctx context.Context, batch []store.Message) error {
	for len(batch) > 0 {
		n := 0
		for n < len(batch) && batch[n].Key != "" {
			n++
		}
		if err := s.waves(ctx, batch[:n]); err != nil {
			return err
		}
		if batch = batch[n:]; len(batch) > 0 {
			if err := s.wave(ctx, batch[:1]); err != nil {
				return err
			}
			batch = batch[1:]
		}
	}
	return nil
}

// waves sends messages with keys: in each wave the next one of every key.
func (s *Sink) waves(ctx context.Context, rest []store.Message) error {
	for len(rest) > 0 {
		var wave, later []store.Message
		taken := map[string]bool{}
		for _, m := range rest {
			if taken[m.Key] || len(wave) == flightMax {
				taken[m.Key] = true // none of this key may pass it
				later = append(later, m)
				continue
			}
			taken[m.Key] = true
			wave = append(wave, m)
		}
		if err := s.wave(ctx, wave); err != nil {
			return err
		}
		rest = later
	}
	return nil
}

// wave publishes and waits for every acknowledgement.
func (s *Sink) wave(ctx context.Context, messages []store.Message) error {
	acks := make([]jetstream.PubAckFuture, len(messages))
	for i := range messages {
		m := &messages[i]
		var err error
		acks[i], err = s.js.PublishMsgAsync(&nats.Msg{
			Subject: s.subject(m), Data: m.Body, Header: nats.Header{"Content-Type": {"application/cloudevents+json"}},
		}, jetstream.WithMsgID(m.ID))
		if err != nil {
			return fmt.Errorf("nats: publish %s: %w", m.ID, err)
		}
	}
	for i, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("nats: publish %s: %w", messages[i].ID, err)
		case <-ctx.Done():
			return fmt.Errorf("nats: no acknowledgement of %s: %w", messages[i].ID, ctx.Err())
		}
	}
	return nil
}

// Close drops what was not acknowledged.
func (s *Sink) Close() error {
	s.conn.Close()
	return nil
}
