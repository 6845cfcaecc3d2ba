#!/usr/bin/env bash
# Installs the Debian packages that the tests need and that are missing; only as root, elsewhere it says what to run.
# What counts is the thing itself, not the package: node may come from elsewhere.
set -euo pipefail

missing=()
if [[ -n ${TALLY_TEST_CHROMIUM:-} ]]; then
	if [[ ! -x $TALLY_TEST_CHROMIUM ]]; then
		echo "TALLY_TEST_CHROMIUM=$TALLY_TEST_CHROMIUM is not an executable file" >&2
		exit 1
	fi
else
	[[ -x /usr/bin/chromium ]] || missing+=(chromium)
fi
[[ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ]] || missing+=(fonts-dejavu-core)
command -v pdftotext >/dev/null || missing+=(poppler-utils)
[[ -n ${CC:-} ]] || command -v gcc >/dev/null || missing+=(gcc)
[[ -e /usr/include/stdlib.h ]] || missing+=(libc6-dev)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[[ -n ${TALLY_TEST_PG_BIN:-} ]] || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v systemd-analyze >/dev/null || missing+=(systemd) # checks the units of deploy/
command -v java >/dev/null || missing+=(default-jre-headless) # Apache Kafka
command -v mvn >/dev/null || missing+=(maven)
((${#missing[@]})) || exit 0

install=(apt-get install -y --no-install-recommends "${missing[@]}")
if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
	echo "The tests need what is missing here: ${missing[*]}. On Debian run:" >&2
	echo "  sudo apt-get update && sudo ${install[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
"${install[@]}"
