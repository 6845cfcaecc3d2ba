# The checks that every door passes, over the running deployment of examples/tour.sh: sourced by test/doors/NAME/run.sh once
# the proxy answers. $1 is all or denied: where the proxy can show our headers.
shown=$1

# tally doctor finds nothing wrong, and attributes each request.
out=$(t doctor "$proxy" --key "$key" --echo /echo --direct "$upstream" --requests 10) || fail "tally doctor: $out"
echo "$out"
expect "doctor: refusals are problems" '^OK +401 without a key' "$out"
expect "doctor: the key is kept from the API" '^OK +key kept from the API' "$out"
expect "doctor: each request is charged" '^OK +cost attribution +11 requests' "$out"
[[ $shown != all ]] || expect "doctor: the headers are consistent" '^OK +RateLimit headers' "$out"

# What the caller says of its address does not count: /echo is asked for, and charged.
got=$(ask /echo "Authorization: Bearer $key" 'X-Forwarded-Uri: /nothing' 'X-Forwarded-Method: BREW' 'X-Forwarded-Host: other.example' 'X-Original-URI: /nothing')
expect "forged X-Forwarded-* do not choose the route" '^HTTP/1.1 200' "$got"
got=$(ask /nothing "Authorization: Bearer $key" 'X-Forwarded-Uri: /echo' 'X-Forwarded-Method: GET')
expect "nor open another" '^HTTP/1.1 404' "$got"
got=$(ask /hello/../echo2 "Authorization: Bearer $key")
expect "nor does a path that climbs" '^HTTP/1.1 4[0-9][0-9]' "$got"
got=$(ask /_tally/auth "Authorization: Bearer $key")
expect "the question itself cannot be asked" '^HTTP/1.1 404' "$got"
got=$(ask /doors/auth "Authorization: Bearer $key" 'X-Forwarded-Uri: /echo' 'X-Forwarded-Method: GET')
expect "nor the door be reached" '^HTTP/1.1 404' "$got"

# Names of ours that the caller makes up: those that we set are replaced, also with an underscore, which some servers cannot tell
# from a dash. All others go as well, but for nginx, which cannot remove headers by a pattern (STRIPS=named).
got=$(ask /echo "Authorization: Bearer $key" 'Tally-Customer: forged' 'Tally-Key-Id: forged' 'Tally-Customer: forged' 'Tally_Customer: forged' 'tally_key-id: forged')
expect "forged names are replaced" '"Tally-Customer":\["beta"\]' "$got"
refuse "in any spelling" 'forged' "$got"
got=$(ask /echo "Authorization: Bearer $key" 'Tally-Made-Up: forged')
expect "a made-up Tally-* does no harm" '"Tally-Customer":\["beta"\]' "$got"
if [[ ${STRIPS:-all} == all ]]; then
	refuse "and is taken away" 'forged' "$got"
else
	expect "and passes, as docs/nginx.md says" '"Tally-Made-Up":\["forged"\]' "$got"
fi

# Large headers: within the proxy's bound they pass, far above it they are refused, and the next request is served.
pad=$(printf 'x%.0s' {1..4000})
got=$(ask /hello "Authorization: Bearer $key" "Cookie: $pad")
expect "4 kB of headers pass" '^HTTP/1.1 200' "$got"
got=$(ask "/hello?$pad$pad$pad" "Authorization: Bearer $key")
expect "an address of 12 kB is refused" '^HTTP/1.1 4(00|14|31)' "$got"

# A body passes, and reaches the API once.
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'POST /echo HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Length: 5\r\n\r\nhello' "$key" >&3
got=$(tr -d '\r' <&3)
exec 3>&-
expect "a POST with a body passes" '"method":"POST"' "$got"
expect "with its length" '"Content-Length":\["5"\]' "$got"

# A slow client holds nobody up.
exec 4<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /hello HTTP/1.1\r\nHost: api.exam' >&4
got=$(ask /hello "Authorization: Bearer $key")
expect "others are served beside a slow client" '^HTTP/1.1 200' "$got"
exec 4>&-

# A key that was revoked, and a customer without a subscription, through the proxy.
other=$(t keys create beta --output json)
id=$(sed -n 's/^ *"id": "\(key_[^"]*\)".*/\1/p' <<<"$other" | head -n 1)
secret=$(sed -n 's/^ *"secret": "\([^"]*\)".*/\1/p' <<<"$other")
expect "a second key works at once" '^HTTP/1.1 200' "$(ask /hello "Authorization: Bearer $secret")"
t keys revoke "$id" >/dev/null
got=$(ask /hello "Authorization: Bearer $secret")
expect "and stops when it is revoked" '^HTTP/1.1 401' "$got"
expect "with a challenge" '^WWW-Authenticate: Bearer' "$got"
[[ $(grep -ic '^WWW-Authenticate:' <<<"$got") == 1 ]] || fail "WWW-Authenticate more than once in $got"
t customers create idle >/dev/null
idle=$(t keys create idle | awk '$1 == "secret" {print $2}')
got=$(ask /hello "Authorization: Bearer $idle")
expect "403 stays 403" '^HTTP/1.1 403' "$got"
expect "and says why" '"code":"no_subscription"' "$got"

expect "the books balance" '"difference": "0"' "$(t books --output json)"
away
out=$(t doctor "$proxy" --key "$key" --fail-mode) || fail "tally doctor --fail-mode: $out"
expect "doctor: it fails closed" '^OK +fail mode +closed' "$out"
