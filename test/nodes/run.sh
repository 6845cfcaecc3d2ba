#!/usr/bin/env bash
# A server and three gateways under faults: run.sh ROUNDS [SEED]. Prints the faults of each round and what was found after them.
# run.sh --prove ROUNDS [SEED] builds a server that does not charge open leases of others: within that many rounds the run must
# find that the limit is passed. TALLY_TEST_RACE=1 builds the processes with the race detector.
set -euo pipefail
cd "$(dirname "$0")/../.."
prove=
if [[ ${1:-} == --prove ]]; then
	prove=1
	shift
fi
rounds=${1:-2}
export TALLY_TEST_RACE=${TALLY_TEST_RACE:-}
[[ -z $TALLY_TEST_RACE ]] || export CGO_ENABLED=1
args=(-rounds "$rounds" -slow 120ms)
[[ -z ${2:-} ]] || args+=(-seed "$2")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
out=$tmp/out
if [[ -n $prove ]]; then
	go build -buildvcs=false -tags tally_uncharged -o "$tmp/tally" ./cmd/tally
	export TALLY_TEST_BINARY=$tmp/tally
fi
failed=
go test -count=1 -v -timeout $((5 + rounds))m ./test/nodes -run '^TestFaults$' "${args[@]}" 2>&1 | tee "$out" |
	sed -un 's/^ *[a-z]*_test\.go:[0-9]*: //p; /^--- /p; /^ok/p' || failed=1
if [[ -z $prove ]]; then
	[[ -z $failed ]] || cat "$out"
	[[ -z $failed ]]
elif [[ -n $failed ]] && grep -Eq 'round +[0-9]+: usage [0-9]+, answered|were answered, the upstream was called' "$out"; then
	echo "proved: a server that does not charge open leases is found out"
else
	[[ -z $failed ]] || cat "$out"
	echo "not proved: the faults did not show that the charge is missing" >&2
	exit 1
fi
