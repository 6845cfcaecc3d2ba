#!/usr/bin/env bash
# The pages in a real browser: numbers against /v1, live updates, policy violations, accessibility, widths.
# Installs its two packages only when package-lock.json changed.
set -euo pipefail
cd "$(dirname "$0")"

chromium=${TALLY_TEST_CHROMIUM:-/usr/bin/chromium}
if [[ ! -x $chromium ]]; then
	echo "There is no browser at $chromium. On Debian run:" >&2
	echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends chromium fonts-dejavu-core" >&2
	echo "or name another Chromium with TALLY_TEST_CHROMIUM." >&2
	exit 1
fi
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
	echo "Node is missing. On Debian run:" >&2
	echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends nodejs npm" >&2
	exit 1
fi
if [[ ! -x ../../bin/tally ]]; then
	echo "bin/tally is missing: run make build" >&2
	exit 1
fi
sum=$(sha256sum package-lock.json)
if [[ ! -e node_modules/.sum || $(<node_modules/.sum) != "$sum" ]]; then
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	printf '%s' "$sum" >node_modules/.sum
fi
TALLY_TEST_CHROMIUM=$chromium exec node main.mjs
