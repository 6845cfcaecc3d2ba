package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/test/process"
)

// Config is a deployment. Without Storage its one server keeps everything in its data folder.
type Config struct {
	Binary     process.Binary
	Dir        string                 // for all folders; it is there
	Servers    int                    // 1 without Storage
	Gateways   int                    // named gate-1, gate-2, …
	Command    string                 // what a server is started with; empty: serve
	ServerArgs []string               // more flags of it
	GateArgs   func(i int) []string   // the same of gateway i; nil: none
	Storage    func(i int) []string   // --records and --journal of server i; nil: in the folder
	Path       func(i int) string     // URL by which gateway i reaches the servers; nil: through the balancer
	API, Doors string                 // addresses of the balancers; empty: any free port
	Client     string                 // folder for the client.json of the whole; empty: one in Dir
	Started    func(*process.Process) // is told of every process; nil: nobody is
	// Ended is told when a node that is kept has ended, and nobody here wanted it. An error ends the keeping. nil: nobody is told.
	Ended func(*Node) error
	// Logs is a folder for what each node writes, which is remembered otherwise; for nodes that run for long.
	Logs string
}

// readyPoll is how often a process is asked whether it is ready.
const readyPoll = 20 * time.Millisecond

// Fleet is a deployment: servers behind one balancer, gateways behind another one.
type Fleet struct {
	Servers, Gateways []*Node
	API, Doors        *Balancer
	Client            string // folder with the client.json of the whole
	Token             string // the operator's
	config            Config
}

// Node is one server or gateway. Its addresses stay the same over restarts.
type Node struct {
	Name      string
	API, Door string // host:port; a server has no door
	config    *Config
	args      []string

	mu      sync.Mutex // guards all below
	process *process.Process
	rest    time.Duration // after its next end, before it is started again
	over    bool          // it is to end for good
	ends    int           // that nobody here caused
	caused  bool          // its next end was caused by Kill
}

// restDefault is how long a node that ended rests before it is started again, as a supervisor does.
const restDefault = 100 * time.Millisecond

// New starts nothing yet but the balancers.
func New(c Config) (*Fleet, error) {
	if c.Client == "" {
		c.Client = filepath.Join(c.Dir, "client")
	}
	if c.Command == "" {
		c.Command = "serve"
	}
	f := &Fleet{config: c, Client: c.Client}
	var err error
	if f.API, err = NewBalancer(or(c.API)); err != nil {
		return nil, err
	}
	if f.Doors, err = NewBalancer(or(c.Doors)); err != nil {
		f.API.Close()
		return nil, err
	}
	for i := range c.Servers {
		if err := f.addServer(i); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

func or(addr string) string {
	if addr == "" {
		return "127.0.0.1:0"
	}
	return addr
}

func (f *Fleet) addServer(i int) error {
	n := &Node{Name: fmt.Sprintf("server-%d", i+1), config: &f.config}
	var err error
	if n.API, err = FreeAddr(); err != nil {
		return err
	}
	n.args = append([]string{f.config.Command, "--role", "server", "--dir", filepath.Join(f.config.Dir, n.Name), "--api", n.API, "--public-url", "http://" + f.API.Addr}, f.config.ServerArgs...)
	if f.config.Storage != nil {
		n.args = append(n.args, f.config.Storage(i)...)
		n.args = append(n.args, "--secrets", f.Secrets())
	}
	f.Servers = append(f.Servers, n)
	f.API.Put(n.Name, n.API, "http://"+n.API+"/readyz")
	return nil
}

// Secrets is the folder that the servers share.
func (f *Fleet) Secrets() string { return filepath.Join(f.config.Dir, "secrets") }

// Start starts the servers, then registers and starts the gateways, and returns when all take traffic.
func (f *Fleet) Start(ctx context.Context) error {
	for _, n := range f.Servers { // the first one makes the tables and the secrets
		if err := n.Start(); err != nil {
			return err
		}
		if err := n.first(ctx); err != nil {
			return err
		}
	}
	for f.API.Ready() < len(f.Servers) {
		if err := pause(ctx, readyPoll); err != nil {
			return err
		}
	}
	if err := f.writeClient(); err != nil {
		return err
	}
	for i := range f.config.Gateways {
		if err := f.addGateway(ctx, i); err != nil {
			return err
		}
	}
	for _, n := range f.Gateways {
		if err := n.first(ctx); err != nil {
			return err
		}
	}
	for f.Doors.Ready() < len(f.Gateways) {
		if err := pause(ctx, readyPoll); err != nil {
			return err
		}
	}
	return nil
}

// writeClient lets commands find the whole by --dir.
func (f *Fleet) writeClient() error {
	b, err := os.ReadFile(filepath.Join(f.config.Dir, f.Servers[0].Name, "client.json"))
	if err != nil {
		return err
	}
	var at struct{ Token string }
	if err := json.Unmarshal(b, &at); err != nil {
		return err
	}
	f.Token = at.Token
	text, err := json.Marshal(map[string]string{"api": "http://" + f.API.Addr, "gateway": "http://" + f.Doors.Addr, "token": f.Token})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.Client, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.Client, "client.json"), text, 0o600)
}

// Command runs a command of tally against the whole and reads its document.
func (f *Fleet) Command(ctx context.Context, v any, args ...string) error {
	return f.config.Binary.JSON(ctx, v, append(args, "--dir", f.Client)...)
}

func (f *Fleet) addGateway(ctx context.Context, i int) error {
	n := &Node{Name: fmt.Sprintf("gate-%d", i+1), config: &f.config}
	token := filepath.Join(f.config.Dir, n.Name+".token")
	if _, err := os.Stat(token); err != nil { // of a deployment that is started again it is there
		var made struct{ Secret string }
		if err := f.Command(ctx, &made, "gateway", "token", n.Name); err != nil {
			return err
		}
		if err := os.WriteFile(token, []byte(made.Secret+"\n"), 0o600); err != nil {
			return err
		}
	}
	var aerr, derr error
	n.API, aerr = FreeAddr()
	n.Door, derr = FreeAddr()
	if err := errors.Join(aerr, derr); err != nil {
		return err
	}
	server := "http://" + f.API.Addr
	if f.config.Path != nil {
		server = f.config.Path(i)
	}
	n.args = []string{"serve", "--role", "gateway", "--server", server, "--server-token-file", token, "--dir", filepath.Join(f.config.Dir, n.Name), "--api", n.API, "--gateway", n.Door}
	if f.config.GateArgs != nil {
		n.args = append(n.args, f.config.GateArgs(i)...)
	}
	f.Gateways = append(f.Gateways, n)
	f.Doors.Put(n.Name, n.Door, "http://"+n.API+"/readyz")
	return n.Start()
}

// Nodes are the servers and the gateways.
func (f *Fleet) Nodes() []*Node { return append(append([]*Node(nil), f.Servers...), f.Gateways...) }

// Stop ends every gateway, then every server, by SIGTERM, so that all is shipped.
func (f *Fleet) Stop(ctx context.Context) error {
	var errs []error
	for _, list := range [][]*Node{f.Gateways, f.Servers} {
		var wg sync.WaitGroup
		each := make([]error, len(list))
		for i, n := range list {
			wg.Go(func() { each[i] = n.Stop(ctx) })
		}
		wg.Wait()
		errs = append(errs, each...)
	}
	return errors.Join(errs...)
}

// Keep starts every node again that ends, as a supervisor does, until ctx ends or each was stopped.
func (f *Fleet) Keep(ctx context.Context) error {
	nodes := f.Nodes()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.Keep(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close kills what still runs. Nobody may keep the nodes any more.
func (f *Fleet) Close() {
	for _, n := range f.Nodes() {
		if p := n.Process(); p != nil {
			p.Close()
		}
	}
	f.API.Close()
	f.Doors.Close()
}

// Process is the one that runs or ran last; nil: it was never started.
func (n *Node) Process() *process.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// Running says whether its process has not ended.
func (n *Node) Running() bool {
	p := n.Process()
	if p == nil {
		return false
	}
	select {
	case <-p.Ended():
		return false
	default:
		return true
	}
}

// Start starts its process.
func (n *Node) Start() error {
	p, err := n.begin()
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
	if n.config.Started != nil {
		n.config.Started(p)
	}
	return nil
}

func (n *Node) begin() (*process.Process, error) {
	if n.config.Logs == "" {
		return n.config.Binary.Start("", n.args...)
	}
	log, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p, err := n.config.Binary.StartLogged(log, n.args...)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		<-p.Ended()
		_ = log.Close() // nothing is written any more
	}()
	return p, nil
}

// Log is the file with what it writes, where its deployment has Logs.
func (n *Node) Log() string { return filepath.Join(n.config.Logs, n.Name+".log") }

// Last is the end of what its process wrote.
func (n *Node) Last() string { return tail(n.Process().Stderr.Bytes()) }

// first waits until it is ready for the first time; nobody keeps it yet, so its end is an error.
func (n *Node) first(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := n.Process()
	go func() {
		select {
		case <-p.Ended():
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	err := n.Ready(ctx)
	if errors.Is(context.Cause(ctx), errEnded) {
		return fmt.Errorf("%s ended:\n%s", n.Name, n.Last())
	}
	return err
}

var errEnded = errors.New("the process ended")

// Ready waits until it says that it takes traffic.
func (n *Node) Ready(ctx context.Context) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		if n.ask(ctx, client) {
			return nil
		}
		if err := pause(ctx, readyPoll); err != nil {
			return fmt.Errorf("%s did not get ready: %w\n%s", n.Name, err, n.Last())
		}
	}
}

func (n *Node) ask(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.API+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

func tail(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Keep starts the node again whenever it ends, until Stop or the end of ctx.
func (n *Node) Keep(ctx context.Context) error {
	for {
		p := n.Process()
		select {
		case <-p.Ended():
		case <-ctx.Done():
			return nil
		}
		n.mu.Lock()
		rest, over, caused := n.rest, n.over, n.caused
		if !caused && !over {
			n.ends++
		}
		n.rest, n.caused = restDefault, false
		n.mu.Unlock()
		if over {
			return nil
		}
		if !caused && n.config.Ended != nil {
			if err := n.config.Ended(n); err != nil {
				return err
			}
		}
		if err := pause(ctx, max(rest, restDefault)); err != nil {
			return nil //nolint:nilerr // the end of ctx is the end of keeping
		}
		if err := n.Start(); err != nil {
			return err
		}
	}
}

// Ends is how often it ended by itself while it was kept.
func (n *Node) Ends() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ends
}

// Kill is kill -9. Who keeps the node starts it again after the rest.
func (n *Node) Kill(ctx context.Context, rest time.Duration) error {
	n.mu.Lock()
	n.rest, n.caused = rest, true
	p := n.process
	n.mu.Unlock()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_, err := p.Wait(ctx)
	return err
}

// Stop is SIGTERM, after which it must end well.
func (n *Node) Stop(ctx context.Context) error {
	n.mu.Lock()
	n.over = true
	n.mu.Unlock()
	p := n.Process()
	if p == nil {
		return nil
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	code, err := p.Wait(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with exit code %d:\n%s", n.Name, code, tail(p.Stderr.Bytes()))
	}
	return err
}
