# Every target works from a fresh clone. Reads no TALLY_* variable itself; tests read those of CONTRIBUTING.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TOOL := go tool -modfile=tools/go.mod
# Arguments for the demo and the soak: make demo ARGS="--dir /tmp/demo"
ARGS :=
ROUNDS := 50
NODES := 20
CHAOS := 20
SIM := 10m

.PHONY: chaos build demo cluster cluster-clean test check test-kafka bench bench-journal bench-journal-postgresql bench-quota bench-nodes bench-billing gen deps lint fmt soak vuln clean toolchain

build: toolchain ## bin/tally
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/tally ./cmd/tally

demo: build ## server, gateway and a demo upstream
	./bin/tally demo $(ARGS)

cluster: build ## the demo as PostgreSQL, 2 servers, 3 gateways, in ./tally-data/cluster; ARGS=--fresh starts anew
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/tally-cluster ./test/cluster
	./bin/tally-cluster $(ARGS)

cluster-clean: ## delete the data of make cluster
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o bin/tally-cluster ./test/cluster
	./bin/tally-cluster --clean $(ARGS)

test: toolchain deps build ## unit tests, deploy/, the doors, then the browser test
	go test ./...
	@TALLY_TEST_BINARY="$(CURDIR)/bin/tally" test/deploy/run.sh
	@test/doors/run.sh || [ $$? -eq 3 ] # what could not run was named
	@if [ -x test/browser/run.sh ]; then test/browser/run.sh; fi

test-kafka: toolchain ## the journal on a real Apache Kafka (java 17; the first run fetches it with mvn)
	@test/kafka/run.sh -v

check: toolchain deps build ## all that must be green before a merge
	@scripts/check.sh

bench: toolchain build ## micro benchmarks, then the gateway against a bare reverse proxy
	go test -run '^$$' -bench . -benchmem ./internal/core/quota/...
	@if [ -x bench/run.sh ]; then bench/run.sh; fi

bench-journal: toolchain build ## the journal against its floor and SQLite; ARGS="-grow 20000000" adds growth, disk, restart, queries
	CGO_ENABLED=0 go build -trimpath -o bin/bench-journal ./bench/journal
	bin/bench-journal $(ARGS)

bench-journal-postgresql: ## the journal in PostgreSQL beside COPY into a bare table, fsync on
	go test -run '^$$' -bench Append -benchtime 5s ./internal/store/postgres/journal

bench-quota: toolchain build ## decisions in process, over gRPC and over HTTP beside their floors; ARGS="-rounds 3 -only rls"
	CGO_ENABLED=0 go build -trimpath -o bin/bench-quota ./bench/quota
	bin/bench-quota $(ARGS)

bench-nodes: toolchain deps build ## 1, 2 and 4 gateways over PostgreSQL, round trips, leases, the journal beside COPY; ARGS="-only gateways -keys 10000 -rounds 3 -seconds 3"
	CGO_ENABLED=0 go build -trimpath -o bin/bench-nodes ./bench/nodes
	bin/bench-nodes $(ARGS)

bench-billing: toolchain build ## calc, a run of billing beside its floor, previews; ARGS="-only preview -events 10000000"
	CGO_ENABLED=0 go build -trimpath -o bin/bench-billing ./bench/billing
	bin/bench-billing $(ARGS)

gen: toolchain ## rebuild generated code; fails while it differs from what is committed
	@scripts/gen.sh

deps: ## Debian packages that the tests need
	@scripts/deps.sh
	@scripts/doors.sh

lint: toolchain
	@scripts/modules.sh go tool -modfile=$(CURDIR)/tools/go.mod golangci-lint run --config $(CURDIR)/.golangci.yml ./...

fmt: toolchain
	$(TOOL) golangci-lint fmt ./...

soak: toolchain build ## many kill -9 rounds, gateways and servers under faults, broken ones to be found, simulated worlds, 10,000 subscription histories: make soak ROUNDS=500 NODES=100 CHAOS=50 SIM=1h
	test/faults/run.sh $(ROUNDS)
	test/nodes/run.sh $(NODES)
	test/nodes/run.sh --prove 5
	test/chaos/run.sh $(CHAOS)
	test/chaos/run.sh --prove 5
	code=0; bin/tally sim --seed $$(date +%s) --for $(SIM) & bin/tally sim --seed $$(date +%s) --rates --for $(SIM) || code=1; wait $$! || code=1; exit $$code
	for seed in $$(seq 20); do go test -timeout 30m ./internal/app/bill/oracle -histories 500 -seed $$seed; done

chaos: toolchain deps ## 3 servers, 3 gateways, PostgreSQL with a standby under faults: make chaos CHAOS=2 ARGS=SEED
	test/chaos/run.sh $(CHAOS) $(ARGS)

vuln: toolchain ## needs the network
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

clean:
	rm -rf bin

toolchain:
	@scripts/toolchain.sh
