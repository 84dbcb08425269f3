# meterd. `make help` lists what there is; nothing here needs a step before it.
#
# One cargo profile (release) serves every target, so that RocksDB is compiled once, into a target directory outside
# the repository that clones share. Override: `make test CARGO_TARGET_DIR=target`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export CARGO_TARGET_DIR ?= $(or $(HOME),/var/tmp)/.cache/meterd
CARGO_FLAGS ?= --release --locked
METERD := $(CARGO_TARGET_DIR)/release/meterd

# make run
CONFIG ?= config/meterd.toml
# make bench: events and ids per scenario, batch size, connections, and a directory on the disk to measure
BENCH_EVENTS ?= 3000000
BENCH_PRELOAD ?= 10000000
BENCH_BATCH ?= 1000
BENCH_CONNECTIONS ?= 8
BENCH_CUSTOMERS ?= 10000
# checks: connections, checks a second beside ingest, seconds of each run
BENCH_CHECK_CONNECTIONS ?= 16
BENCH_CHECK_RATE ?= 2000
BENCH_CHECK_SECONDS ?= 15
BENCH_DIR ?=
BENCH_FLAGS ?=

.PHONY: help
help: ## list the targets
	@echo "make demo    build, count generated usage, kill -9 in the middle, compare the totals (under a minute)"
	@echo "make run     build and run the daemon:          make run CONFIG=$(CONFIG)"
	@echo "make test    every test; skipped ones are named, the runner's closing line comes last"
	@echo "make check   formatting, clippy, documentation, licences and advisories (when cargo-deny is installed)"
	@echo "make bench   load a daemon of its own and say what limits it:  make bench BENCH_EVENTS=$(BENCH_EVENTS) \\"
	@echo "             BENCH_PRELOAD=$(BENCH_PRELOAD) BENCH_BATCH=$(BENCH_BATCH) BENCH_CONNECTIONS=$(BENCH_CONNECTIONS) BENCH_CUSTOMERS=$(BENCH_CUSTOMERS) \\"
	@echo "             BENCH_CHECK_CONNECTIONS=$(BENCH_CHECK_CONNECTIONS) BENCH_CHECK_RATE=$(BENCH_CHECK_RATE) BENCH_CHECK_SECONDS=$(BENCH_CHECK_SECONDS) BENCH_DIR=/a/disk"
	@echo "make build   the release binary:                $(METERD)"
	@echo "make deps    install what the build lacks (apt-get; the other targets do it too) and say what"

.PHONY: deps
deps: ## install what the build lacks
	@.ci/deps

.PHONY: build
build: deps ## the release binary
	cargo build $(CARGO_FLAGS) --bin meterd

.PHONY: demo
demo: build ## kill -9 in the middle, totals equal
	@$(METERD) demo

.PHONY: run
run: build ## the daemon, with CONFIG
	@exec $(METERD) run --config $(CONFIG)

.PHONY: test
test: deps ## every test
	@CARGO_FLAGS="$(CARGO_FLAGS)" .ci/test

.PHONY: check
check: deps ## formatting, lints, docs, licences
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --no-deps --lib
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check; \
	else echo "cargo-deny is not installed: licences and advisories were not checked"; fi

.PHONY: bench
bench: build ## load a daemon of its own
	@$(METERD) bench --suite --events $(BENCH_EVENTS) --preload $(BENCH_PRELOAD) --batch $(BENCH_BATCH) \
	  --connections $(BENCH_CONNECTIONS) --customers $(BENCH_CUSTOMERS) \
	  --check-connections $(BENCH_CHECK_CONNECTIONS) --check-rate $(BENCH_CHECK_RATE) --check-seconds $(BENCH_CHECK_SECONDS) \
	  $(if $(BENCH_DIR),--dir $(BENCH_DIR)) $(BENCH_FLAGS)
