# Commands for users and developers: `make run` serves, `make test` checks a change.

VENV := .venv
PY := $(VENV)/bin/python
# The environment is created with the first of these that is new enough; `make setup PYTHONS=…` selects another.
PYTHONS := python3 python3.13 python3.12 python3.11 python3.14

LOCK := $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock'

# Tests mostly wait for servers: three processes take half the time of one, even on two cores.
PROCESSES := 3
PYTEST = $(PY) -m pytest -q -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: help setup setup-tests lock run test test-stores torture lint format clean

help:
	@echo 'make setup    install what serves into $(VENV); make setup-tests also what tests'
	@echo 'make run      serve on port 3000; MADANG_SERVER__PORT=3001 make run takes another port'
	@echo 'make test     format, lint and type checks, then all tests: about a quarter of an hour'
	@echo 'make test-stores MONGODB=mongodb://… REDIS=redis://…  all tests and a torture run on these servers'
	@echo 'make torture  inject faults under load and check that nothing is lost: MINUTES=5 ONLY=kill-server=3,crash'
	@echo 'make lint     those checks alone; make format puts the format right'
	@echo 'make lock     write the requirements anew from pyproject.toml, with hashes'
	@echo 'make clean    remove $(VENV) and caches; data/ is kept'

# Installs again only if the requirements changed or the environment does not run any more.
# requirements.txt is for serving, tests/requirements.txt for tests in addition; pip refuses packages with another hash.
setup: NEEDED := requirements.txt
setup-tests: NEEDED := requirements.txt tests/requirements.txt
setup setup-tests:
	@if $(PY) -c '' 2>/dev/null && cat $(NEEDED) | cmp -s - $(VENV)/$@.txt; then exit 0; fi; \
	set -e; \
	if ! $(PY) -c '' 2>/dev/null; then \
		rm -rf $(VENV); \
		for python in $(PYTHONS) none; do \
			if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
		done; \
		if [ $$python = none ]; then echo 'Python 3.11 or newer is needed: https://www.python.org' >&2; exit 1; fi; \
		if ! $$python -m venv $(VENV); then \
			rm -rf $(VENV); \
			echo "$$python cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
		fi; \
	fi; \
	echo 'installing what Madang needs into $(VENV), which takes about a minute'; \
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes $(NEEDED:%=--requirement %); \
	cat $(NEEDED) > $(VENV)/$@.txt

# Writes the requirements from pyproject.toml. Pinned versions and hashes stay unless they no longer fit.
lock: setup-tests
	$(PY) -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install --quiet uv
	$(LOCK) --group server --output-file requirements.txt
	$(LOCK) --group tests --constraint requirements.txt --output-file tests/requirements.txt

run: setup
	@exec $(PY) main.py

lint: setup-tests
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: setup-tests
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

test: lint
	$(PYTEST)

# On your own MongoDB and Redis. Each test server gets its own database and keys there, which are removed afterwards.
test-stores: setup-tests
	@if [ -z '$(MONGODB)$(REDIS)' ]; then echo 'name at least one: MONGODB=mongodb://… REDIS=redis://…' >&2; exit 2; fi
	TEST_MONGODB='$(MONGODB)' TEST_REDIS='$(REDIS)' $(PYTEST)
	TEST_MONGODB='$(MONGODB)' TEST_REDIS='$(REDIS)' $(PY) -m tests.torture --only named --hits 10

# MINUTES=N sets the duration, HITS=N the number of times each fault is injected; ONLY, SEED and PLANTED narrow the run;
# SET=key=value sets one of the server's settings, e.g. SET=rooms.max_cached=10.
torture: setup-tests
	@exec $(PY) -m tests.torture $(if $(MINUTES),--minutes $(MINUTES)) $(if $(HITS),--hits $(HITS)) \
		$(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED)) $(if $(PLANTED),--planted $(PLANTED)) \
		$(if $(SET),--set $(SET))

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
