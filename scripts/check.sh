#!/usr/bin/env bash
# All checks, cheap ones first, each with its time. Stops at the first that fails. One that cannot run here, for want of a program of
# others, does not stop it and is not green either. Called by "make check".
set -euo pipefail
cd "$(dirname "$0")/.."

tool() { go tool -modfile=tools/go.mod "$@"; }
rounds=5 # of kill -9; "make soak" runs more
nodes=2 # of three gateways under faults
chaos=2 # of servers, gateways and PostgreSQL under faults; "make soak" runs 20
events=1000000 # ingested twice
watched=20 # cases of each property under the race detector: most have one caller. "properties" runs the default, 100
histories=500 # random subscriptions, billed and compared with the oracle; "make soak" runs 10,000

times=() without=()
phase() { # name, command...
	local name=$1 start=$SECONDS
	shift
	printf '\n== %s\n' "$name"
	local code=0
	"$@" || code=$?
	if ((code == 3)); then # a program of others that cannot be had here
		printf '== %s NOT RUN\n' "$name" >&2
		times+=("NOT RUN  $name")
		without+=("$name")
		return
	fi
	if ((code != 0)); then
		printf '== %s FAILED after %d s\n' "$name" $((SECONDS - start)) >&2
		exit 1
	fi
	times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
}

formatted() { # of all modules
	local diff code=0
	diff=$(tool golangci-lint fmt --diff ./...) || code=$?
	if [[ -z $diff ]]; then
		((code == 0)) # else it is the tool that failed
		return
	fi
	printf '%s\nrun make fmt\n' "$diff"
	return 1
}

phase 'tidy' scripts/modules.sh go mod tidy -diff
phase 'generated files' scripts/gencheck.sh
phase 'format' formatted
phase 'lint' make -s lint
phase 'vet' scripts/modules.sh go vet ./...
phase 'deploy' env TALLY_TEST_BINARY="$PWD/bin/tally" test/deploy/run.sh
# Billing is one loop over long random histories: the race detector would take ten times as long and find what its tests with
# several callers find alone.
# The servers of test/servers are processes, which it does not watch.
slow='/(internal/app/(bill|bill/oracle|collect|correct)|test/servers)$'
race() {
	local -a all
	mapfile -t all < <(go list ./... | grep -vE "$slow")
	RAPID_CHECKS=$watched CGO_ENABLED=1 go test "${detector[@]}" -timeout 25m -shuffle=on -skip '^TestCluster' "${all[@]}" &&
		CGO_ENABLED=1 go test "${detector[@]}" -run 'Concurrent|AtOnce' ./internal/app/bill ./internal/app/collect ./internal/app/correct
}
# SQLite's C, in Go, is watched for races, but not for what -race adds: a check of each conversion of a pointer, half of its time.
detector=(-race '-gcflags=modernc.org/...=-d=checkptr=0')
phase 'race tests' race
properties() { # all tests of the packages whose tests use rapid, but for those that the phases below run in full
	local -a all
	mapfile -t all < <(go list -f '{{range .Deps}}{{if eq . "pgregory.net/rapid"}}{{$.ForTest}}{{end}}{{end}}' -test ./... | sort -u | grep -vE "$slow")
	go test -timeout 25m -shuffle=on -skip '^TestCluster' "${all[@]}"
}
phase 'properties' properties
phase 'billing' go test -shuffle=on ./internal/app/bill ./internal/app/collect ./internal/app/correct
phase 'subscription histories' go test ./internal/app/bill/oracle -histories "$histories"
phase 'faults' test/faults/run.sh "$rounds"
phase 'several servers' go test -count=1 ./test/servers # its processes are no input that the cache of results knows
phase 'cluster' go test -count=1 -parallel 1 ./test/cli -run '^TestCluster' # each has ten processes
phase 'gateways under faults' test/nodes/run.sh "$nodes"
phase 'chaos' test/chaos/run.sh "$chaos"
phase 'journal on Kafka' env TALLY_TEST_BINARY="$PWD/bin/tally" test/kafka/run.sh
# 60 s of worlds: those that found something once, then the same ones each time, so that a check does not fail by chance; "make
# soak" looks for new ones. One that fails names the command that shows it again.
simulator() {
	local a b code=0
	bin/tally sim --kept internal/sim/testdata/seeds --seed 1 --for 60s & a=$!
	bin/tally sim --seed 100001 --rates --for 60s & b=$!
	wait "$a" || code=1
	wait "$b" || code=1
	return "$code"
}
phase 'simulator' simulator
phase 'doors' test/doors/run.sh
phase 'ingest' bench/ingest.sh "$events"
phase 'browser' test/browser/run.sh

printf '\n'
printf '%s\n' "${times[@]}"
if ((${#without[@]})); then
	printf '== NOT green: could not run here: %s\n' "${without[*]}" >&2
	exit 1
fi
printf '== all green in %d s\n' "$SECONDS"
