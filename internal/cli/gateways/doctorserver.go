package gateways

import (
	"encoding/json"

	"github.com/tallystick/tallystick/internal/cli"
)

// server has a server examine what it stands on.
func (c *Doctor) server(e *cli.Env) error {
	s, err := e.Server()
	if err != nil {
		return err
	}
	b, err := s.Ask(e, "", "/v1/checks", nil)
	if err != nil {
		return err
	}
	var found struct{ Checks []check }
	if err := json.Unmarshal(b, &found); err != nil {
		return err
	}
	x := &exam{Doctor: c, e: e, checks: append([]check{{Name: "server", Result: "ok", Detail: "answers at " + s.API}}, found.Checks...)}
	return x.tell()
}
