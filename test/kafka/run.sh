#!/usr/bin/env bash
# The journal, servers on it and exports against a real Apache Kafka: one broker (KRaft) in a temporary folder, killed with them.
# The first run fetches the broker's jars from Maven Central into the user's cache, and leaves an archive of its classes there.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=3.9.1
lib=${TALLY_TEST_KAFKA_LIB:-${XDG_CACHE_HOME:-$HOME/.cache}/tallystick/kafka-$version}
if [[ ! -e $lib/complete ]]; then
	for need in java mvn; do
		command -v "$need" >/dev/null || { echo "test-kafka needs $need: apt-get install openjdk-17-jre-headless maven" >&2; exit 1; }
	done
	mkdir -p "$lib"
	mvn -q -B -ntp -f test/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$lib"
	touch "$lib/complete"
fi
export TALLY_TEST_KAFKA_LIB=$lib TALLY_TEST_KAFKA_CLASSES=$lib/classes.jsa
# The journal's model has its many histories in the unit tests.
exec go test -tags kafka -count=1 "$@" ./test/kafka -rapid.checks=20
