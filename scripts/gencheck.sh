#!/usr/bin/env bash
# Fails when a generated file, its source or the generator changed since "make gen".
set -euo pipefail
cd "$(dirname "$0")/.."
if ! diff <(scripts/gensum.sh) scripts/gen.sum; then
	echo "generated files and their sources are out of step (< now, > at the last make gen): run make gen and commit" >&2
	exit 1
fi
