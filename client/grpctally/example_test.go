package grpctally_test

import (
	"log"
	"os"

	"google.golang.org/grpc"

	"github.com/tallystick/tallystick/client"
	"github.com/tallystick/tallystick/client/grpctally"
)

// A gRPC server of which all methods are metered but health checks.
func Example() {
	tally, err := client.New(client.Config{URL: "http://127.0.0.1:8080", Token: os.Getenv("TALLY_TOKEN")})
	if err != nil {
		log.Fatal(err)
	}
	metered := grpctally.Config{Client: tally, Method: func(name string) (grpctally.Method, bool) {
		switch name {
		case "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch":
			return grpctally.Method{}, false
		case "/render.Render/Frame":
			return grpctally.Method{Meter: "frames", Cost: 10}, true
		}
		return grpctally.Method{Meter: "api_calls"}, true
	}}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(grpctally.Unary(metered)), grpc.ChainStreamInterceptor(grpctally.Stream(metered)))
	_ = server // register services and serve; then tally.Close
}
