package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corepb "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratepb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tallystick/tallystick/bench/load"
	"github.com/tallystick/tallystick/internal/web/envoy"
)

// empty answers every call with one ready answer, of the size of Tallystick's.
type empty struct {
	ratepb.UnimplementedRateLimitServiceServer
	answer *ratepb.RateLimitResponse
}

func (e *empty) ShouldRateLimit(context.Context, *ratepb.RateLimitRequest) (*ratepb.RateLimitResponse, error) {
	return e.answer, nil
}

// floorGRPC serves the official messages with nothing behind them, on a server with the same options.
func floorGRPC() error {
	meta, err := structpb.NewStruct(map[string]any{"decision": "dec_0008ZNa4jQ2bmh1zN", "customer": "c0", "key_id": "key_01m856f9shrd12733kmzwg6vgx"})
	if err != nil {
		return err
	}
	s := grpc.NewServer(envoy.ServerOptions(nil)...)
	ratepb.RegisterRateLimitServiceServer(s, &empty{answer: &ratepb.RateLimitResponse{
		OverallCode: ratepb.RateLimitResponse_OK,
		Statuses: []*ratepb.RateLimitResponse_DescriptorStatus{{
			Code: ratepb.RateLimitResponse_OK, LimitRemaining: 999_999, DurationUntilReset: durationpb.New(time.Second),
			CurrentLimit: &ratepb.RateLimitResponse_RateLimit{Name: "burst", RequestsPerUnit: 1_000_000, Unit: ratepb.RateLimitResponse_RateLimit_SECOND},
		}},
		ResponseHeadersToAdd: []*corepb.HeaderValue{
			{Key: "RateLimit-Policy", Value: strings.Repeat(`"monthly";q=100000000000;w=2592000, `, 5)},
			{Key: "RateLimit", Value: strings.Repeat(`"monthly";r=99999999999;t=1296000, `, 5)},
			{Key: "Decision-Id", Value: "dec_" + strings.Repeat("x", 300)},
		},
		DynamicMetadata: meta,
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		s.Stop()
	}()
	return s.Serve(l)
}

// loadGRPC checks the keys of a file in turn: load-grpc ADDRESS FILE CONNECTIONS DEPTH DURATION RATE.
func loadGRPC(args []string) error {
	conns, err1 := strconv.Atoi(args[2])
	depth, err2 := strconv.Atoi(args[3])
	d, err3 := time.ParseDuration(args[4])
	rate, err4 := strconv.Atoi(args[5])
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	r, err := load.Checks{Addresses: args[:1], File: args[1], Conns: conns, Depth: depth, Plan: load.Plan{Rate: rate, For: d}}.Run()
	if err != nil {
		return err
	}
	return r.Print(os.Stdout)
}

// compareRLS prints the tables of the rate limit service.
func compareRLS(o options) error {
	dir, err := os.MkdirTemp("", "tally-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	floor, err := startSelf("floor-grpc")
	if err != nil {
		return err
	}
	defer floor.Stop()
	ours, err := startTally(o.tally, dir, o.keys)
	if ours != nil {
		defer ours.Stop()
	}
	if err != nil {
		return err
	}
	for _, n := range []int{1, o.keys} {
		file := filepath.Join(dir, fmt.Sprintf("keys-%d", n))
		if err := os.WriteFile(file, []byte(strings.Join(ours.keys[:n], "\n")), 0o600); err != nil {
			return err
		}
		side := func(c *load.Child, addr string, rate int) func() (sample, error) {
			return func() (sample, error) {
				return measure(c, "load-grpc", addr, file, strconv.Itoa(o.conns), strconv.Itoa(o.depth), o.each.String(), strconv.Itoa(rate))
			}
		}
		if n > 1 { // a customer's first check draws its leases
			if _, err := side(ours.Child, ours.grpc, 0)(); err != nil {
				return err
			}
		}
		for _, c := range []comparison{
			{
				title: fmt.Sprintf("rate limit service over gRPC, %d key(s), saturated: %d connections × %d calls", n, o.conns, o.depth), rounds: o.rounds, aim: "0.85",
				floor: side(floor, floor.Line, 0), ours: side(ours.Child, ours.grpc, 0),
			},
			{
				title: fmt.Sprintf("the same at %d checks/s", o.rate), rounds: o.rounds,
				floor: side(floor, floor.Line, o.rate), ours: side(ours.Child, ours.grpc, o.rate),
			},
		} {
			if err := c.run(); err != nil {
				return err
			}
		}
	}
	return nil
}
