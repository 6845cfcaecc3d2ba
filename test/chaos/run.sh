#!/usr/bin/env bash
# Servers, gateways and PostgreSQL under faults: run.sh ROUNDS [SEED]. Prints the faults of each round and what was found after
# them. TALLY_TEST_RACE=1 builds the processes with the race detector.
set -euo pipefail
cd "$(dirname "$0")"
rounds=${1:-2}
export TALLY_TEST_RACE=${TALLY_TEST_RACE:-}
[[ -z $TALLY_TEST_RACE ]] || export CGO_ENABLED=1
args=(-rounds "$rounds")
[[ -z ${2:-} ]] || args+=(-seed "$2")
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=
go test -count=1 -v -timeout $((5 + 2 * rounds))m . "${args[@]}" 2>&1 | tee "$out" |
	sed -un 's/^ *[a-z]*_test\.go:[0-9]*: //p; /^--- /p; /^ok/p' || failed=1
[[ -z $failed ]] || cat "$out"
[[ -z $failed ]]
