# make demo   see it run               make test    everything that must hold
# make lint   the checkers alone       make core    the C programs of the core, plain and under sanitizers
# make model  the Promela models       make bench   the figures
# make build  compile the binding      make wheel   dist/*.whl and dist/*.tar.gz
# make gate   instruction counts of the hot path against the baseline of tests/gate
# make others    unit, process and property tests on each other CPython from 3.11 on that the machine has
# make generated   write the vectors, segment.idl and the records of the stub anew from idl/FORMAT.md and the library
# make mutants   leave out each rule that is not in the C headers, and see a test fail (many minutes)
#
# All of it happens in .venv; a stamp there tells what is done, so a second run starts at once.
# `make test PYTHON=python3.13` chooses the interpreter of a new .venv, `make test PYTEST_ARGS="-k lease"` the tests.

MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST_ARGS ?=
# EXTRAS=dev,recipes installs what more examples need, which are skipped without it.
EXTRAS ?= dev
# One more than there are processors: the tests wait for processes and for the kernel.
JOBS ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 1) + 1)))
export PATH := $(CURDIR)/$(BIN):$(PATH)
# The tests start thousands of interpreters, and each would compile all modules of the package.
unexport PYTHONDONTWRITEBYTECODE

BINDING := $(wildcard zeroslot/_core/include/zeroslot/*.h zeroslot/_core/*.pyx zeroslot/_core/*.pxi) zeroslot/_core/build_backend.py

.DEFAULT_GOAL := help
.PHONY: help demo build test parts lint core model gate pytest others mutants bench wheel generated clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//; /^$$/q; p' Makefile

demo: $(VENV)/.cli
	@$(BIN)/zeroslot demo

# All parts run side by side; each one's output comes when it ends. The last line is the sum of all runs of pytest.
RESULTS := build/results

test: $(VENV)/.dev
	@rm -rf $(RESULTS)
	@$(MAKE) --jobs=$(JOBS) --output-sync=recurse parts
	@$(BIN)/python -m tests.results $(RESULTS)

parts: others pytest core gate model lint

build: $(VENV)/.dev

# --- the environment ---------------------------------------------------------------------------------------------------------

# What the build needs stands in pyproject.toml and is read from there. With it in .venv no build needs an isolated environment.
$(VENV)/.tools: pyproject.toml
	@python=$${PYTHON:-}; \
	if [ -z "$$python" ] && [ -x $(BIN)/python ]; then python=$(BIN)/python; fi; \
	for candidate in $${python:-python3 python3.14 python3.13 python3.12 python3.11}; do \
	    if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo "zeroslot needs CPython 3.11 or newer with its venv module (Debian, Ubuntu: python3-venv). None of these is one:" \
	        "$${python:-python3 python3.14 python3.13 python3.12 python3.11}. Name yours: make test PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	command -v "$${CC:-cc}" >/dev/null || command -v gcc >/dev/null || { \
	    echo "zeroslot compiles its core and needs a C compiler, such as gcc, with Python's headers." >&2; exit 1; }; \
	echo "environment: $$("$$found" --version) in $(VENV)"; \
	[ "$$found" = $(BIN)/python ] || "$$found" -m venv --clear $(VENV)
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $@.txt
	@$(PIP) install -r $@.txt && touch $@

$(VENV)/.cli: $(VENV)/.tools $(BINDING)
	@echo "build: the binding, and what the command line needs"
	@$(PIP) install --no-build-isolation -e '.[cli]' && touch $@

$(VENV)/.dev: $(VENV)/.tools $(BINDING)
	@echo "build: the binding, and what the tests need"
	@$(PIP) install --no-build-isolation -e '.[$(EXTRAS)]' && touch $@ $(VENV)/.cli

# --- the parts of `make test` ------------------------------------------------------------------------------------------------

# For the interpreters beside the one of .venv, which need no checkers.
$(VENV)/.test: $(VENV)/.tools $(BINDING)
	@echo "build: the binding in $(VENV), and what the tests need"
	@$(PIP) install --no-build-isolation -e '.[test]' && touch $@

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check --quiet . || { echo "$(BIN)/ruff format . puts these right"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/codespell
	@$(BIN)/cython-lint $(wildcard zeroslot/_core/*.pyx zeroslot/_core/*.pxi)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/python -m mypy.stubtest --concise zeroslot._core.binding --allowlist tests/typing/allowlist.txt

core:
	@$(MAKE) -C tests/core all

model:
	@$(MAKE) -C tests/core model

# The suite in the shares of tests/options.py. That PYTEST_ARGS leave a share without a test (status 5) is no failure.
run_pytest = sh tests/own_shm.sh $(1)/bin/python -m pytest -q --junitxml=$(RESULTS)/$(2).xml $(3) $(PYTEST_ARGS) || [ $$? -eq 5 ]

pytest: pytest-process pytest-fault pytest-rest

pytest-%: $(VENV)/.dev
	@echo "tests, share $*, on $$($(BIN)/python --version)"
	@$(call run_pytest,$(VENV),$*,--share=$*)

gate: $(VENV)/.dev
	@$(BIN)/python -m tests.gate

# Each in a .venv-<version>, without the tests that look at the sources alone or run tools of the repository.
others: $(VENV)/.dev
	@own=$$($(BIN)/python -c 'import sys; print("%d.%d%s" % (*sys.version_info[:2], getattr(sys, "abiflags", "")))'); \
	runs=$$(sh tests/interpreters.sh "$$own" | sed 's/ .*//; s/^/on-/'); \
	[ -z "$$runs" ] || $(MAKE) $(if $(findstring jobserver,$(MAKEFLAGS)),,--jobs=$(JOBS) --output-sync=recurse) $$runs

.PHONY: build-on
build-on: $(VENV)/.test

on-%:
	@python=$$(sh tests/interpreters.sh | sed -n 's/^$* //p') && $(MAKE) build-on VENV=.venv-$* PYTHON="$$python"
	@echo "tests on $$(.venv-$*/bin/python --version)"
	@$(call run_pytest,.venv-$*,$*,-m "not stress and not bench and not sources and not tools" tests/unit tests/process tests/property)

# --- more --------------------------------------------------------------------------------------------------------------------

# `make mutants ONLY="name name"` tries some. Those of the headers: `make -C tests/core mutants`.
mutants: $(VENV)/.dev
	@$(BIN)/python -m tests.mutants $(ONLY)

generated: $(VENV)/.dev
	@$(BIN)/python -m tests.compat.generated

# Never part of `make test`, and never failing: figures are read, not judged.
bench: $(VENV)/.cli
	@$(BIN)/zeroslot bench

wheel: $(VENV)/.dev
	@rm -rf build dist
	@$(BIN)/python -m build --no-isolation

clean:
	@rm -rf $(VENV) .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@rm -f zeroslot/_core/*.so
	@find zeroslot tests examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	@[ ! -f tests/core/Makefile ] || $(MAKE) -C tests/core clean
