# Each target makes an environment of its own from a bare Python 3.11 or newer, so that neither leans on the other.
PYTHON ?= python3

.PHONY: demo test test-slow lint benchmark clean

demo: .venv/demo/installed  ## made-up history -> calibrate -> check -> run -> report
	.venv/demo/bin/routesim demo --out demo

test: .venv/test/installed .venv/fakesnow/installed lint  ## lint, types and all tests but the slow ones
	.venv/test/bin/python -m pytest -m "not slow" -n auto

test-slow: .venv/test/installed  ## the checks that take minutes
	.venv/test/bin/python -m pytest -m slow -n auto

lint: .venv/test/installed
	.venv/test/bin/ruff check .
	.venv/test/bin/mypy

benchmark: .venv/test/installed  ## the engine's speed, as a ratio to a plain SimPy model in the same run
	.venv/test/bin/python -m tests.benchmark

.venv/demo/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv/demo
	.venv/demo/bin/pip install --quiet --disable-pip-version-check .
	touch $@

# Strict editable mode lets the type checker follow the folders under their imported names; a file that is added
# later is seen after the next install.
.venv/test/installed: pyproject.toml $(wildcard */*.py) $(wildcard */*/*.py) $(wildcard */*/*/*.py)
	test -x .venv/test/bin/python || $(PYTHON) -m venv .venv/test
	.venv/test/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]' --config-settings editable_mode=strict
	touch $@

# A server that speaks Snowflake's wire protocol, for tests; apart, since it pins versions of DuckDB and sqlglot.
.venv/fakesnow/installed:
	$(PYTHON) -m venv --clear .venv/fakesnow
	.venv/fakesnow/bin/pip install --quiet --disable-pip-version-check \
		'fakesnow[server]>=0.12,<0.13' 'snowflake-connector-python>=4.8,<5'
	touch $@

clean:
	rm -rf .venv build demo runs *.egg-info
