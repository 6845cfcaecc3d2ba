#!/usr/bin/env bash
# The tour: Envoy and Tallystick, 100 × 200, then 429, balanced books; first by external authorization, then by the rate limit
# service. Needs bash, curl, a built bin/tally and an Envoy: envoy in the PATH, $TALLY_TEST_ENVOY, or what get.sh fetches.
# Everything lives in a temporary folder, on free ports, and ends with the tour. HOOK, a script, is sourced before the end.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tally=${TALLY:-$root/bin/tally}
[[ -x $tally ]] || { echo "$tally is missing: run make build" >&2; exit 1; }
if ! envoy=$(TALLY_TEST_ENVOY=${TALLY_TEST_ENVOY:-$(command -v envoy || true)} "$root/test/doors/envoy/get.sh"); then
	echo "NOT RUN: examples/envoy: there is no Envoy here" >&2
	exit 3
fi
work=$(mktemp -d)
started=()

stop() {
	local pid
	for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
	started=()
}

finish() {
	local code=$?
	trap - EXIT
	stop
	((code == 0)) || for f in "$work"/*.log; do [[ -s $f ]] && { echo "--- ${f##*/}"; tail -n 15 "$f"; } >&2; done
	rm -rf "$work"
	exit "$code"
}
trap finish EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

until_answers() { # PORT PID WHAT
	for ((i = 0; i < 400; i++)); do
		answers "$1" && return
		kill -0 "$2" 2>/dev/null || return 1
		sleep 0.05
	done
	fail "$3 does not answer at port $1"
}

free_port() { # not one of those named
	local p
	while :; do
		p=$((20000 + RANDOM % 12000))
		[[ " $* " == *" $p "* ]] || answers "$p" || { echo "$p"; return; }
	done
}

start_tally() { # the gRPC port stays the same when it is started anew
	"$tally" serve --mode test --dir "$work/data" --api 127.0.0.1:0 --gateway 127.0.0.1:0 --grpc "127.0.0.1:$grpc" \
		--catalog "$root/examples/envoy/tally.yaml" >>"$work/tally.log" 2>&1 &
	tally_pid=$!
	started+=("$tally_pid")
	until_answers "$grpc" "$tally_pid" tally
}

start_envoy() { # CONFIG
	proxy=${ENVOY_PORT:-$(free_port "$grpc")}
	api=$(free_port "$grpc" "$proxy")
	admin=$(free_port "$grpc" "$proxy" "$api")
	# A machine that is busy with other tests may take longer than a gateway should wait.
	sed -e "s/timeout: 0.5s/timeout: 10s/; s/\b10000\b/$proxy/g; s/\b10001\b/$api/g; s/\b9901\b/$admin/g; s/\b8082\b/$grpc/g" "$root/examples/envoy/$1" >"$work/envoy.yaml"
	"$envoy" -c "$work/envoy.yaml" --disable-hot-restart --concurrency 1 --log-level warning >"$work/envoy.log" 2>&1 &
	started+=($!)
	until_answers "$proxy" "$!" envoy
}

begin() { # CONFIG; again where a port was taken by somebody else in between
	rm -rf "$work/data"
	for ((try = 0; try < 5; try++)); do
		grpc=${TALLY_GRPC_PORT:-$(free_port)}
		if start_tally && start_envoy "$1"; then
			return
		fi
		stop
	done
	fail "tally and envoy did not start"
}

run() { "$tally" "$@" --dir "$work/data"; }

# ask METHOD PATH [CURL ARGUMENT...]: status line, headers and body of one call through Envoy.
ask() {
	local method=$1 path=$2
	shift 2
	curl -sS -i -m 30 -X "$method" "http://127.0.0.1:$proxy$path" "$@" | tr -d '\r'
}

expect() { # WHAT PATTERN TEXT
	grep -qE -- "$2" <<<"$3" || fail "$1: no $2 in:
$3"
}

new_key() {
	run customers create acme >/dev/null
	run subscriptions create acme free >/dev/null
	run keys create acme --output json | sed -n 's/.*"secret": *"\([^"]*\)".*/\1/p'
}

tour() { # NAME CONFIG
	echo "== $1"
	begin "$2"
	key=$(new_key)
	[[ -n $key ]] || fail "no key was made"
	local n ok=0 last config=$2
	for ((n = 0; n < 100; n++)); do
		last=$(ask GET /hello -H "Authorization: Bearer $key" -H 'Tally-Customer: somebody' -H 'Tally-Plan: gold')
		[[ $last == 'HTTP/1.1 200'* ]] && ok=$((ok + 1))
	done
	((ok == 100)) || fail "$ok of 100 calls were answered with 200"
	echo "100 × 200, the last with:"
	grep -iE '^(ratelimit|decision-id)' <<<"$last" | cut -c 1-90
	expect 'the last 200' '^ratelimit-policy: "daily";q=100;w=86400$' "$last"
	expect 'the last 200' '^ratelimit: "daily";r=0;t=[0-9]+$' "$last"
	expect 'the last 200' '^decision-id: dec_' "$last"
	denied=$(ask GET /hello -H "Authorization: Bearer $key")
	expect 'call 101' '^HTTP/1.1 429 ' "$denied"
	expect 'call 101' '^ratelimit: "daily";r=0;t=[0-9]+$' "$denied"
	expect 'call 101' '^retry-after: [1-9][0-9]*$' "$denied"
	expect 'call 101' '"code":"quota_exceeded"' "$denied"
	[[ $(grep -ci '^content-type:' <<<"$denied") == 1 ]] || fail "call 101 has several content types: $denied"
	expect 'call 101' '^content-type: application/problem\+json' "$denied"
	echo "then 429:"
	grep -iE '^(HTTP|ratelimit|retry-after|decision-id|content-type)' <<<"$denied" | cut -c 1-90
	[[ -z ${HOOK:-} ]] || . "$HOOK"
	books=$(run books)
	echo "books: $(tail -n 1 <<<"$books")"
	run books --output json | grep -qE '"difference": *"0"' || fail "the books do not balance: $books"
	stop
}

tour 'external authorization' envoy.yaml
tour 'rate limit service' envoy-rls.yaml
echo "ok"
