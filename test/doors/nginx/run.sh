#!/usr/bin/env bash
# More than the tour: what every door must pass, see ../checks.sh.
export TOUR=test/doors/checks.sh STRIPS=named
exec "$(dirname "$0")/../../../examples/nginx/run.sh"
