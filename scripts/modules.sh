#!/usr/bin/env bash
# Runs a command in the folder of each module that has code, until one fails: modules.sh COMMAND... Exit code 1 for any failure: the
# linter has a 3 of its own, which in check.sh means another thing.
set -uo pipefail
cd "$(dirname "$0")/.."
for m in . test/chaos test/deploy; do
	if ! (cd "$m" && "$@"); then
		echo "in $m: failed: $*" >&2
		exit 1
	fi
done
