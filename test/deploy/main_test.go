// Package deploy_test holds the files of deploy/ to the binary and to what reads them: the chart to Helm and Kubernetes, the
// compose file to Compose, the units to systemd. What they would start is started as plain processes, on a PostgreSQL.
package deploy_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/test/process"
)

const folder = "../../deploy"

var (
	update = flag.Bool("update", false, "write the golden files anew")
	tally  process.Binary
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "tally-deploy")
		if err == nil {
			defer func() { _ = os.RemoveAll(dir) }()
			tally, err = process.Build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// command is what some file has tally started with.
type command struct {
	args []string // without the program
	env  map[string]string
}

// words are for env(1), which sets the variables: those of the tests do not reach a process.
func (c command) words() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(c.env)) {
		out = append(out, name+"="+c.env[name])
	}
	return append(append(out, string(tally)), c.args...)
}

const env = process.Binary("/usr/bin/env")

func run(t *testing.T, c command) process.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := env.Run(ctx, c.words()...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// helped is what the help of a command says, and whether it takes the rest of the arguments.
func helped(t *testing.T, args []string) (string, error) {
	t.Helper()
	r := run(t, command{args: append(slices.Clone(args), "--help")})
	if r.Code != 0 {
		return "", fmt.Errorf("tally %s: %s", strings.Join(args, " "), r.Stderr)
	}
	return string(r.Stdout), nil
}

// accepted says why the binary would not take a command: flags, variables or their values that it does not know.
func accepted(t *testing.T, c command) error {
	t.Helper()
	help, err := helped(t, c.args)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`\$(TALLY_\w+)`).FindAllStringSubmatch(help, -1) {
		known[m[1]] = true
	}
	for name := range c.env {
		if strings.HasPrefix(name, "TALLY_") && !known[name] {
			return fmt.Errorf("tally %s reads no variable %s", strings.Join(c.args, " "), name)
		}
	}
	if c.args[0] != "serve" {
		return nil
	}
	// All of it is parsed, then the data folder cannot be made.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.args = slices.Clone(c.args)
	dirs := 0
	for i, arg := range c.args {
		switch {
		case strings.HasPrefix(arg, "--dir="):
			c.args[i] = "--dir=" + file + "/data"
			dirs++
		case arg == "--dir" && i+1 < len(c.args):
			c.args[i+1] = file + "/data"
			dirs++
		}
	}
	if dirs != 1 {
		return fmt.Errorf("tally %s: its folder is named %d times", strings.Join(c.args, " "), dirs)
	}
	if r := run(t, c); r.Code != 1 || !strings.Contains(string(r.Stderr), "make data folder") {
		return fmt.Errorf("tally %s: exit %d: %s", strings.Join(c.args, " "), r.Code, r.Stderr)
	}
	return nil
}

// patience is how long a process may take to stop, by what serve does at its end: requests end, and with other servers the API
// port closes after that; the lead is yielded, spools are shipped.
func patience(t *testing.T, c command) time.Duration {
	t.Helper()
	value := func(flagName, variable, def string) time.Duration {
		text := def
		if v, ok := c.env[variable]; ok {
			text = v
		}
		for i, arg := range c.args {
			if v, ok := strings.CutPrefix(arg, flagName+"="); ok {
				text = v
			} else if arg == flagName {
				text = c.args[i+1]
			}
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const rest = 15 * time.Second // yieldMax, the last batch, the last checkpoint
	return value("--drain-delay", "TALLY_DRAIN_DELAY", "0s") + 2*value("--drain-timeout", "TALLY_DRAIN_TIMEOUT", "20s") + rest
}

// image is what the Dockerfile says of the image.
func image(t *testing.T) (c command, user string) {
	t.Helper()
	text := read(t, filepath.Join(folder, "Dockerfile"))
	c.env = map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ENV (.*)$`).FindAllStringSubmatch(text, -1) {
		for word := range strings.FieldsSeq(m[1]) {
			name, value, _ := strings.Cut(word, "=")
			c.env[name] = value
		}
	}
	cmd := regexp.MustCompile(`(?m)^CMD \[(.*)\]$`).FindStringSubmatch(text)
	entry := regexp.MustCompile(`(?m)^ENTRYPOINT \["/tally"\]$`).FindString(text)
	id := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(text)
	if cmd == nil || entry == "" || id == nil || id[1] != id[2] {
		t.Fatalf("the Dockerfile does not say what it starts:\n%s", text)
	}
	for word := range strings.SplitSeq(cmd[1], ",") {
		c.args = append(c.args, strings.Trim(word, ` "`))
	}
	return c, id[1]
}

func TestImage(t *testing.T) {
	t.Parallel()
	c, _ := image(t)
	if err := accepted(t, c); err != nil {
		t.Error(err)
	}
}

// TestReadme: the commands of deploy/README.md are there.
func TestReadme(t *testing.T) {
	t.Parallel()
	commands := documented(read(t, filepath.Join(folder, "README.md")))
	if len(commands) < 4 {
		t.Errorf("only %d commands were found", len(commands))
	}
	for _, args := range commands {
		if _, err := helped(t, args); err != nil {
			t.Error(err)
		}
	}
}

// documented are the commands of tally that a text shows: lines of their own, in backquotes, and those that run in a container.
func documented(text string) (all [][]string) {
	for _, m := range regexp.MustCompile("(?m)(?:^ *(?:\\w+=\\S+ )*|`| /)tally ([a-z][^`|>#\n]*)").FindAllStringSubmatch(text, -1) {
		if args := strings.Fields(m[1]); args[0] != "." {
			all = append(all, args)
		}
	}
	return all
}

// wrong fails when a check finds no fault in what has one.
func wrong(t *testing.T, c command, want string) {
	t.Helper()
	if err := accepted(t, c); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v %v: %v does not say %q", c.env, c.args, err, want)
	}
}

// TestAccepted: the check of commands finds what is wrong with them.
func TestAccepted(t *testing.T) {
	t.Parallel()
	wrong(t, command{args: []string{"serve", "--dir=/data", "--drains=5s"}}, "unknown flag --drains")
	wrong(t, command{args: []string{"serve", "--dir=/data", "--drain-delay=five"}}, "--drain-delay")
	wrong(t, command{args: []string{"serve", "--dir=/data", "--role=leader"}}, "--role")
	wrong(t, command{args: []string{"serve", "--dir=/data"}, env: map[string]string{"TALLY_RECORD": "x"}}, "TALLY_RECORD")
	wrong(t, command{args: []string{"serve", "--dir=/data"}, env: map[string]string{"TALLY_DRAIN_DELAY": "5"}}, "TALLY_DRAIN_DELAY")
	wrong(t, command{args: []string{"serve", "--role=server"}}, "named 0 times")
	wrong(t, command{args: []string{"migrate", "upward"}}, "upward")
}
