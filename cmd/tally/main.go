// Command tally is Tallystick: gateway, meter and biller in one binary, and the command line to them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/period"
)

// version is set by the linker.
var version = "dev"

// commands is the whole command line.
type commands struct {
	Output string `help:"How to print: text or json." enum:"text,json" default:"text" short:"o"`
	Dir    string `help:"Data folder; commands find server and token in its client.json (default ./tally-data)." placeholder:"DIR"`

	Demo         demoCmd     `cmd:"" help:"Server, gateway and a demo API with 30 days of history."`
	Serve        serveCmd    `cmd:"" help:"Server and gateway."`
	Init         initCmd     `cmd:"" help:"Make a data folder and a first catalog file."`
	Version      versionCmd  `cmd:"" help:"Print the version."`
	DemoUpstream upstreamCmd `cmd:"" hidden:"" name:"demo-upstream"`
	Openapi      openapiCmd  `cmd:"" hidden:"" name:"openapi" help:"Print the API's OpenAPI document."`
	Journal      journalCmd  `cmd:"" help:"Check, compact or export the journal of a stopped folder."`
	Backup       backupCmd   `cmd:"" help:"Copy a data folder, also of a running server, into a folder of backups."`
	Restore      restoreCmd  `cmd:"" help:"Make a data folder of a backup, and audit it; or list and check backups."`
	Migrate      migrateCmd  `cmd:"" help:"Show and change the schema of records and journal."`
	Move         moveCmd     `cmd:"" help:"Copy records and journal of a stopped server to other stores, and compare all of it."`
	Sim          simCmd      `cmd:"" help:"Run simulated worlds, faults included, and audit what the product promises."`

	cli.Commands
	gatewayCommands
}

type versionCmd struct{}

func (versionCmd) Run(e *cli.Env) error {
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]string{"version": version, "tzdata": period.TZVersion})
	}
	_, err := fmt.Fprintf(e.Stdout, "tally %s (zone data %s)\n", version, period.TZVersion)
	return err
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its borders named, so that tests can call it.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	exited := -1
	parser, err := kong.New(&c, kong.Name("tally"), kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }),
		kong.Description("Enforces API quotas at the gateway, meters what it admitted, and bills exactly what it metered."),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	if err != nil {
		fmt.Fprintln(stderr, "tally:", err)
		return 1
	}
	k, err := parser.Parse(args)
	if exited >= 0 { // help was printed
		return exited
	}
	if err != nil {
		fmt.Fprintln(stderr, "tally:", err)
		fmt.Fprintf(stderr, "  Run %s --help.\n", strings.TrimSpace("tally "+chosen(err)))
		return 2
	}
	err = k.Run(&cli.Env{Ctx: ctx, Stdout: stdout, Stderr: stderr, JSON: c.Output == "json", Dir: c.Dir, Now: time.Now, Wait: wait, AuditFolder: auditFolder})
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "tally:", err)
	return 1
}

// chosen is the command that a wrong command line belongs to; empty: none that there is.
func chosen(err error) string {
	wrong, ok := errors.AsType[*kong.ParseError](err)
	if !ok {
		return ""
	}
	node := wrong.Context.Selected()
	var names []string
	for ; node != nil && node.Type == kong.CommandNode; node = node.Parent {
		names = append([]string{node.Name}, names...)
	}
	return strings.Join(names, " ")
}

// wait is a pause that ends early with its context.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
