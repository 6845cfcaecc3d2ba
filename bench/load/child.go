package load

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Child is a server in a process of its own.
type Child struct {
	Cmd  *exec.Cmd
	In   io.Closer // its standard input
	Line string    // where it serves, as it printed
}

// Start runs a program that prints one line when it serves.
func Start(name string, args ...string) (*Child, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s %v did not start: %w", name, args, err)
	}
	return &Child{Cmd: cmd, In: in, Line: strings.TrimSpace(line)}, nil
}

// Stop ends it and waits.
func (c *Child) Stop() {
	_ = c.In.Close()                          // ends the benchmarks' own roles
	_ = c.Cmd.Process.Signal(syscall.SIGTERM) // ends tally
	_ = c.Cmd.Wait()                          // its exit code says nothing here
}
