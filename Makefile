# make demo    cameras, a mirror port, a VMS and tapdeck listening to them; DEMO_SECONDS=N ends it
# make test    everything that is tested, with what it needs installed first
# make bench   tapdeck beside the reference tools; rows of Markdown on standard output
# make fuzz    the parsers, FUZZ_SECONDS each
# make lint    formatting, clippy, licences and advisories
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
DEMO_SECONDS ?= 0
FUZZ_SECONDS ?= 30
BENCH ?= all

.PHONY: build release demo test bench fuzz lint clean help

help:
	@sed -n '/^# make/s/^# //p' Makefile

build:
	@scripts/install build
	@eval "$$(scripts/rocksdb env)"; cargo build

release:
	@scripts/install build
	@eval "$$(scripts/rocksdb env)"; cargo build --release

demo:
	@DEMO_SECONDS=$(DEMO_SECONDS) scripts/demo

test:
	@scripts/install test
	@scripts/test

bench:
	@scripts/install bench
	@eval "$$(scripts/rocksdb env)"; cargo build --release --quiet -p tapdeck -p tapdeck-benches
	@"$$(scripts/target-dir)"/release/lab-bench $(BENCH)

fuzz:
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz

lint:
	@cargo fmt --all --check
	@eval "$$(scripts/rocksdb env)"; cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "lint: cargo-deny is not installed, licences and advisories not checked" >&2; fi

clean:
	@cargo clean
