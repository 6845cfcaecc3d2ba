package main

import (
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/cli/gateways"
)

// gatewayCommands are about the gateways of a deployment.
type gatewayCommands struct {
	Gateway gatewayCmd      `cmd:"" help:"Gateways: add for another program, token, list and revoke for our own in processes apart."`
	Doctor  gateways.Doctor `cmd:"" help:"Send traffic through a live gateway, or examine the server's journal and exports, and report what is wrong."`
}

type gatewayCmd struct {
	cli.GatewayCommands
	Add gateways.Add `cmd:"" help:"Print the configuration with which another gateway asks this deployment."`
}
