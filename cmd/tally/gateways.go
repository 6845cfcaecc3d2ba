package main

import (
	"context"

	"github.com/tallystick/tallystick/internal/cli/gateways"
)

// gateways is how many gateways may draw on the limits: those with a key, of which this process's own is one.
func (s *server) gateways(ctx context.Context) (int, error) {
	keys, err := s.records.GatewayKeys(ctx)
	nodes := map[uint16]bool{}
	for _, k := range keys {
		nodes[k.Node] = true
	}
	return max(1, len(nodes)), err
}

// gatewayCommands are about the gateways of a deployment.
type gatewayCommands struct {
	Gateway gatewayCmd      `cmd:"" help:"Other gateways that ask this deployment: add."`
	Doctor  gateways.Doctor `cmd:"" help:"Send traffic through a live gateway, and report what is wrong with it."`
}

type gatewayCmd struct {
	Add gateways.Add `cmd:"" help:"Print the configuration with which another gateway asks this deployment."`
}
