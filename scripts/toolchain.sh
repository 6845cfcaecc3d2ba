#!/usr/bin/env bash
# Says plainly when Go is missing or too old, before a build fails with something harder to read.
set -euo pipefail
cd "$(dirname "$0")/.."
need=26
if ! command -v go >/dev/null; then
	echo "Go is not installed. Tallystick needs Go 1.$need or newer: https://go.dev/dl/" >&2
	exit 1
fi
if ! version=$(go env GOVERSION 2>/dev/null); then
	version=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
fi
minor=${version#go1.}
minor=${minor%%[!0-9]*}
if [[ $version == go1.* && ${minor:-0} -lt $need ]]; then
	echo "Go is $version. Tallystick needs Go 1.$need or newer: https://go.dev/dl/" >&2
	exit 1
fi
