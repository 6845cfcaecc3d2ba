package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	descpb "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratepb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/tallystick/tallystick/internal/web/envoy"
)

// ready is a codec for messages that are encoded already, so that the load costs the same whatever it calls.
type ready struct{}

func (ready) Name() string { return "proto" }

func (ready) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("not encoded")
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal keeps the overall code.
func (ready) Unmarshal(data mem.BufferSlice, v any) error {
	code, ok := v.(*byte)
	if !ok || data.Len() < 2 {
		return errors.New("an answer without a code")
	}
	var first [2]byte
	if _, err := io.ReadFull(data.Reader(), first[:]); err != nil {
		return err
	}
	if first[0] != 8 { // field 1, a number
		return errors.New("an answer that does not begin with its code")
	}
	*code = first[1]
	return nil
}

// Checks are calls of the rate limit service.
type Checks struct {
	Addresses []string // the connections go to them in turn
	File      string   // of keys, separated by white space
	Conns     int
	Depth     int  // calls at once on each connection
	Random    bool // the key of each call is drawn at random; else they come in turn
	Plan      Plan // its Workers are Conns × Depth
}

// Run makes the checks.
func (c Checks) Run() (r Result, err error) {
	b, err := os.ReadFile(c.File)
	if err != nil {
		return r, err
	}
	var bodies [][]byte
	for key := range strings.FieldsSeq(string(b)) {
		body, err := proto.Marshal(&ratepb.RateLimitRequest{Domain: envoy.Domain, Descriptors: []*descpb.RateLimitDescriptor{{Entries: []*descpb.RateLimitDescriptor_Entry{
			{Key: "key", Value: key}, {Key: "method", Value: "GET"}, {Key: "path", Value: "/hello?q=1"},
		}}}})
		if err != nil {
			return r, err
		}
		bodies = append(bodies, body)
	}
	clients := make([]*grpc.ClientConn, c.Conns)
	for i := range clients {
		if clients[i], err = grpc.NewClient(c.Addresses[i%len(c.Addresses)], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(ready{}))); err != nil {
			return r, err
		}
		defer clients[i].Close() //nolint:errcheck // the process ends
	}
	c.Plan.Workers = c.Conns * c.Depth
	dice := make([]*rand.Rand, c.Plan.Workers)
	for i := range dice {
		dice[i] = rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(i)))
	}
	return Drive(c.Plan, func(worker, n int) error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // a gateway names a deadline
		defer cancel()
		which := (n*c.Plan.Workers + worker) % len(bodies)
		if c.Random {
			which = dice[worker].IntN(len(bodies))
		}
		var code byte
		if err := clients[worker%c.Conns].Invoke(ctx, ratepb.RateLimitService_ShouldRateLimit_FullMethodName, bodies[which], &code); err != nil {
			return err
		}
		if code != byte(ratepb.RateLimitResponse_OK) {
			return fmt.Errorf("overall code %d", code)
		}
		return nil
	}), nil
}
