#!/usr/bin/env bash
# Kills real servers: run.sh ROUNDS [SEED]. Prints each fault with what was found after it. TALLY_TEST_RACE=1 builds the
# servers with the race detector; beyond 10 rounds that is the default, and TALLY_TEST_RACE= (empty) turns it off.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
if ((rounds > 10)); then
	: "${TALLY_TEST_RACE=1}"
fi
export TALLY_TEST_RACE=${TALLY_TEST_RACE:-}
[[ -z $TALLY_TEST_RACE ]] || export CGO_ENABLED=1
args=(-rounds "$rounds")
[[ -z ${2:-} ]] || args+=(-seed "$2")
out=$(mktemp)
trap 'rm -f "$out"' EXIT
# Only the lines that tell of a fault, as it happens; all of them when a test fails.
go test -count=1 -v -timeout $((10 + rounds / 4))m ./test/faults "${args[@]}" 2>&1 | tee "$out" |
	sed -un 's/^ *[a-z]*_test\.go:[0-9]*: //p; /^--- /p; /^ok/p' || {
	cat "$out"
	exit 1
}
