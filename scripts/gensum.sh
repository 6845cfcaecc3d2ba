#!/usr/bin/env bash
# Prints the sums of all generated files and of what they are made from, and the generator's version.
# scripts/gen.sum holds what they were when "make gen" last ran; comparing the two needs no generator.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
grep -ho 'github.com/a-h/templ v[^ ]*' go.mod tools/go.mod
git ls-files -z --cached --others --exclude-standard -- '*.templ' '*_templ.go' api | sort -zu |
	while IFS= read -r -d '' file; do
		[[ -e $file ]] && sha256sum -- "$file"
	done
