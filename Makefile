# Two commands for everybody (`make demo`, `make test`), the rest for those who change the code.
# Each sets itself up: Debian 12 with python3 (3.11, venv, pip), git and make is enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:

.PHONY: demo test test-servers test-engines test-llamacpp sim-long check bench drill docs clean install native native-clean

$(VENV)/core: requirements/core.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) -r requirements/core.txt
	touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/core
	$(PIP) -r requirements/dev.txt
	touch $@

demo: $(VENV)/core  ## a server, models and a question, offline
	PYTHONPATH=src $(BIN)/python -m mcp_server demo

test: $(VENV)/dev  ## every test that needs no server of anybody's and no root
	PYTHONPATH=src $(BIN)/python -m pytest -n 2 -m "not servers"

test-servers: $(VENV)/dev  ## tests against real servers and a browser, which they install and start
	tests/servers.sh $(BIN)/python

test-engines: $(VENV)/dev  ## engines that need PyTorch, in an environment of their own
	tests/engines.sh $(BIN)/python

test-llamacpp: $(VENV)/dev  ## the llama.cpp engine; builds the library first, some 11 minutes of one core
	tests/llamacpp.sh $(BIN)/python

sim-long: $(VENV)/dev  ## 20,000 simulated runs, on all cores; a failing one prints how to replay it
	PYTHONPATH=src PYTHONHASHSEED=0 $(BIN)/python -m open_autoglm.testing.simulation --seeds 0-19999

check: $(VENV)/dev  ## formatting, lint, types, import contract, size limits
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports --no-cache
	PYTHONPATH=src $(BIN)/python -m pytest tests/unit/test_house.py

bench: $(VENV)/dev  ## the published figures, rivals in the same run
	benchmarks/setup.sh
	PYTHONPATH=src $(BIN)/python benchmarks/run.py

drill: $(VENV)/dev  ## the fault suite: ours beside LiteLLM and nginx, and a thousand cut streams
	benchmarks/setup.sh litellm
	PYTHONPATH=src $(BIN)/python benchmarks/drill/run.py --all
	PYTHONPATH=src $(BIN)/python benchmarks/drill/cuts.py

native: $(VENV)/dev  ## compile the request path, here; needs a C compiler and Python's headers (build-essential, python3-dev)
	$(BIN)/python native/build.py

native-clean:  ## back to plain Python
	$(PYTHON) native/build.py --clean

docs: $(VENV)/dev  ## the pages that are generated from code
	PYTHONPATH=src $(BIN)/python -m open_autoglm.config.reference
	PYTHONPATH=src $(BIN)/python -m open_autoglm.cli.reference
	PYTHONPATH=src $(BIN)/python -m open_autoglm.dialects.reference > docs/dialects.md
	PYTHONPATH=src $(BIN)/python -m open_autoglm.server.error_reference
	PYTHONPATH=src $(BIN)/python -m open_autoglm.server.admin_reference
	PYTHONPATH=src $(BIN)/python -m open_autoglm.telemetry.metric_reference

install: $(VENV)/core  ## this checkout as an editable package, with the command `autoglm`
	$(PIP) -r requirements/build.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
