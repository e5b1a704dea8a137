# What people type: `make run` to serve, `make test` before a change is proposed.

VENV := .venv
PY := $(VENV)/bin/python
# The first of these that is new enough makes the environment; `make setup PYTHONS=…` takes another.
PYTHONS := python3 python3.13 python3.12 python3.11 python3.14

LOCK := $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock'

# Most of a test is waiting for servers, so that three processes take half the time of one, on two cores too.
PROCESSES := 3
PYTEST = $(PY) -m pytest -q -n $(PROCESSES) --dist loadfile

.PHONY: help setup setup-tests lock run test test-stores torture lint format clean

help:
	@echo 'make setup    install what serves into $(VENV); make setup-tests also what tests'
	@echo 'make run      serve on port 3000; MADANG_SERVER__PORT=3001 make run takes another port'
	@echo 'make test     format, lint and type checks, then all tests: about a quarter of an hour'
	@echo 'make test-stores MONGODB=mongodb://… REDIS=redis://…  all tests and a torture run on these servers'
	@echo 'make torture  kill everything under a chatting town and judge what is left: MINUTES=5 ONLY=kill-server=3,crash'
	@echo 'make lint     those checks alone; make format puts the format right'
	@echo 'make lock     write the requirements anew from pyproject.toml, with hashes'
	@echo 'make clean    remove $(VENV) and caches; data/ is kept'

# Installs again only when what is asked for changed, whatever its date, or the environment does not run any more.
# What serves is requirements.txt, what tests beside it is tests/requirements.txt; pip refuses what has another hash.
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

# Writes the requirements from pyproject.toml: every version and hash that was there stays, unless it no longer fits.
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

# On servers of yours; every test server gets a database and keys of its own there, which are removed afterwards.
test-stores: setup-tests
	@if [ -z '$(MONGODB)$(REDIS)' ]; then echo 'name at least one: MONGODB=mongodb://… REDIS=redis://…' >&2; exit 2; fi
	TEST_MONGODB='$(MONGODB)' TEST_REDIS='$(REDIS)' $(PYTEST)
	TEST_MONGODB='$(MONGODB)' TEST_REDIS='$(REDIS)' $(PY) -m tests.torture --only named --hits 10

# MINUTES=N goes on for so long; HITS=N strikes so often with each fault; ONLY=names, SEED=n and PLANTED=bug narrow it;
# SET=key=value sets one of the server's settings, e.g. SET=rooms.max_cached=10.
torture: setup-tests
	@exec $(PY) -m tests.torture $(if $(MINUTES),--minutes $(MINUTES)) $(if $(HITS),--hits $(HITS)) \
		$(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED)) $(if $(PLANTED),--planted $(PLANTED)) \
		$(if $(SET),--set $(SET))

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
