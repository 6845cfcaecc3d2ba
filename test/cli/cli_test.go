// Package cli_test runs the tally binary as a user does: scripts of commands with what they must print and how they must end.
package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/test/process"
)

// patience bounds every wait; readyMax is what a user is promised for the demo, with room for a loaded machine.
const (
	patience = 60 * time.Second
	readyMax = 10 * time.Second
)

func TestCommands(t *testing.T) {
	t.Parallel()
	tally, err := process.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := params(tally, tally.Start, readyMax)
	p.Dir = "testdata"
	testscript.Run(t, p)
}

// starter starts what a script starts with "start NAME ARGS".
type starter func(dir string, args ...string) (*process.Process, error)

// params are what all scripts have in common. What is started has to be ready in time.
func params(tally process.Binary, begin starter, within time.Duration) testscript.Params {
	return testscript.Params{
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(string(tally))+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Values[serversKey{}] = map[string]*process.Process{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":    func(ts *testscript.TestScript, neg bool, args []string) { start(ts, begin, within, neg, args) },
			"halt":     halt,
			"generate": generate,
			"fails":    fails,
			"json":     matchJSON,
			"take":     take,
			"sum":      sum,
			"calc":     calc,
			"noon":     noon,
			"swap":     swap,
			"forge":    forge,
			"flip":     flip,
		},
	}
}

// serversKey holds a script's running servers by name.
type serversKey struct{}

func servers(ts *testscript.TestScript) map[string]*process.Process {
	m, ok := ts.Value(serversKey{}).(map[string]*process.Process)
	if !ok {
		ts.Fatalf("the script has no servers")
	}
	return m
}

// start NAME ARGS: starts a server on free ports and waits until it is ready. API, GATEWAY and TOKEN are set from client.json.
func start(ts *testscript.TestScript, run starter, within time.Duration, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME COMMAND [ARG...]")
	}
	name, args := args[0], append(slices.Clone(args[1:]), "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
	began := time.Now()
	p, err := run(ts.MkAbs("."), args...)
	ts.Check(err)
	ts.Defer(func() {
		p.Close()
		written := p.Stderr.Bytes()
		ts.Logf("%s wrote at last:\n%s", name, written[max(0, len(written)-8192):])
	})
	servers(ts)[name] = p
	ctx, cancel := context.WithTimeout(context.Background(), max(patience, within))
	defer cancel()
	out, ready := p.Stderr, func(text []byte) bool { return strings.Contains(string(text), "Token  ") }
	switch {
	case slices.Contains(args, "json"):
		out, ready = p.Stdout, json.Valid
	case args[0] == "demo":
		out, ready = p.Stdout, func(text []byte) bool { return strings.Contains(string(text), "Stop with Ctrl-C") }
	}
	if _, err := out.Until(ctx, ready); err != nil {
		ts.Fatalf("%s did not get ready: %v\n%s", name, err, p.Stderr.Bytes())
	}
	took := time.Since(began)
	ts.Logf("%s was ready after %d ms", name, took.Milliseconds())
	if took > within {
		ts.Fatalf("that is more than %v", within)
	}
	dir := "tally-data"
	if i := slices.Index(args, "--dir"); i >= 0 {
		dir = args[i+1]
	}
	var at struct{ API, Gateway, Token string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(filepath.Join(dir, "client.json"))), &at))
	ts.Setenv("API", at.API)
	ts.Setenv("GATEWAY", at.Gateway)
	ts.Setenv("TOKEN", at.Token)
}

// halt NAME [KILL]: ends a server with SIGTERM, after which its exit code must be 0, or with SIGKILL. What it wrote is in
// NAME.out and NAME.err.
func halt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || servers(ts)[args[0]] == nil {
		ts.Fatalf("usage: halt NAME [KILL]")
	}
	p, sig, want := servers(ts)[args[0]], syscall.SIGTERM, 0
	if len(args) > 1 && args[1] == "KILL" {
		sig, want = syscall.SIGKILL, -1
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(p.Signal(sig))
	code, err := p.Wait(ctx)
	ts.Check(err)
	if code != want {
		ts.Fatalf("%s ended with exit code %d:\n%s", args[0], code, p.Stderr.Bytes())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), p.Stdout.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".err"), p.Stderr.Bytes(), 0o600))
}

// generate FILE N [CHANGED]: writes N events, one a line; event number i has i tokens, but number CHANGED has one more.
func generate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: generate FILE N [CHANGED]")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var out strings.Builder
	for i := 1; i <= n; i++ {
		tokens := i
		if len(args) > 2 && args[2] == strconv.Itoa(i) {
			tokens++
		}
		fmt.Fprintf(&out, `{"specversion":"1.0","source":"generator","id":"e-%d","type":"completion","subject":"acme","data":{"tokens":%d,"model":"m%d"}}`+"\n", i, tokens, i%3)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(out.String()), 0o600))
}

// fails CODE PROGRAM ARGS: the command must end with this exit code, say something on stderr and nothing on stdout.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE PROGRAM [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("ended with %v, not with exit code %s", err, args[0])
	}
	if ts.ReadFile("stderr") == "" {
		ts.Fatalf("it does not say why")
	}
	if args[0] == "1" && ts.ReadFile("stdout") != "" {
		ts.Fatalf("a failed command wrote on stdout")
	}
}

// document is the one JSON document on stdout.
func document(ts *testscript.TestScript) any {
	var v any
	ts.Check(process.Document([]byte(ts.ReadFile("stdout")), &v))
	return v
}

var element = regexp.MustCompile(`^([^\[]*)\[(.*)\]$`)

// find follows a path such as rows[customer=acme].period.start or items.0.id. ok is false where it leads nowhere.
func find(v any, path string) (found any, ok bool) {
	for part := range strings.SplitSeq(path, "/") {
		filter := ""
		if m := element.FindStringSubmatch(part); m != nil {
			part, filter = m[1], m[2]
		}
		switch x := v.(type) {
		case map[string]any:
			if v, ok = x[part]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
		if filter == "" {
			continue
		}
		items, isList := v.([]any)
		i := slices.IndexFunc(items, func(item any) bool { return matches(item, filter) })
		if !isList || i < 0 {
			return nil, false
		}
		v = items[i]
	}
	return v, true
}

// matches: every field of the filter, as in customer=acme,meter=calls, has that value.
func matches(item any, filter string) bool {
	for cond := range strings.SplitSeq(filter, ",") {
		name, want, _ := strings.Cut(cond, "=")
		if have, ok := find(item, strings.ReplaceAll(name, ".", "/")); !ok || text(have) != want {
			return false
		}
	}
	return true
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return v
	case json.Number:
		return v.String()
	case []any, map[string]any:
		b, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	return fmt.Sprint(v)
}

// json: stdout is one JSON document. json PATH: and has something there. json PATH VALUE: and that is it. json PATH ~ REGEXP: and
// it matches. The steps of a path are separated by /. With ! the value must be absent, or another.
func matchJSON(ts *testscript.TestScript, neg bool, args []string) {
	doc := document(ts)
	if len(args) == 0 {
		return
	}
	v, ok := find(doc, args[0])
	good := ok
	switch {
	case len(args) == 2:
		good = ok && text(v) == args[1]
	case len(args) == 3 && args[1] == "~":
		re, err := regexp.Compile(args[2])
		ts.Check(err)
		good = ok && re.MatchString(text(v))
	case len(args) != 1:
		ts.Fatalf("usage: json [PATH [[~] VALUE]]")
	}
	if good == neg {
		ts.Fatalf("%s is %s", args[0], text(v))
	}
}

// take VARIABLE PATH: keeps a value of the document on stdout.
func take(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: take VARIABLE PATH")
	}
	v, ok := find(document(ts), args[1])
	if !ok {
		ts.Fatalf("there is no %s", args[1])
	}
	ts.Setenv(args[0], text(v))
}

// sum VARIABLE PATH FIELD: adds a number up over a list. sum VARIABLE PATH FIELD=REGEXP: counts the elements that match.
func sum(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: sum VARIABLE PATH FIELD[=REGEXP]")
	}
	list, ok := find(document(ts), args[1])
	items, isList := list.([]any)
	if !ok || !isList {
		ts.Fatalf("%s is not a list", args[1])
	}
	field, pattern, counts := strings.Cut(args[2], "=")
	re, err := regexp.Compile(pattern)
	ts.Check(err)
	total := new(big.Rat)
	for _, item := range items {
		v, ok := find(item, field)
		switch {
		case counts && ok && re.MatchString(text(v)):
			total.Add(total, big.NewRat(1, 1))
		case !counts:
			n, good := new(big.Rat).SetString(text(v))
			if !ok || !good {
				ts.Fatalf("%s of %s is no number", field, text(item))
			}
			total.Add(total, n)
		}
	}
	ts.Setenv(args[0], decimal(total))
}

func decimal(r *big.Rat) string {
	s := r.FloatString(12)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// calc A + B = C: checks an addition of decimals.
func calc(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 || args[1] != "+" || args[3] != "=" {
		ts.Fatalf("usage: calc A + B = C")
	}
	var n [3]*big.Rat
	for i, s := range []string{args[0], args[2], args[4]} {
		var ok bool
		if n[i], ok = new(big.Rat).SetString(s); !ok {
			ts.Fatalf("%q is no number", s)
		}
	}
	if got := new(big.Rat).Add(n[0], n[1]); got.Cmp(n[2]) != 0 {
		ts.Fatalf("%s + %s = %s, not %s", args[0], args[2], decimal(got), args[4])
	}
}

// swap FILE OLD NEW: the hex editor; changes the first OLD in a file to NEW of the same length.
func swap(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 || len(args[1]) != len(args[2]) {
		ts.Fatalf("usage: swap FILE OLD NEW, of one length")
	}
	b := []byte(ts.ReadFile(args[0]))
	i := bytes.Index(b, []byte(args[1]))
	if i < 0 {
		ts.Fatalf("%s does not have %s", args[0], args[1])
	}
	copy(b[i:], args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// forge DIR EVENT VALUE: gives an event of a stopped journal another value, with all checksums mended; tree and index are dropped, so
// that they are made again from the forged log.
func forge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: forge DIR EVENT VALUE")
	}
	dir := filepath.Join(ts.MkAbs(args[0]), "journal")
	value, err := money.ParseDecimal(args[2])
	ts.Check(err)
	found := false
	ts.Check(file.Rewrite(dir, func(r *file.Record) bool {
		if r.Event.ID != args[1] || len(r.Resolutions) == 0 {
			return false
		}
		found = true
		r.Resolutions[0].Value = value
		return true
	}))
	if !found {
		ts.Fatalf("there is no event %s", args[1])
	}
	for _, derived := range []string{"tree", "index"} {
		ts.Check(os.RemoveAll(filepath.Join(dir, derived)))
	}
}

// noon: moves the demo's clock past the next midnight when that is near, so that no quota is renewed in the middle of a script.
func noon(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Exec("tally", "clock", "--output", "json"))
	now, _ := find(document(ts), "now")
	ts.Check(ts.Exec("tally", "limits", "bolt", "--output", "json"))
	reset, _ := find(document(ts), "items[limit=daily]/resets_at")
	from, err := time.Parse(time.RFC3339, text(now))
	ts.Check(err)
	until, err := time.Parse(time.RFC3339, text(reset))
	ts.Check(err)
	if until.Sub(from) < 2*patience {
		ts.Check(ts.Exec("tally", "clock", "advance", "--by", (2 * patience).String()))
	}
}
