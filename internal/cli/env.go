// Package cli is the commands that talk to a running server: they find it, ask /v1, and print the answer as JSON or text.
package cli

import (
	"context"
	"io"
)

// Env is what every command gets.
type Env struct {
	Ctx    context.Context //nolint:containedctx // the process's own, ended by a signal
	Stdout io.Writer
	Stderr io.Writer
	JSON   bool   // print one JSON document
	Dir    string // the data folder; "" when not given

	AuditFolder AuditFolder // for `tally audit` without a server
}

// DataDir is the folder for commands that need one.
func (e *Env) DataDir() string {
	if e.Dir == "" {
		return "tally-data"
	}
	return e.Dir
}
