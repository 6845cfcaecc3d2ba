#!/usr/bin/env bash
# nginx in front of an API, Tallystick beside it: 100 calls pass, the next is refused, the books balance.
source "$(dirname "$0")/../tour.sh"
nginx=$(program nginx nginx /usr/sbin/nginx)

t gateway add nginx --listen "127.0.0.1:$port" --out "$work"
cp "$root/examples/nginx/nginx.conf" "$work/"
((EUID != 0)) || chmod 755 "$work" # nginx's workers run as another user
begin nginx "$nginx" -p "$work" -e stderr -c nginx.conf
until_open "$port" nginx
tour all
