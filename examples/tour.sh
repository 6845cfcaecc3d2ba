# The common part of the tours: sourced by examples/NAME/run.sh, which then starts its proxy at $proxy with the files in $work.
# Needs bash and a built bin/tally. Everything lives in a temporary folder, on free ports, and ends with the tour.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tally=${TALLY:-$root/bin/tally}
work=$(mktemp -d)
started=()

finish() {
	local code=$?
	trap - EXIT
	[[ -z ${keep:-} ]] || exec {keep}>&- # ends the API
	for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
	((code == 0)) || for f in "$work"/*.log; do [[ -s $f ]] && { echo "--- ${f##*/}"; tail -n 15 "$f"; } >&2; done
	rm -rf "$work"
	exit "$code"
}
trap finish EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# program NAME PATH...: the first that is there; exit code 3 says that there is none.
program() {
	local name=$1 p
	shift
	for p in "$@"; do
		if p=$(command -v "$p"); then
			echo "$p"
			return
		fi
	done
	echo "NOT RUN: $name is not installed; scripts/doors.sh gets it" >&2
	exit 3
}

# begin COMMAND...: in the background, until the tour ends; its output is in the log.
begin() {
	local log=$work/$1.log
	shift
	"$@" >"$log" 2>&1 &
	started+=($!)
}

open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

until_open() { # PORT WHAT
	for ((i = 0; i < 200; i++)); do
		open "$1" && return
		kill -0 "${started[-1]}" 2>/dev/null || fail "$2 ended"
		sleep 0.05
	done
	fail "$2 does not answer at port $1"
}

free_port() {
	local p
	for ((i = 0; i < 50; i++)); do
		p=$((20000 + RANDOM % 12000))
		open "$p" || { echo "$p"; return; }
	done
	fail "no free port"
}

# ask PATH [HEADER...]: one request to the proxy, answered with status line, headers and body.
ask() {
	local path=$1 h
	shift
	exec 3<>"/dev/tcp/127.0.0.1/$port"
	{
		printf 'GET %s HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n' "$path"
		for h in "$@"; do printf '%s\r\n' "$h"; done
		printf '\r\n'
	} >&3
	tr -d '\r' <&3
	exec 3>&-
}

expect() { # WHAT PATTERN TEXT
	grep -Eiq -- "$2" <<<"$3" || fail "$1: no line matches $2 in"$'\n'"$3"
	echo "ok: $1"
}

refuse() { # WHAT PATTERN TEXT
	! grep -Eiq -- "$2" <<<"$3" || fail "$1: a line matches $2 in"$'\n'"$3"
	echo "ok: $1"
}

[[ -x $tally ]] || fail "$tally is not there; run: make build"
unset TALLY_URL TALLY_TOKEN TALLY_GATEWAY_URL

# The API to be sold: it ends when its standard input does.
mkfifo "$work/upstream.in"
"$tally" demo-upstream --listen 127.0.0.1:0 <"$work/upstream.in" >"$work/upstream.out" 2>"$work/upstream.log" &
started+=($!)
exec {keep}>"$work/upstream.in"
for ((i = 0; i < 200; i++)); do [[ -s $work/upstream.out ]] && break || sleep 0.05; done
upstream=$(head -n 1 "$work/upstream.out")

# Tallystick, with one customer and one key.
sed "s|http://127.0.0.1:9000|$upstream|" "$root/examples/doors.yaml" >"$work/doors.yaml"
t() { "$tally" --dir "$work/data" "$@"; }
begin tally "$tally" --dir "$work/data" serve --api 127.0.0.1:0 --gateway 127.0.0.1:0 --catalog "$work/doors.yaml"
server=$!
for ((i = 0; i < 200; i++)); do t status >/dev/null 2>&1 && break || sleep 0.05; done
t customers create beta >/dev/null
t subscriptions create beta free >/dev/null
key=$(t keys create beta | awk '$1 == "secret" {print $2}')
port=$(free_port)
proxy=http://127.0.0.1:$port
echo "tally serves; the API is at $upstream, the proxy will be at $proxy"

# tour SHOWN: 100 calls pass, the next one is refused. SHOWN is all or denied: where the proxy can show our headers.
tour() {
	local shown=$1 one got
	if [[ -n ${TOUR:-} ]]; then # other checks in its place
		source "$root/$TOUR"
		echo "PASS"
		return
	fi
	one=$(ask /echo "Authorization: Bearer $key" 'Tally-Customer: forged' 'Tally-Key-Id: forged')
	expect "a good key passes" '^HTTP/1.1 200' "$one"
	expect "the API learns who calls" '"Tally-Customer":\["beta"\]' "$one"
	refuse "the API sees neither the key nor forged names" "$key|forged" "$one"
	if [[ $shown == all ]]; then
		expect "the caller sees where it stands" '^RateLimit: "daily";r=99;t=[0-9]+$' "$one"
		expect "and by which policy" '^RateLimit-Policy: "daily";q=100;w=86400$' "$one"
		expect "and the decision" '^Decision-Id: dec_' "$one"
	fi
	got=$(ask /hello 'Authorization: Bearer wrong')
	expect "a wrong key is refused" '^HTTP/1.1 401' "$got"
	expect "with a problem" '"code":"key_unknown"' "$got"
	got=$(TALLY_GATEWAY_URL=$proxy "$tally" burst "$key" 100)
	echo "$got"
	expect "99 more pass" '^ +99 × 200' "$got"
	expect "and then no more" '^ +1 × 429' "$got"
	got=$(ask /hello "Authorization: Bearer $key")
	sed -n '1,/^$/p' <<<"$got"
	expect "429" '^HTTP/1.1 429' "$got"
	expect "Retry-After" '^Retry-After: [1-9][0-9]*$' "$got"
	expect "RateLimit" '^RateLimit: "daily";r=0;t=[0-9]+$' "$got"
	expect "RateLimit-Policy" '^RateLimit-Policy: "daily";q=100;w=86400$' "$got"
	expect "a problem document" '^Content-Type: application/problem\+json' "$got"
	expect "that says why" '"code":"quota_exceeded"' "$got"
	got=$(t usage beta --meter api_calls)
	expect "100 calls are metered" '^value +100$' "$got"
	t books
	expect "the books balance" '"difference": "0"' "$(t books --output json)"
	got=$(grep -i '^Decision-Id:' <<<"$one" | cut -d' ' -f2) || got=
	[[ -z $got ]] || t explain "$got"
	away
	echo "PASS"
}

# away: without Tallystick nothing passes.
away() {
	kill "$server"
	wait "$server" || true
	local got
	got=$(ask /hello "Authorization: Bearer $key")
	expect "without Tallystick nothing passes" '^HTTP/1.1 50[0-9]' "$got"
}
