#!/usr/bin/env bash
# HAProxy in front of an API, Tallystick beside it: 100 calls pass, the next is refused, the books balance.
source "$(dirname "$0")/../tour.sh"
haproxy=$(program haproxy haproxy /usr/sbin/haproxy)

t gateway add haproxy --listen "127.0.0.1:$port" --out "$work"
begin haproxy "$haproxy" -db -f "$root/examples/haproxy/haproxy.cfg" -f "$work/tally.cfg"
until_open "$port" haproxy
tour all
