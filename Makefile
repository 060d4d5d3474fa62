# The lab's commands; each makes what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINIMUM := 3.11
TESTED := requirements/tested.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Versions that torch pins itself, for each of its builds.
OF_TORCH := ^(nvidia-|cuda-|triton)

# The versions that passed the tests, where they can be had: a clone of today works in a year.
define install
	@$(PIP) install --constraint $(TESTED) --editable '$(1)' 2>/dev/null || { \
		echo "The versions in $(TESTED) cannot be had here; installing the newest that pyproject.toml allows."; \
		$(PIP) install --editable '$(1)'; }
endef

.DEFAULT_GOAL := help
.PHONY: help install ablations test check lint format ui benchmark benchmark-peers benchmark-gpu profile power search search-kills doctor faults \
	cluster given-away lowest tested clean

help:           ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

# A stamp for each use: running needs fewer packages than developing, measuring others and trying clusters.
$(VENV)/.installed: pyproject.toml $(TESTED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(MINIMUM)".split("."))))' \
		|| { echo "vae_lab needs Python $(MINIMUM) or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "Python cannot make an environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV); the first time takes minutes, most of them for PyTorch."
	$(call install,.)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(call install,.[dev])
	@touch $@

$(VENV)/.installed-peers: $(VENV)/.installed
	$(PIP) install --editable '.[peers]'
	@# pythae asks for Python 3.6's backport of dataclasses, which breaks what finds it before Python's own.
	@$(BIN)/python -m pip uninstall --quiet --yes dataclasses
	@touch $@

$(VENV)/.installed-cluster: $(VENV)/.installed-dev
	$(call install,.[cluster])
	@touch $@

install: $(VENV)/.installed      ## make .venv and install the lab into it

ablations: $(VENV)/.installed    ## train the report's ten runs on MNIST and print their tables
	$(BIN)/vae-lab train experiments=reference
	@test -n "$$VIRTUAL_ENV" || echo "For the commands above, in this shell: source $(BIN)/activate"

ui: $(VENV)/.installed           ## open the runs in the MLflow UI on 127.0.0.1
	$(BIN)/vae-lab ui

test: $(VENV)/.installed-dev     ## run the tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

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

benchmark-peers: $(VENV)/.installed-peers  ## the same with pythae and Lightning, which it installs
	$(BIN)/python -m benchmarks --peers

benchmark-gpu: $(VENV)/.installed-dev  ## on a GPU: tests, rows, stacks, formats, memory; ten minutes at most
	-@$(MAKE) --no-print-directory $(VENV)/.installed-peers  # without them row 4 is left out
	$(BIN)/python -m benchmarks.gpu

profile: $(VENV)/.installed      ## where an epoch's time goes
	$(BIN)/python -m benchmarks.profile

power: $(VENV)/.installed      ## simulate studies: how often verdicts are wrong, how often an effect is shown; ten minutes
	$(BIN)/python -m benchmarks.levels
	$(BIN)/python -m benchmarks.power --studies 2000

search: $(VENV)/.installed-dev   ## replay searches on recorded grids; says what they find, for how many epochs
	$(BIN)/python -m benchmarks.search

search-kills: $(VENV)/.installed-dev  ## kill a search at every call between ask and tell; says what was lost
	$(BIN)/python -m tests.search

doctor: $(VENV)/.installed       ## put every known fault into ten models; says which the doctor finds
	$(BIN)/python -m benchmarks.injected_faults

faults: $(VENV)/.installed-dev   ## kill, stop and damage runs by the hundred; says what was lost
	$(BIN)/python -m tests.faults

cluster: $(VENV)/.installed-cluster  ## cut hosts off, kill commands, requeue jobs: Ray, a store and SLURM in one machine (root)
	$(BIN)/python -m benchmarks.cluster

given-away: $(VENV)/.installed-dev  ## load and serve registered models in a fresh environment without the lab and PyTorch
	$(BIN)/python -m tests.trained.onnx

# In an environment of its own. PyTorch's builds are gigabytes: LOWEST_TORCH=2.13.0 names one that is at hand.
LOWEST := .venv-lowest
LOWEST_TORCH ?=
LOWEST_TESTS ?= tests vae_lab
lowest:         ## install the lowest versions that pyproject.toml names, and run the tests (LOWEST_TESTS=...)
	@test -x $(LOWEST)/bin/uv || { $(PYTHON) -m venv $(LOWEST) && $(LOWEST)/bin/python -m pip install --quiet uv; }
	@echo "$(if $(LOWEST_TORCH),torch==$(LOWEST_TORCH))" > $(LOWEST)/constraints.txt
	@$(LOWEST)/bin/uv pip compile --quiet --no-annotate --no-header --resolution lowest-direct --extra dev \
		--python $(LOWEST)/bin/python --constraint $(LOWEST)/constraints.txt pyproject.toml \
		| grep -vE '$(OF_TORCH)' > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --no-deps --editable .
	@# Old versions warn of new ones beside them, which is not the lab's fault.
	$(LOWEST)/bin/python -m pytest -W default $(LOWEST_TESTS)

tested: $(VENV)/.installed-dev   ## write down the versions of this environment, once they have passed `make check`
	@mkdir -p $(dir $(TESTED))
	@{ echo "# Written by \`make tested\` on $$($(BIN)/python --version): constraints of \`make install\`."; \
		$(PIP) freeze --exclude-editable | sed -E 's/\+[A-Za-z0-9.]+$$//' \
		| grep -E '^[A-Za-z0-9._-]+==' | grep -vE '$(OF_TORCH)'; } > $(TESTED).new
	@mv $(TESTED).new $(TESTED)
	@touch $(VENV)/.installed $(VENV)/.installed-dev

clean:                           ## remove the environments and the tools' caches; runs and data stay
	rm -rf $(VENV) $(LOWEST) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
