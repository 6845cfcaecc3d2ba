#!/usr/bin/env bash
# A server and three gateways under faults: run.sh ROUNDS [SEED]. Prints the faults of each round and what was found after them.
# TALLY_TEST_RACE=1 builds the processes with the race detector.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-2}
export TALLY_TEST_RACE=${TALLY_TEST_RACE:-}
[[ -z $TALLY_TEST_RACE ]] || export CGO_ENABLED=1
args=(-rounds "$rounds" -slow 60ms)
[[ -z ${2:-} ]] || args+=(-seed "$2")
out=$(mktemp)
trap 'rm -f "$out"' EXIT
go test -count=1 -v -timeout $((5 + rounds))m ./test/nodes -run '^TestFaults$' "${args[@]}" 2>&1 | tee "$out" |
	sed -un 's/^ *[a-z]*_test\.go:[0-9]*: //p; /^--- /p; /^ok/p' || {
	cat "$out"
	exit 1
}
