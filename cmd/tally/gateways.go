package main

import "github.com/tallystick/tallystick/internal/cli/gateways"

// gatewayCommands are about the gateways of a deployment.
type gatewayCommands struct {
	Gateway gatewayCmd      `cmd:"" help:"Other gateways that ask this deployment: add."`
	Doctor  gateways.Doctor `cmd:"" help:"Send traffic through a live gateway, and report what is wrong with it."`
}

type gatewayCmd struct {
	Add gateways.Add `cmd:"" help:"Print the configuration with which another gateway asks this deployment."`
}
