#!/usr/bin/env bash
# Rebuilds what is generated and notes the sums. Fails while the result differs from what is committed, so that running
# it on a clean tree proves that the committed files are the generator's.
set -euo pipefail
cd "$(dirname "$0")/.."
go tool -modfile=tools/go.mod templ generate -path internal -log-level warn
make --no-print-directory build
if bin/tally openapi --help >/dev/null 2>&1; then
	mkdir -p api
	bin/tally openapi >api/openapi.yaml.new
	mv api/openapi.yaml.new api/openapi.yaml
fi
scripts/gensum.sh >scripts/gen.sum
changed=$(git status --porcelain -- '*_templ.go' api scripts/gen.sum)
if [[ -n $changed ]]; then
	printf '%s\nThe files above are new or changed: commit them.\n' "$changed" >&2
	exit 1
fi
