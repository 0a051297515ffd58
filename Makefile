# NetSpectra. Everything is kept in .venv; `make` alone lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check format bench soak bpf lock clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST_ARGS ?=
# Tests wait more than they compute, so three keep two cores busy. Each may take 4 GB, with a Kafka
# broker and jobs of its own.
WORKERS ?= $(shell awk '/^MemAvailable/ { print ($$2 > 12e6 ? 3 : 2) }' /proc/meminfo)
CLANG ?= clang
# clang doesn't look where Debian keeps asm/types.h when it compiles for BPF.
BPF_CC = $(CLANG) -target bpf -mcpu=v3 -g -O2 -idirafter /usr/include/$(shell uname -m)-linux-gnu

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(STAMP)  ## Run the main job on built-in traffic and print what it found
	NETSPECTRA_SOURCE=demo $(BIN)/python -m bytewax.run flows.main

test: $(STAMP)  ## Run the tests (PYTEST_ARGS="-k settings" for some of them)
	$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: $(STAMP)  ## Lint, format, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Measure speed, as ratios against named baselines (BENCH_ARGS=--quick)
	$(BIN)/netspectra bench engine $(BENCH_ARGS)

soak: $(STAMP)  ## Run the tests that take hours
	$(BIN)/python -m pytest -m soak --timeout=0 $(PYTEST_ARGS)

bpf:  ## Compile the capture programs, where clang and libbpf's headers are
	@if ! command -v $(CLANG) >/dev/null; then \
		echo "bpf: no $(CLANG), so no eBPF capture by libbpf (Debian: apt install clang libbpf-dev)"; \
	elif ! echo '#include <bpf/bpf_helpers.h>' | $(BPF_CC) -include linux/bpf.h -fsyntax-only -x c - 2>/dev/null; then \
		echo "bpf: $(CLANG) can't find libbpf's headers or compile for BPF (Debian: apt install clang libbpf-dev)"; \
	else $(MAKE) --no-print-directory bpf/build/capture.bpf.o; fi

bpf/build/capture.bpf.o: $(wildcard bpf/*.c bpf/*.h)
	@mkdir -p $(@D)
	$(BPF_CC) -Wall -Wextra -c bpf/capture.bpf.c -o $@.$$$$ && mv $@.$$$$ $@

lock:  ## Resolve pyproject.toml anew and write requirements.lock
	@python=$$($(FIND_PYTHON)) && dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	"$$python" -m venv "$$dir" && \
	"$$dir/bin/python" -m pip --disable-pip-version-check --quiet install -e '.[dev]' && \
	{ grep '^#' requirements.lock; "$$dir/bin/python" -m pip freeze --exclude-editable; } > "$$dir/lock" && \
	cp "$$dir/lock" requirements.lock

clean:  ## Remove the environment, caches and the demo's store
	rm -rf $(VENV) dist bpf/build netspectra-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The first Python that is 3.11 or 3.12 and can make environments; PYTHON=... chooses another.
define FIND_PYTHON
for python in $(or $(PYTHON),python3.12 python3.11 python3); do \
	if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; \
	then echo "$$python"; exit 0; fi; done; \
echo "NetSpectra needs Python 3.11 or 3.12 with the venv module (Debian: python3-venv); looked for $(or $(PYTHON),python3.12 python3.11 python3)" >&2; \
exit 1
endef

$(STAMP): requirements.lock pyproject.toml
	@python=$$($(FIND_PYTHON)) || exit 1; \
	if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
		echo "making $(VENV) with $$python"; rm -rf $(VENV); "$$python" -m venv $(VENV); fi
	@echo "installing what requirements.lock lists (about a minute, 1.7 GB)"
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	-@$(MAKE) --no-print-directory bpf
	@touch $@
