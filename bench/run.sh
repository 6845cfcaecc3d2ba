#!/usr/bin/env bash
# The gateway against a bare reverse proxy. Arguments go to the benchmark: bench/run.sh -rounds 3 -each 1s
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p bin
go build -trimpath -o bin/bench-gateway ./bench/gateway
printf 'machine: %s cores, load %s, %s\n' "$(nproc)" "$(cut -d' ' -f1-3 /proc/loadavg)" "$(go version)"
exec bin/bench-gateway "$@"
