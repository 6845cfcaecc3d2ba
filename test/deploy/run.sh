#!/usr/bin/env bash
# The files of deploy/ against the binary, Helm, Kubernetes' types, Compose and systemd: run.sh [arguments of go test].
# The first run builds Helm, which takes some minutes.
set -euo pipefail
cd "$(dirname "$0")"
exec go test -count=1 -timeout 10m "$@" .
