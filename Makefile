# Undercut. `make help` lists what there is. Nothing is assumed but Python 3.11, make and git.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# More options for pip, for example a package index with CPU-only torch:
#   make demo PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_OPTIONS ?=
PIPELINE := pipelines/lifecycle.py
RECIPE ?= pipelines/recipes/customer_service.yaml

.PHONY: help setup demo serve test test-fast test-resilience test-containers check format benchmark clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(VENV)/.installed  ## make the virtual environment and install everything, pinned

$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or run make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing about 200 pinned packages into $(VENV) (some minutes)"
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: setup  ## run the main job: text in, the cheapest model that passes out
	$(BIN)/undercut run $(PIPELINE) --recipe $(RECIPE)

serve: setup  ## serve the model that the demo chose
	$(BIN)/undercut serve

test: setup  ## all tests
	$(BIN)/pytest

test-fast: setup  ## the tests that take seconds
	$(BIN)/pytest -m "not slow and not benchmark and not container and not resilience"

test-resilience: setup  ## kills and outages: checkpoints, hot swaps, restores (some minutes)
	$(BIN)/pytest -m resilience

test-containers: setup  ## both images, and the lifecycle in containers (needs Docker)
	$(BIN)/pytest -m container

check: setup  ## format, lint, types, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/vulture

format: setup  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: setup  ## print the tables of tests/benchmarks (some need data of your own: see its README)
	$(BIN)/pytest tests/benchmarks -m benchmark -s

clean:  ## remove what runs and tools left in this folder; the virtual environment stays
	rm -rf .undercut .pytest_cache .mypy_cache .ruff_cache build dist

include manifests/kind/kind.mk
