// Command nodes measures a deployment of many nodes, as real processes in one run: a server on PostgreSQL and 1, 2 and 4
// gateways, which are asked over gRPC about one key and about many, each beside one gateway; how often gateways ask the server
// meanwhile; leases in PostgreSQL beside single rows; the journal in PostgreSQL beside COPY.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/bench/load"
)

type options struct {
	tally   string
	rounds  int
	each    time.Duration
	keys    int
	conns   int
	depth   int
	rate    int
	journal string
	only    string
	verbose bool
}

// numbers of gateways that are compared.
func numbers() []int { return []int{1, 2, 4} }

// part is a part of the run.
type part struct {
	name string
	run  func(context.Context, options) error
}

func parts() []part {
	return []part{{"gateways", compareGateways}, {"leases", compareLeases}, {"journal", compareJournal}}
}

func main() {
	var err error
	if len(os.Args) == 3 && os.Args[1] == "load" {
		err = loadRole(os.Args[2])
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// loadRole checks as JSON says, in a process of its own.
func loadRole(arg string) error {
	var c load.Checks
	if err := json.Unmarshal([]byte(arg), &c); err != nil {
		return err
	}
	r, err := c.Run()
	if err != nil {
		return err
	}
	return r.Print(os.Stdout)
}

func run() error {
	var o options
	var seconds float64
	flag.StringVar(&o.tally, "tally", "bin/tally", "the binary to measure")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each comparison")
	flag.Float64Var(&seconds, "seconds", 3, "length of a round")
	flag.IntVar(&o.keys, "keys", 100_000, "keys of the runs with many keys, ten of a customer")
	flag.IntVar(&o.conns, "connections", 4, "gRPC connections, over all gateways")
	flag.IntVar(&o.depth, "depth", 16, "calls at once on each connection")
	flag.IntVar(&o.rate, "rate", 2000, "checks a second of the paced rounds")
	flag.StringVar(&o.journal, "journal", "postgres", "where the server keeps usage: postgres or file")
	flag.StringVar(&o.only, "only", "", "gateways, leases or journal, or some of them with commas: these parts alone")
	flag.BoolVar(&o.verbose, "v", false, "print each round")
	flag.Parse()
	o.each = time.Duration(seconds * float64(time.Second))
	switch {
	case o.rounds < 1 || o.each <= 0 || o.rate < 1:
		return errors.New("-rounds, -seconds and -rate must be above 0")
	case o.keys < keysOfOne || o.keys%keysOfOne != 0:
		return fmt.Errorf("-keys must be a multiple of %d", keysOfOne)
	case o.conns < slices.Max(numbers()) || o.depth < 1:
		return fmt.Errorf("-connections must be at least %d, so that each gateway has one", slices.Max(numbers()))
	case o.journal != "postgres" && o.journal != "file":
		return errors.New("-journal is postgres or file")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	only := strings.FieldsFunc(o.only, func(r rune) bool { return r == ',' })
	for _, name := range only {
		if !slices.ContainsFunc(parts(), func(p part) bool { return p.name == name }) {
			return fmt.Errorf("-only %s: there are gateways, leases and journal", name)
		}
	}
	fmt.Printf("machine: %d cores, load %s before, %s\n", runtime.NumCPU(), load.Machine(), runtime.Version())
	for _, p := range parts() {
		if len(only) > 0 && !slices.Contains(only, p.name) {
			continue
		}
		if err := p.run(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	fmt.Printf("\nload %s after\n", load.Machine())
	return nil
}
