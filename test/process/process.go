// Package process builds the tally binary and runs it for tests: the real program in processes of its own, which end with
// their test whatever happens to it.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Variables of the environment: a binary with the race detector is wanted when the first is not empty; the second names a
// binary to test instead of a fresh one.
const (
	RaceVariable   = "TALLY_TEST_RACE"
	BinaryVariable = "TALLY_TEST_BINARY"
)

// Binary is the path of a built tally.
type Binary string

// Build compiles cmd/tally of this module into dir.
func Build(dir string) (Binary, error) {
	if b := os.Getenv(BinaryVariable); b != "" {
		return Binary(b), nil
	}
	return build(dir, "tally", "./cmd/tally")
}

// BuildCluster compiles what make cluster runs into dir.
func BuildCluster(dir string) (Binary, error) { return build(dir, "tally-cluster", "./test/cluster") }

func build(dir, name, what string) (Binary, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source's place is not known")
	}
	out := filepath.Join(dir, name)
	args := []string{"build", "-buildvcs=false", "-o", out}
	if os.Getenv(RaceVariable) != "" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, what)...) //nolint:noctx // the test's own time-out ends it
	cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, text)
	}
	return Binary(out), nil
}

// environment is that of the tests without what would lead a command to another server.
func environment() []string {
	return append(clean(), "TZ=America/Caracas") // no result may depend on the machine's zone
}

func clean() []string {
	var env []string
	for _, v := range os.Environ() {
		if len(v) < 6 || v[:6] != "TALLY_" {
			env = append(env, v)
		}
	}
	return env
}

// Result of a command that has ended.
type Result struct {
	Stdout, Stderr []byte
	Code           int
}

// Run runs a command to its end. An error means that it could not be run; a command that fails has a Code.
func (b Binary) Run(ctx context.Context, args ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, string(b), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, environment()
	err := cmd.Run()
	r := Result{stdout.Bytes(), stderr.Bytes(), cmd.ProcessState.ExitCode()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return r, nil
	}
	return r, err
}

// JSON runs a command with --output json and reads its one document into v. A command that fails is an error.
func (b Binary) JSON(ctx context.Context, v any, args ...string) error {
	r, err := b.Run(ctx, append(args, "--output", "json")...)
	if err != nil {
		return fmt.Errorf("tally %v: %w", args, err)
	}
	if r.Code != 0 {
		return fmt.Errorf("tally %v: exit %d: %s", args, r.Code, r.Stderr)
	}
	return Document(r.Stdout, v)
}

// Document reads text that must be one JSON document.
func Document(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("not a JSON document: %w\n%s", err, text)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("more than one JSON document:\n%s", text)
	}
	return nil
}

// Process is a running tally.
type Process struct {
	Stdout, Stderr *Output
	cmd            *exec.Cmd
	ended          chan struct{}
}

// killedWait is how long the pipes of an ended process may stay open in a child of it.
const killedWait = 10 * time.Second

// Start starts a long-lived command in a process group of its own, in a working folder; "" is the test's. It is killed when
// the test binary ends.
func (b Binary) Start(dir string, args ...string) (*Process, error) {
	return b.start(dir, environment(), newOutput(), args)
}

// StartLogged is Start for a process that may run for days, in the machine's own zone: what it writes to stderr goes to log, and
// its end alone is remembered.
func (b Binary) StartLogged(log io.Writer, args ...string) (*Process, error) {
	o := newOutput()
	o.log = log
	return b.start("", clean(), o, args)
}

func (b Binary) start(dir string, env []string, stderr *Output, args []string) (*Process, error) {
	p := &Process{Stdout: newOutput(), Stderr: stderr, ended: make(chan struct{})}
	p.cmd = exec.Command(string(b), args...) //nolint:noctx // Kill ends it
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env, p.cmd.Dir = p.Stdout, p.Stderr, env, dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = killedWait
	if _, err := p.cmd.StdinPipe(); err != nil { // held open by this process alone: a child that reads it ends with us
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start tally: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code says more
		close(p.ended)
		p.Stdout.close()
		p.Stderr.close()
	}()
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Signal sends a signal to the process alone, not to its children. One that has ended already does not mind.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Wait waits for the end and returns the exit code, -1 after a signal.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("the process did not end: %w\n%s", ctx.Err(), p.Stderr.Bytes())
	}
}

// Close kills the whole group and waits for its end.
func (p *Process) Close() {
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // it may be gone
	<-p.ended
}

// outputKept is what is remembered of an output with a log.
const outputKept = 64 << 10

// Output collects what a process writes.
type Output struct {
	log     io.Writer  // nil: all is remembered
	mu      sync.Mutex // guards all below
	text    []byte
	changed chan struct{} // closed at each write and at the end
	ended   bool
}

func newOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	if o.log != nil {
		_, _ = o.log.Write(b) // a full disk must not stop the process
		if n := len(o.text); n > 2*outputKept {
			o.text = bytes.Clone(o.text[n-outputKept:])
		}
	}
	close(o.changed)
	o.changed = make(chan struct{})
	return len(b), nil
}

func (o *Output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	close(o.changed)
	o.changed = make(chan struct{})
}

// Bytes is a copy of all that is remembered until now.
func (o *Output) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.text)
}

// ErrEnded says that a process ended before it wrote what was waited for.
var ErrEnded = errors.New("the process ended")

// Until waits until what was written fulfils a condition, and returns it.
func (o *Output) Until(ctx context.Context, done func(text []byte) bool) ([]byte, error) {
	for {
		o.mu.Lock()
		text, changed, ended := bytes.Clone(o.text), o.changed, o.ended
		o.mu.Unlock()
		if done(text) {
			return text, nil
		}
		if ended {
			return text, fmt.Errorf("%w: %s", ErrEnded, text)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return text, fmt.Errorf("%w: %s", ctx.Err(), text)
		}
	}
}
