package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/tallystick/tallystick/client"
)

// An API that is metered and limited by its own process.
func Example() {
	tally, err := client.New(client.Config{URL: "http://127.0.0.1:8080", Token: os.Getenv("TALLY_TOKEN")})
	if err != nil {
		log.Fatal(err)
	}

	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := client.KeyOf(r.Context())
		fmt.Fprintf(w, "hello, %s\n", caller.Customer)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /hello", tally.Middleware(client.Route{Meter: "api_calls"})(hello))
	server := &http.Server{Addr: "127.0.0.1:9000", Handler: mux, ReadHeaderTimeout: 5 * time.Second}

	log.Print(server.ListenAndServe()) // until Shutdown
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := tally.Close(ctx); err != nil { // gives the blocks back
		log.Print(err)
	}
}

// A route that costs what its answer says: the estimate is admitted, the actual cost is charged.
func ExampleClient_Middleware() {
	var tally *client.Client // from client.New
	complete := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Tokens", "3187") })
	route := client.Route{
		Meter: "tokens", Cost: 4000,
		Actual: func(_ *http.Request, a client.Answer) int64 {
			var n int64
			if _, err := fmt.Sscan(a.Header.Get("X-Tokens"), &n); err != nil {
				return 4000
			}
			return n
		},
		User: func(r *http.Request) string { return r.Header.Get("X-User") },
	}
	http.Handle("POST /complete", tally.Middleware(route)(complete))
}

// Work that is no HTTP request.
func ExampleClient_Admit() {
	var tally *client.Client // from client.New
	a, err := tally.Admit(context.Background(), client.Request{Customer: "acme", Meter: "tokens", Cost: 100})
	var refused *client.Problem
	switch {
	case errors.As(err, &refused):
		log.Print(refused.Code, " ", refused.Fix, " ", refused.RetryAfter)
		return
	case err != nil:
		log.Print(err)
		return
	}
	defer a.Release() // has no effect after Settle
	// … the work …
	a.SettleCost(87)
}

// Usage that was counted elsewhere.
func ExampleClient_ReportEvents() {
	var tally *client.Client // from client.New
	report, err := tally.ReportEvents(context.Background(), []client.Event{
		{ID: "job-4711", Source: "render-farm", Type: "completion", Subject: "acme", Data: map[string]any{"tokens": 1200}},
	})
	if err != nil {
		log.Print(err)
		return
	}
	for _, o := range report.Outcomes {
		if o.Status == "rejected" {
			log.Print(o.ID, " ", o.Pointer, " ", o.Rule)
		}
	}
}
