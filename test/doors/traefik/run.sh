#!/usr/bin/env bash
# More than the tour: what every door must pass, see ../checks.sh.
export TOUR=test/doors/checks.sh
exec "$(dirname "$0")/../../../examples/traefik/run.sh"
