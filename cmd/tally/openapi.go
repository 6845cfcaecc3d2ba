package main

import (
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/web/httpapi"
)

// openapiCmd prints the API's description; `make gen` keeps it in api/openapi.yaml.
type openapiCmd struct{}

func (openapiCmd) Run(e *cli.Env) error {
	spec, err := httpapi.Spec()
	if err != nil {
		return err
	}
	_, err = e.Stdout.Write(spec)
	return err
}
