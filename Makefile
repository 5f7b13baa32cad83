# Needs Python 3.11 or newer and make: everything else goes into .venv.
#   make run      the gateway with its built-in simulation, on port 8000
#   make test     formatter, linter, types and the whole test suite
#   make format   put the sources into the form that make test asks for
#   make clean    remove what these made

PYTHON ?= python3
PORT ?= 8000
# Most tests wait for something most of the time: as many processes as there are cores.
PYTEST_ARGS ?= --numprocesses auto --dist worksteal

VENV := .venv
BIN := $(VENV)/bin
JS := tests/js
# Where npm is missing, the tests that need it skip and say so.
NPM := $(shell command -v npm 2>/dev/null)

.DELETE_ON_ERROR:
.PHONY: run test check js format clean

run: $(VENV)/run.stamp
	$(BIN)/tick-gateway demo --port $(PORT)

test: check $(if $(NPM),js)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict

js: $(JS)/node_modules/.stamp $(JS)/nodes/node_modules/.stamp

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(JS)/node_modules $(JS)/nodes/node_modules build dist tick_gateway.egg-info .mypy_cache .pytest_cache .ruff_cache

# The stamps stand for an installation that was finished, so that a second make installs nothing. The package is
# installed in place: a change of the code needs no new installation, a change of setup.cfg does.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("tick-gateway needs Python 3.11 or newer: try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/test.stamp: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/run.stamp

%/node_modules/.stamp: %/package.json %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@
