#!/usr/bin/env bash
# The doors against the real programs: the tours of examples/, then checks of their own (test/doors/NAME/run.sh). One line
# each: PASS, FAIL, or NOT RUN with the reason. A folder that has a run.sh takes part. Exit code 3: nothing failed, not all could run.
set -uo pipefail
cd "$(dirname "$0")/../.."
scripts/doors.sh
failed=0 without=0
run() { # NAME COMMAND...
	local name=$1 log code start=$SECONDS
	shift
	log=$(mktemp)
	timeout 60 "$@" >"$log" 2>&1
	code=$?
	case $code in
	0) echo "PASS     $name ($((SECONDS - start)) s)" ;;
	3)
		without=3
		echo "NOT RUN  $name: $(sed -n 's/^NOT RUN: //p' "$log" | head -n 1)"
		;;
	*)
		failed=1
		echo "FAIL     $name (exit $code)"
		sed 's/^/         /' "$log"
		;;
	esac
	rm -f "$log"
}
for d in test/doors/*/; do
	name=$(basename "$d")
	[[ -x examples/$name/run.sh ]] && run "examples/$name" "examples/$name/run.sh"
	[[ -x $d/run.sh ]] && run "test/doors/$name" "$d/run.sh"
done
exit $((failed ? failed : without))
