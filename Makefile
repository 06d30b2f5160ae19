# The commands of the project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO := $(shell command -v cargo || echo cargo)
PROFILE ?= dev
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
LAB ?= containerlab/two-rack.clab.yml
# Namespaces, BPF and netlink need root; everything that is built belongs to the caller.
SUDO := $(shell [ "$$(id -u)" -eq 0 ] || echo sudo -E env "PATH=$$PATH")

.PHONY: help setup setup-build build lab lab-up lab-verify lab-scenarios lab-down test check fmt clippy deny doc bench bench-bgp fuzz

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: ## Install whatever is missing to build, run and test (Debian 12 is the reference; needs root or sudo)
	@scripts/setup.sh all

setup-build:
	@scripts/setup.sh build

build: setup-build ## Build every binary
	cargo build --workspace --bins

lab: build ## Bring up two racks, four hosts and real routers; apply policies; verify every session, route and verdict
	@[ -z "$(SUDO)" ] || echo "the lab needs root for namespaces and BPF: going through sudo"
	$(SUDO) $(BIN)/lab up $(LAB)
	$(SUDO) $(BIN)/lab verify $(LAB)

lab-verify: ## Verify the lab that is up
	$(SUDO) $(BIN)/lab verify $(LAB)

lab-scenarios: ## Kill and restart agents under traffic, lose a ToR in three ways, change policy; verify after each
	$(SUDO) $(BIN)/lab verify $(LAB) --scenario all

lab-down: ## Remove every process and namespace of the lab
	$(SUDO) $(BIN)/lab down $(LAB)

test: setup-build ## Run every test (needs root: network namespaces, BPF, real routers and stores)
	cargo build --workspace --bins
	$(SUDO) $$(command -v cargo) test --workspace --no-fail-fast

check: setup fmt clippy deny doc ## Formatting, lints, dependencies and docs

fmt:
	cargo fmt --all --check
	cd ebpf && cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets -- -D warnings

deny:
	cargo deny check bans licenses sources

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

bench: setup-build ## Run the benchmarks
	cargo bench --workspace

bench-bgp: setup-build ## Compare BGP speakers on the same feeds (needs root; ARGS="--case two-feeds --runs 1", ARGS=--help)
	$(SUDO) $$(command -v cargo) bench -p bgpd --bench speakers -- $(ARGS)

fuzz: ## Fuzz the parsers, FUZZ_SECONDS each (default 60); KEEP=keep adds to the corpus in fuzz/seeds
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),60) $(KEEP)
