# Sourced by examples/envoy/run.sh once the quota of calls is used up: what else must hold with the real Envoy. $config is the
# variant's file, $key the caller's key, $last the last 200.
# shellcheck shell=bash disable=SC2154

metric() { # NAME
	local api
	api=$(sed -n 's/.*"api": *"\([^"]*\)".*/\1/p' "$work/data/client.json")
	curl -sS -m 10 "$api/metrics" | awk -v name="$1" '$1 == name { print $2 }'
}

tokens() { run limits acme | awk '$1 == "tokens-daily" { print $6 }'; }

until_metric() { # NAME VALUE
	for ((i = 0; i < 200; i++)); do
		[[ $(metric "$1") == "$2" ]] && return
		sleep 0.05
	done
	fail "$1 is $(metric "$1"), not $2"
}

auth=(-H "Authorization: Bearer $key")

# What the API sees, and callers that are nobody.
if [[ $config == envoy.yaml ]]; then
	expect 'what the API sees' '^hello acme key_[0-9a-z]+ key=- plan=-$' "$last"
	r=$(ask GET /hello -H 'Authorization: Bearer wrong')
	expect 'an unknown key' '^HTTP/1.1 401 ' "$r"
	expect 'an unknown key' '^www-authenticate: Bearer' "$r"
	expect 'an unknown key' '"code":"key_unknown"' "$r"
	r=$(ask GET /nowhere "${auth[@]}")
	expect 'an unknown path' '^HTTP/1.1 404 ' "$r"
	expect 'an unknown path' '"code":"route_unknown"' "$r"
	expect 'the access log' '^GET /hello 200 decision=dec_[0-9A-Za-z_-]+ customer=acme$' "$(cat "$work/envoy.log")"
else
	expect 'what the API sees' '^hello - - key=- plan=gold$' "$last"
	expect 'no key' '^HTTP/1.1 401 ' "$(ask GET /hello)"
	r=$(ask GET /hello -H 'Authorization: Bearer wrong')
	expect 'an unknown key' '^HTTP/1.1 429 ' "$r"
	expect 'an unknown key' '"code":"key_unknown"' "$r"
	expect 'an unknown path' '^HTTP/1.1 429 ' "$(ask GET /nowhere "${auth[@]}")"
fi

# A stream that is done is charged what its answer said it cost, or given back.
expect 'a failing call' '^HTTP/1.1 500 ' "$(ask POST /broken "${auth[@]}")"
until_metric tally_released_total 1
until_metric tally_envoy_open 0
[[ $(tokens) == 0 ]] || fail "a failed call was charged: $(tokens) tokens"
expect 'a call with a cost' '^HTTP/1.1 200 ' "$(ask POST /complete "${auth[@]}")"
until_metric tally_settled_total 101
until_metric tally_envoy_open 0
until_metric tally_envoy_unknown_total 0
until_metric tally_envoy_expired_total 0
charged=$(tokens)
[[ $charged == 40 ]] || fail "the answer said x-tokens: 40, charged were $charged"
echo "stream done: 500 given back, x-tokens: 40 charged as 40"

# Tallystick is away: nobody passes. It is back: as before.
kill "$tally_pid"
wait "$tally_pid" || fail 'tally did not stop cleanly'
for path in /hello /nowhere; do
	expect 'while Tallystick is away' '^HTTP/1.1 503 ' "$(ask GET $path "${auth[@]}")"
done
start_tally
for ((i = 0; i < 100; i++)); do # Envoy tries its connection again, with a growing delay
	r=$(ask GET /hello "${auth[@]}")
	[[ $r == 'HTTP/1.1 503'* ]] || break
	sleep 0.1
done
expect 'after the restart' '^HTTP/1.1 429 ' "$r"
echo "tallystick away: 503, and back: 429"
