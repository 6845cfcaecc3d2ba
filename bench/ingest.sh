#!/usr/bin/env bash
# Ingests a file of generated events twice, then with one changed payload: the second run must be all duplicates, the third one
# have exactly one conflict, and usage must stay the same. bench/ingest.sh [EVENTS]
set -euo pipefail
cd "$(dirname "$0")/.."
n=${1:-1000000}
mkdir -p bin
CGO_ENABLED=0 go build -trimpath -o bin/tally ./cmd/tally
tally=$PWD/bin/tally
work=$(mktemp -d)
server=
cleanup() {
	if [[ -n $server ]]; then kill "$server" && wait "$server" || true; fi
	rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
cat >catalog.yaml <<'YAML'
tallystick: 1
meters:
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens, unit: tokens, scale: 0, dimensions: [model]}
plans:
  - {key: free, currency: USD}
YAML
"$tally" serve --catalog catalog.yaml --mode test --api 127.0.0.1:0 --gateway 127.0.0.1:0 2>server.err &
server=$!
for ((i = 0; i < 300; i++)); do
	if grep -q 'Token  ' server.err; then break; fi
	sleep 0.1
done
for c in 0 1 2 3 4 5 6 7 8 9; do
	"$tally" customers create "c$c" >/dev/null
	"$tally" subscriptions create "c$c" free >/dev/null
done
generate() { # CHANGED
	awk -v n="$n" -v changed="$1" 'BEGIN { for (i = 1; i <= n; i++)
		printf "{\"specversion\":\"1.0\",\"source\":\"/bench/ingest\",\"id\":\"%08x-7a63-7cc0-9c0f-%012x\",\"type\":\"completion\",\"subject\":\"c%d\",\"data\":{\"tokens\":%d,\"model\":\"m%d\"}}\n", i * 2654435761 % 4294967296, i, i % 10, i % 1000 + (i == changed), i % 4 }'
}
generate 0 >events.ndjson
generate $((n / 2)) >changed.ndjson
usage() { for c in 0 1 2 3 4 5 6 7 8 9; do "$tally" usage "c$c" --meter tokens --output json | grep '"value"' | head -1; done; }
run() { # FILE
	local began took
	began=$(date +%s%N)
	"$tally" ingest "$1" --output json >counts.json
	took=$(($(date +%s%N) - began))
	printf '%-15s %s  %d ms, %d events/s\n' "$1" "$(tr -d ' \n' <counts.json)" $((took / 1000000)) $((n * 1000000000 / took))
}
want() { # FIELD VALUE
	if ! grep -q "\"$1\": $2,\?\$" counts.json; then
		echo "FAIL: $1 is not $2" >&2
		exit 1
	fi
}
printf 'machine: %s cores, load %s; %d events, %d bytes\n' "$(nproc)" "$(cut -d' ' -f1-3 /proc/loadavg)" "$n" "$(stat -c %s events.ndjson)"
run events.ndjson
want accepted "$n"
usage >first
run events.ndjson
want duplicate "$n"
run changed.ndjson 2>conflicts
want duplicate $((n - 1))
want conflict 1
want rejected 0
cat conflicts
usage >second
if ! cmp first second; then
	echo 'FAIL: usage changed' >&2
	exit 1
fi
echo 'usage unchanged'
