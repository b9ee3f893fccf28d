# Every check that CI runs is a target here, and CI runs nothing else.
# `make help` lists them.
SHELL := bash
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

GOLANGCI_LINT_VERSION := v2.15.0
BIN := .bin
FUZZTIME ?= 30s
FUZZPKGS ?= ./...
# What a breaking change is measured against.
AGAINST ?= .git\#branch=main

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: ci
ci: checkgenerate lint build test fuzz-edge model walkthrough ## All that CI runs

.PHONY: build
build: ## Build the three binaries into .bin
	go build -trimpath -ldflags='-s -w' -o $(BIN)/ ./cmd/fife ./cmd/fife-controlplane ./cmd/fife-agent

# The race detector of Go 1.26 now and then crashes by itself, in the timers of synctest's
# bubbles: see controlplane/bubbletest. Where that is all that went wrong, what it has
# interrupted is run once more; a test that has failed is not.
.PHONY: test
test: ## Run all tests with the race detector
	@set -o pipefail; out=$$(mktemp) && trap 'rm -f "$$out"' EXIT; echo 'go test -race ./...'; \
		go test -race ./... 2>&1 | tee "$$out" || { \
		{ grep -q '^ThreadSanitizer: CHECK failed' "$$out" || \
			grep -q '^SIGSEGV: segmentation violation' "$$out" && grep -q '^runtime\.(\*timer)\.' "$$out"; } && \
		! grep -q -e '--- FAIL' -e 'DATA RACE' "$$out" && \
		echo 'the race detector has crashed: once more' && go test -race ./...; }

.PHONY: model
model: ## Check the model of leases and promotions, and that each rule is needed (spin)
	./model/check

.PHONY: walkthrough
walkthrough: ## Play the whole story on a cluster and an agent in one process
	go run ./cmd/fife dev --walkthrough

.PHONY: generate
generate: ## Generate gen/ from proto/
	go tool buf generate

.PHONY: checkgenerate
checkgenerate: ## Check proto/ and that gen/ and go.mod are what they generate
	go tool buf lint
	go tool buf format --diff --exit-code
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
		go tool buf generate --output "$$tmp" && \
		diff -r gen "$$tmp/gen" || { echo "gen/ is out of date: run make generate" >&2; exit 1; }
	go mod tidy -diff

.PHONY: breaking
breaking: ## Check proto/ for changes that break clients or stored data
	go tool buf breaking --against '$(AGAINST)'

.PHONY: lint
lint: $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION) ## Run the linters, the import graph among them
	$< run ./...

$(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION):
	GOBIN=$(abspath $(BIN)) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(BIN)/golangci-lint $@

.PHONY: fmt
fmt: ## Format Go and proto files
	gofmt -w agent cmd controlplane
	go tool buf format -w

.PHONY: fuzz
fuzz: ## Run every fuzz target of FUZZPKGS for FUZZTIME each
	@set -e; for pkg in $$(go list $(FUZZPKGS)); do \
		for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; done

# A count and not a time: where the time runs out, go test may call the target failed
# (go.dev/issue/75804).
.PHONY: fuzz-edge
fuzz-edge: ## Fuzz all that reads bytes of strangers at an agent, for minutes
	@$(MAKE) fuzz FUZZPKGS='./agent/http1 ./agent/proxy' FUZZTIME=300000x

.PHONY: bench
bench: ## Benchmarks of the decision, beside ServeMux and httprouter
	go test -run '^$$' -bench . -benchmem ./agent/route ./agent/proxy

.PHONY: half-open
half-open: ## Call a node while 20,000 handshakes are half open on its ports
	go test ./controlplane -run '^TestHalfOpen$$' -count 1 -v -half-open 20000

# Longer suites. They are bounded, and say by name what they skip and why.
HISTORIES ?= 10

.PHONY: aws
aws: ## Play a canary release with the AWS CLI and boto3, where they are installed
	go test ./cmd -count=1 -v -timeout 10m -run '^TestAWS$$'

.PHONY: chaos
chaos: ## Break real processes, networks and disks (root for most)
	go test ./cmd/chaos -count=1 -v -timeout 60m -chaos.faults -chaos.histories=$(HISTORIES)

HOURS ?= 2000

.PHONY: sim
sim: ## Simulate clusters under faults for HOURS hours of their time
	go test ./controlplane -run '^TestSimulation$$' -count=1 -v -timeout 120m -sim.hours=$(HOURS)

PROMOTIONS ?= 30
AGENTS ?= 20

.PHONY: instep
instep: ## Promote in step on real processes while agents and nodes fail (root)
	go test ./cmd/chaos -count=1 -v -timeout 30m -run 'TestInStep$$' -chaos.promotions=$(PROMOTIONS) -chaos.agents=$(AGENTS)

.PHONY: bench-commit
bench-commit: ## Measure commits beside etcd, in multiples of fdatasync
	go test ./cmd/bench -count=1 -v -timeout 30m -skip FanOut -bench.run

.PHONY: bench-fanout
bench-fanout: ## Measure how changes reach 10,000 agents, beside etcd, go-control-plane and bare TCP
	taskset --cpu-list 1 go test ./cmd/bench -count=1 -v -timeout 30m -run FanOut -bench.run -bench.pin 0

.PHONY: diff-edge
diff-edge: ## Play the raw cases against nginx and HAProxy; UPDATE=1 writes docs/edge.md
	go test ./cmd/edge -count=1 -v -timeout 30m -run 'TestDifferences' -edge.differences -edge.update=$(if $(UPDATE),true,false)

PEERS := $(abspath $(BIN))/peers
ROUNDS ?= 5
PHASE ?= 4s

.PHONY: bench-edge
bench-edge: $(PEERS)/caddy ## Measure the agent beside nginx, HAProxy, Caddy and Traefik
	go test ./cmd/edge -count=1 -v -timeout 60m -run 'TestBench' -edge.bench -edge.rounds=$(ROUNDS) -edge.phase=$(PHASE) -edge.peers=$(PEERS)

CADDY_VERSION := v2.11.9

$(PEERS)/caddy:
	GOBIN=$(PEERS) go install github.com/caddyserver/caddy/v2/cmd/caddy@$(CADDY_VERSION)

.PHONY: spec-edge
spec-edge: ## Compare the agent's HTTP/2 with Go's own server
	go test ./cmd/edge -count=1 -v -timeout 10m -run 'TestH2spec' -edge.h2spec

SOAK ?= 2m
SLOW ?= 10000

.PHONY: soak
soak: ## Hold slow clients, config swaps, WebSockets, uploads and restarts for SOAK each
	go test ./cmd/edge -count=1 -v -timeout 12h -run 'TestSlowClients|TestSoak|TestRestart' -edge.soak=$(SOAK) -edge.slow=$(SLOW)

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN)
