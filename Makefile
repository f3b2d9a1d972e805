# make run     serve config.toml: the sample app on two instances, http://127.0.0.1:8080
# make test    lint, types, tests
# make bench   Triage beside its peers
# make chaos   everything that can be killed or filled up is, under load
# make lab     apps that are sick on purpose, and whether Triage says what is wrong with them
# make fuzz-api  the admin API is asked all that its OpenAPI document allows, and what it does not: minutes
# make docs    the documents that are made from the code
# make clean   take away what the others made
#
# Needs Python 3.11 or later with venv. PYTHON=python3.12 chooses one.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
NEW_ENOUGH := import sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
# Whole files go to the processes, those that take longest first: tests/conftest.py has the order.
PYTEST_ARGS ?= -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: run test lint types collected bench chaos lab fuzz-api sample docs clean
.DELETE_ON_ERROR:

# The venv stands first in PATH, so that `python` in config.toml is the one that has the sample app's needs.
run: $(VENV)/.run
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/triage serve -c config.toml

# Each of some hundred gateways that the tests start is four interpreters or more, each session another: with bytecode
# at hand they start with two thirds of the work. So it is written here whatever the environment says.
test: export PYTHONDONTWRITEBYTECODE :=
test: lint
	@$(BIN)/python -m compileall -q proxy
	@$(MAKE) --no-print-directory --jobs=2 types collected
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check proxy tests examples $(wildcard loadtests)

types: $(VENV)/.dev
	$(BIN)/mypy --strict proxy

# Beside the types, and once: each of the processes that run the tests would do the same work at the same time.
collected: $(VENV)/.dev
	@found=$$($(BIN)/python -m pytest --collect-only -qq 2>&1) || { echo "$$found" | tail -n 60; exit 1; }

bench: $(VENV)/.dev
	$(BIN)/python -m loadtests.bench $(BENCH_ARGS)

chaos: $(VENV)/.dev
	$(BIN)/python -m loadtests.chaos $(CHAOS_ARGS)

# docs/sample-report.html, from a real session of an app that is sick on purpose.
sample: $(VENV)/.dev
	$(BIN)/python -m tests.report.sample

lab: $(VENV)/.dev
	$(BIN)/python -m tests.sick --page docs/diagnosis.md $(LAB_ARGS)

# FUZZ_ARGS="--include-path /api/v1/logs" for one path. `make test` has a short run of it.
fuzz-api: $(VENV)/.dev
	$(BIN)/python -m tests.api.fuzz --deep $(FUZZ_ARGS)

docs: $(VENV)/.run
	$(BIN)/python -m proxy.config.docs > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md
	$(BIN)/python -m proxy.faults > docs/faults.md.new
	mv docs/faults.md.new docs/faults.md
	$(BIN)/python -m proxy.control.autoheal.docs > docs/mending.md.new
	mv docs/mending.md.new docs/mending.md
	$(BIN)/python -m proxy.control.metrics.docs > docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md
	$(BIN)/python -m proxy.control.incidents.docs > docs/observing.md.new
	mv docs/observing.md.new docs/observing.md
	$(BIN)/python -m proxy.diagnostics.docs > docs/diagnosis.md.new
	mv docs/diagnosis.md.new docs/diagnosis.md
	$(BIN)/python -m proxy.admin.docs > docs/api.md.new
	mv docs/api.md.new docs/api.md
	$(BIN)/python -m proxy.cli.docs > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md

# Also clears var/, where config.toml keeps its state: logs, the admin token.
clean:
	rm -rf $(VENV) var dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find proxy tests examples $(wildcard loadtests) -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each step: what was done is not done again until pyproject.toml changes.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Triage needs Python 3.11 or later with venv: install it, or say PYTHON=…" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@touch $@

$(VENV)/.run: pyproject.toml $(VENV)/.made
	@echo "installing Triage into $(VENV); this is needed once"
	@$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "installing Triage and what its tests need into $(VENV); this is needed once"
	@$(PIP) install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.run
