package main

import (
	"context"
	"log/slog"
	"time"
)

// leftMemory is the setting in which a server leaves what it knows of leases in memory to the next one.
const leftMemory = "authority.memory"

// handOverMax bounds how long a server that ends waits for calls about leases.
const handOverMax = 2 * time.Second

// takeMemory is what the server before has left, which counts once: were it used again, it would be of an earlier time.
func (s *server) takeMemory(ctx context.Context) ([]byte, error) {
	left, err := s.records.Setting(ctx, leftMemory)
	if err != nil || left == "" {
		return nil, err
	}
	return []byte(left), s.records.PutSetting(ctx, leftMemory, "")
}

// leaveMemory ends the authority, and leaves the next server what it knows of leases in memory. Without it rate limits and short windows
// refuse for a few seconds until all that gateways may hold has lapsed; so that is no failure.
func (s *server) leaveMemory(ctx context.Context) {
	if s.authority == nil || s.records == nil {
		return
	}
	call, cancel := context.WithTimeout(ctx, handOverMax)
	defer cancel()
	left, err := s.authority.Freeze(call)
	if err == nil {
		err = s.records.PutSetting(ctx, leftMemory, string(left))
	}
	if err != nil {
		s.log.WarnContext(ctx, "leases in memory are not handed over; gateways refuse by rate limits and short windows for a few seconds after the next start", slog.Any("error", err))
	}
}
