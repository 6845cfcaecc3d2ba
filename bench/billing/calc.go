package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tallystick/tallystick/internal/core/calc"
)

// ratings of each way.
const ratings = 300_000

func request(i int) string {
	return fmt.Sprintf(`{"op":"rate","id":"%d","currency":"USD","price":{"model":"graduated","tiers":[{"up_to":"100","unit_amount":"0"},`+
		`{"up_to":"10000","unit_amount":"0.01","flat_amount":"2"},{"unit_amount":"0.0042"}]},"quantity":"%d.5"}`, i, i%50_000)
}

// calc measures graduated ratings on one core: in process, and through the binary's stdin.
func (c *config) calc(ctx context.Context, out io.Writer) ([]row, error) {
	fmt.Fprintln(out, "calc: rating")
	var input bytes.Buffer
	requests := make([][]byte, ratings)
	for i := range ratings {
		requests[i] = []byte(request(i))
		input.Write(requests[i])
		input.WriteByte('\n')
	}
	before := runtime.GOMAXPROCS(1)
	began := time.Now()
	for _, r := range requests {
		if bytes.Contains(calc.Answer(r), []byte(`"error"`)) {
			return nil, fmt.Errorf("refused: %s", r)
		}
	}
	inside := time.Since(began)
	runtime.GOMAXPROCS(before)
	rows := []row{{"calc: graduated ratings/s, in process, one core", rate(ratings, inside), "100000"}}

	binary, err := filepath.Abs(c.binary)
	if err != nil {
		return nil, err
	}
	answers := filepath.Join(c.dir, "answers")
	f, err := os.Create(answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // what was not written shows as a wrong count
	name, args := binary, []string{"calc"}
	if taskset, err := exec.LookPath("taskset"); err == nil {
		name, args = taskset, append([]string{"-c", "0", binary}, args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &input, f, os.Stderr
	began = time.Now()
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.binary, err)
	}
	took := time.Since(began)
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return append(rows,
		row{"calc: graduated ratings/s, through the binary, one core", rate(ratings, took), "100000"},
		row{"calc: ratings/s of processor time, through the binary", rate(ratings, used), ""}), nil
}
