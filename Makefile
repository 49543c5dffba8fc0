# The habits of this repository. `make help` lists them.
# Everything runs in .venv, made here from the pinned and hashed requirements-dev.lock.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
ARGS   ?=

export PIP_NO_INPUT := 1

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all check test fix deep bench demo npm real coverage docs lock clean help

all: check test

## demo: the whole story offline: a cut stream, a kill -9, and nothing lost
demo: $(READY)
	@$(BIN)/backstay demo

## check: format, lint, types and layers; changes nothing
check: $(READY)
	@$(BIN)/ruff format --quiet --check . || { echo "format: run 'make fix'" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@layers=$$($(BIN)/lint-imports --no-logo) || { echo "$$layers" >&2; exit 1; }

## test: the whole suite (ARGS="-k name" narrows it)
test: $(READY)
	@$(BIN)/python -m pytest -q $(ARGS)

## fix: format, and repair what the linter can repair
fix: $(READY)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

## deep: more examples, more schedules, the slow tests too (BACKSTAY_DEEP=SECONDS simulates so long)
deep: $(READY)
	@BACKSTAY_DEEP=$${BACKSTAY_DEEP:-1} $(BIN)/python -m pytest -q -m "not npm and not real" --timeout=1800 $(ARGS)

## npm: the tests that need node and packages from npm
npm: $(READY)
	@$(BIN)/python -m pytest -q -m npm --timeout=300 $(ARGS)

## real: the agent on a real small model; docs/local-models.md says what it needs
real: $(READY)
	@$(BIN)/python -m pytest -q -m real $(ARGS)

## bench: start-up and throughput, measured here
bench: $(READY)
	@if [ -e benchmarks/__main__.py ]; then $(BIN)/python -m benchmarks $(ARGS); \
	else echo "bench: nothing to measure yet"; fi

## coverage: the suite with branch coverage, subprocesses included
coverage: $(READY)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

## docs: draw what is made from code: parts of ARCHITECTURE.md and docs/guarantees.md, docs/api.md, the man page
docs: $(READY)
	@$(BIN)/python -m tests.core.draw
	@$(BIN)/python -m tests.sim.draw
	@$(BIN)/python -m tests.api
	@$(BIN)/python -m tests.man

## lock: renew requirements-dev.lock from pyproject.toml (needs uv)
lock:
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make lock' --group dev --output-file requirements-dev.lock pyproject.toml

## clean: remove the environment and every cache
clean:
	@rm -rf $(VENV) .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@sed -n 's/^## //p' Makefile

$(READY): $(VENV)/.locked pyproject.toml src/backstay/__init__.py
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.locked: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "backstay needs Python 3.11 or newer; '$(PYTHON)' is not: try make PYTHON=python3.12" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --only-binary :all: --require-hashes -r requirements-dev.lock
	@touch $@
