// Command cluster is what make cluster runs: the deployment of deploy/compose.yaml as plain processes of one machine, with the data
// of the demo. PostgreSQL, two servers, three gateways, the demo API, and a load balancer before the servers and before the
// gateways, at the addresses of tally demo. Interrupted, it stops all of them; started again, it goes on.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/test/fleet"
	"github.com/tallystick/tallystick/test/process"
)

// The deployment, and how long it may take to start and to stop.
const (
	servers  = 2
	gateways = 3
	database = "tally"
	startMax = 2 * time.Minute
	stopMax  = time.Minute
	// failMax is how often in a row a process may end without having been ready before all is stopped.
	failMax = 5
	// fillMax is how long rate limits begin as used up after a restart, since gateways may hold a part of them, and a second in which
	// those of the demo fill.
	fillMax = 9 * time.Second
)

type options struct {
	dir, api, gateway, tally, output string
	fresh, clean                     bool
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(stderr, "cluster:", err)
		return 1
	}
	var o options
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.dir, "dir", "tally-data", "data folder, as of tally demo: all is in its folder cluster, but for client.json")
	flags.StringVar(&o.api, "api", "127.0.0.1:8080", "address of API and console: a balancer before the servers")
	flags.StringVar(&o.gateway, "gateway", "127.0.0.1:8081", "address of the gateways: a balancer before them")
	flags.StringVar(&o.tally, "tally", filepath.Join(filepath.Dir(self), "tally"), "the program")
	flags.StringVar(&o.output, "output", "text", "how to print: text or json")
	flags.BoolVar(&o.fresh, "fresh", false, "start anew, without the data of the last run")
	flags.BoolVar(&o.clean, "clean", false, "delete the data of the last run, and start nothing")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 || o.output != "text" && o.output != "json" {
		fmt.Fprintln(stderr, "cluster: there are flags only, and --output is text or json; see --help")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends all at once
	if err := o.serve(ctx, stdout, stderr); err != nil && !errors.Is(err, errInterrupted) {
		fmt.Fprintln(stderr, "cluster:", err)
		return 1
	}
	return 0
}

// errInterrupted says that all was stopped since somebody asked for it.
var errInterrupted = errors.New("interrupted")

// lock takes the data folder for this process, as tally demo does.
func (o *options) lock() (*os.File, error) {
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(o.dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("%s is in use by make demo, or by another make cluster: stop it, or name another folder with --dir", o.dir)
	}
	return f, nil
}

// cluster is what runs.
type cluster struct {
	o        *options
	home     string // below the data folder
	again    bool   // there was data
	stderr   io.Writer
	database *fleet.Postgres
	upstream *process.Process
	fleet    *fleet.Fleet

	mu    sync.Mutex // guards stderr and fails
	fails map[*fleet.Node]*atomic.Int64
}

func (o *options) serve(ctx context.Context, stdout, stderr io.Writer) (err error) {
	lock, err := o.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	c := &cluster{o: o, home: filepath.Join(o.dir, "cluster"), stderr: stderr, fails: map[*fleet.Node]*atomic.Int64{}}
	if o.fresh || o.clean {
		if err := errors.Join(fleet.RemovePostgres(filepath.Join(c.home, "postgres")), os.RemoveAll(c.home)); err != nil || o.clean {
			return err
		}
	}
	if err := os.RemoveAll(c.logs()); err != nil { // those of the last run
		return err
	}
	if err := os.MkdirAll(c.logs(), 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	starting, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	if err := c.start(starting); err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return fmt.Errorf("%w\nlogs: %s; start again to go on, or start anew with --fresh", err, c.logs())
	}
	if c.again {
		c.say("started again: rate limits begin used up, and are full in %v", fillMax)
		select {
		case <-time.After(fillMax):
		case <-ctx.Done():
		}
	}
	if err := c.announce(ctx, stdout); err != nil && ctx.Err() == nil {
		return err
	}
	return c.watch(ctx)
}

func (c *cluster) logs() string { return filepath.Join(c.home, "logs") }

// start starts all, each when what it needs is there.
func (c *cluster) start(ctx context.Context) (err error) {
	if c.database, err = fleet.OpenPostgres(ctx, filepath.Join(c.home, "postgres"), filepath.Join(c.logs(), "postgres.log")); err != nil {
		return err
	}
	there, err := c.database.Query(ctx, "SELECT 1 FROM pg_database WHERE datname = '"+database+"'")
	c.again = there != ""
	if err == nil && !c.again {
		err = c.database.CreateDatabase(ctx, database)
	}
	if err != nil {
		return err
	}
	api, err := c.startUpstream(ctx)
	if err != nil {
		return err
	}
	store := c.url()
	if c.fleet, err = fleet.New(fleet.Config{
		Binary: process.Binary(c.o.tally), Dir: c.home, Client: c.o.dir, Servers: servers, Gateways: gateways, API: c.o.api, Doors: c.o.gateway, Logs: c.logs(),
		Command: "demo", ServerArgs: []string{"--upstream", api}, Ended: c.ended,
		Storage: func(int) []string { return []string{"--records", store, "--journal", store} },
	}); err != nil {
		return fmt.Errorf("%w (choose other addresses with --api and --gateway)", err)
	}
	return c.fleet.Start(ctx)
}

func (c *cluster) url() string { return fleet.URL(c.database.Addr, database) }

// startUpstream starts the demo API, which says where it is.
func (c *cluster) startUpstream(ctx context.Context) (string, error) {
	log, err := os.OpenFile(filepath.Join(c.logs(), "demo-api.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	if c.upstream, err = process.Binary(c.o.tally).StartLogged(log, "demo-upstream"); err != nil {
		return "", errors.Join(err, log.Close())
	}
	line, err := c.upstream.Stdout.Until(ctx, func(text []byte) bool { return bytes.HasSuffix(text, []byte("\n")) })
	if err != nil {
		return "", fmt.Errorf("the demo API: %w\n%s", err, c.upstream.Stderr.Bytes())
	}
	return string(bytes.TrimSpace(line)), nil
}

// watch starts nodes again that end, until ctx ends or something has ended without which the rest is worth nothing.
func (c *cluster) watch(ctx context.Context) error {
	keeping, cancel := context.WithCancel(ctx)
	kept := make(chan error, 1)
	go func() { kept <- c.fleet.Keep(keeping) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-kept:
		kept <- nil
	case <-c.database.Ended():
		err = fmt.Errorf("PostgreSQL has ended; its log is %s:\n%s", filepath.Join(c.logs(), "postgres.log"), c.database.Log())
	case <-c.upstream.Ended():
		err = fmt.Errorf("the demo API has ended:\n%s", c.upstream.Stderr.Bytes())
	}
	cancel()
	err = errors.Join(err, <-kept)
	if err != nil {
		return err
	}
	c.say("stopping: gateways ship what they decided, then the servers hand over, then PostgreSQL")
	last, done := context.WithTimeout(context.WithoutCancel(ctx), stopMax)
	defer done()
	return c.fleet.Stop(last)
}

// ended is told of a node that has ended by itself, or was killed. It is started again, as the compose file has it, unless it does
// not get ready any more.
func (c *cluster) ended(n *fleet.Node) error {
	code, err := n.Process().Wait(context.Background()) // it has ended
	if err != nil {
		return err
	}
	how := fmt.Sprintf("ended with exit code %d", code)
	if code < 0 {
		how = "was killed"
	}
	c.mu.Lock()
	fails := c.fails[n]
	if fails == nil {
		fails = &atomic.Int64{}
		c.fails[n] = fails
	}
	c.mu.Unlock()
	if fails.Add(1) > failMax {
		return fmt.Errorf("%s %s, %d times in a row without getting ready; its log is %s:\n%s", n.Name, how, failMax, n.Log(), n.Last())
	}
	c.say("%s %s and is started again; its log is %s:\n%s", n.Name, how, n.Log(), n.Last())
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), startMax)
		defer cancel()
		if n.Ready(ctx) == nil {
			fails.Store(0)
			c.say("%s is ready again", n.Name)
		}
	}()
	return nil
}

func (c *cluster) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.stderr, format+"\n", args...)
}

// close ends what still runs, PostgreSQL last.
func (c *cluster) close() error {
	if c.fleet != nil {
		c.fleet.Close()
	}
	if c.upstream != nil {
		c.upstream.Close()
	}
	if c.database != nil {
		return c.database.Close()
	}
	return nil
}
