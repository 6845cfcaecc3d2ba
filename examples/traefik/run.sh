#!/usr/bin/env bash
# Traefik in front of an API, Tallystick beside it: 100 calls pass, the next is refused, the books balance.
source "$(dirname "$0")/../tour.sh"
traefik=$(program traefik "${TALLY_TEST_TRAEFIK:-traefik}" "$root/.cache/doors/traefik")

t gateway add traefik --listen "127.0.0.1:$port" --out "$work"
sed "s|127.0.0.1:8090|127.0.0.1:$port|" "$root/examples/traefik/traefik.yaml" >"$work/traefik.yaml"
cd "$work"
begin traefik "$traefik" --configFile="$work/traefik.yaml"
until_open "$port" traefik
for ((i = 0; i < 100; i++)); do # it listens before it has read its routes
	grep -q '^HTTP/1.1 404' <<<"$(ask /hello)" || break
	sleep 0.05
done
tour denied
