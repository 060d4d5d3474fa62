# The lab's commands; each makes what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINIMUM := 3.11

.DEFAULT_GOAL := help
.PHONY: help install ablations test check lint format ui benchmark benchmark-peers profile faults clean

help:           ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

# Two stamps: running needs fewer packages than developing.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(MINIMUM)".split("."))))' \
		|| { echo "vae_lab needs Python $(MINIMUM) or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "Python cannot make an environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV); the first time takes minutes, most of them for PyTorch."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed      ## make .venv and install the lab into it

ablations: $(VENV)/.installed    ## train the report's ten runs on MNIST and print their tables
	$(BIN)/vae-lab train experiments=reference

ui: $(VENV)/.installed           ## open the runs in the MLflow UI on 127.0.0.1
	$(BIN)/vae-lab ui

test: $(VENV)/.installed-dev     ## run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev     ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: test lint                 ## what CI runs: the tests, then lint

format: $(VENV)/.installed-dev   ## put the code in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.installed    ## measure the lab's speed against the machine's limit and a DataLoader loop
	$(BIN)/python -m benchmarks

benchmark-peers: $(VENV)/.installed  ## the same with pythae and Lightning, which it installs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[peers]'
	@# pythae asks for Python 3.6's backport of dataclasses, which breaks what finds it before Python's own.
	$(BIN)/python -m pip uninstall --quiet --yes dataclasses
	$(BIN)/python -m benchmarks --peers

profile: $(VENV)/.installed      ## where an epoch's time goes
	$(BIN)/python -m benchmarks.profile

faults: $(VENV)/.installed-dev   ## kill, stop and damage runs by the hundred; says what was lost
	$(BIN)/python -m tests.faults

clean:                           ## remove the environment and the tools' caches; runs and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
