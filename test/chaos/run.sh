#!/usr/bin/env bash
# Servers, gateways and PostgreSQL under faults: run.sh ROUNDS [SEED]. Prints the faults of each round and what was found after
# them. run.sh --prove ROUNDS [SEED] builds broken products, one after the other: a server that does not charge open leases of others,
# and one that forgets what token buckets owe when a gateway or the server itself dies. Within that many rounds each must be found
# to pass its limit. TALLY_TEST_RACE=1 builds the processes with the race detector.
set -euo pipefail
cd "$(dirname "$0")"
prove=
if [[ ${1:-} == --prove ]]; then
	prove=1
	shift
fi
rounds=${1:-2}
export TALLY_TEST_RACE=${TALLY_TEST_RACE:-}
[[ -z $TALLY_TEST_RACE ]] || export CGO_ENABLED=1
args=(-rounds "$rounds")
[[ -z ${2:-} ]] || args+=(-seed "$2")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
out=$tmp/out

run() { # further flags...
	go test -count=1 -v -timeout $((5 + 2 * rounds))m . "$@" "${args[@]}" 2>&1 | tee "$out" |
		sed -un 's/^ *[a-z]*_test\.go:[0-9]*: //p; /^--- /p; /^ok/p'
}

broken() { # build tag, what is broken, what must be found, further flags...
	local tag=$1 what=$2 found=$3 failed=
	shift 3
	(cd ../.. && go build -buildvcs=false -tags "$tag" -o "$tmp/tally" ./cmd/tally)
	TALLY_TEST_BINARY=$tmp/tally run -run '^TestChaos$' "$@" || failed=1
	if [[ -n $failed ]] && grep -Eq "$found" "$out"; then
		echo "proved: a server that $what is found out"
		return
	fi
	[[ -z $failed ]] || cat "$out"
	echo "not proved: the faults did not show a server that $what" >&2
	exit 1
}

if [[ -n $prove ]]; then
	broken tally_uncharged 'does not charge open leases' 'the hard limit [0-9]+ of [^ ]+ is passed'
	# the faults that make somebody forget
	broken tally_forgetful 'forgets what buckets owe' 'the bucket of [^ ]+ and [0-9]+ of [^ ]+ is passed' \
		-only 'kill gateway,kill server'
	exit
fi
run || {
	cat "$out"
	exit 1
}
