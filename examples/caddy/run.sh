#!/usr/bin/env bash
# Caddy in front of an API, Tallystick beside it: 100 calls pass, the next is refused, the books balance.
source "$(dirname "$0")/../tour.sh"
caddy=$(program caddy caddy)

t gateway add caddy --listen "127.0.0.1:$port" --out "$work"
cp "$root/examples/caddy/Caddyfile" "$work/"
begin caddy env HOME="$work" XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work" "$caddy" run --config "$work/Caddyfile" --adapter caddyfile
until_open "$port" caddy
tour all
