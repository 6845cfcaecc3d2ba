#!/usr/bin/env bash
# The doors for Envoy against the real Envoy: the tour of examples/envoy with the checks beside. Exit 3: NOT RUN, with the reason.
set -euo pipefail
cd "$(dirname "$0")"
HOOK=$PWD/checks.sh exec ../../../examples/envoy/run.sh
