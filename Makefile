# Undercut. `make help` lists what there is. Nothing is assumed but Python 3.11, make and git.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# More options for pip, for example a package index with CPU-only torch:
#   make demo PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_OPTIONS ?=
PIPELINE := pipelines/lifecycle.py
RECIPE ?= pipelines/recipes/customer_service.yaml
DOCKER ?= docker
TRAIN_IMAGE ?= undercut-train-python:0.1.0
SERVE_IMAGE ?= undercut-serve-python:0.1.0
# For builds: BASE names another base image, ACCELERATOR=cuda takes torch with CUDA, PIP_NO_INDEX=1 takes all
# packages from images/wheelhouse, PIP_INDEX_URL names an index of your own (images/README.md).
BUILD_ARGUMENTS := $(foreach name,BASE ACCELERATOR TORCH_INDEX PIP_NO_INDEX PIP_INDEX_URL,\
  $(if $($(name)),--build-arg $(name)=$($(name)))) \
  $(if $(wildcard images/certificates/ca.crt),--build-arg PIP_CERT=/certificates/ca.crt)

.PHONY: help setup demo serve test test-fast test-resilience test-containers check format \
  benchmark images wheelhouse image-list sbom clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

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

test: setup  ## all tests but the resilience and container tests
	$(BIN)/pytest

test-fast: setup  ## the tests that take seconds
	$(BIN)/pytest -m "not slow and not benchmark and not container and not resilience"

test-resilience: setup  ## kills and outages: checkpoints, hot swaps, restores (some minutes)
	$(BIN)/pytest -m resilience

test-containers: setup  ## build both images and test them, the lifecycle in containers too (needs Docker, or root)
	BIN=$(BIN) images/test.sh

check: setup  ## format, lint, types, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/hadolint images/train/Dockerfile images/serve/Dockerfile
	$(BIN)/shellcheck images/test.sh

format: setup  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: setup  ## print the tables of tests/benchmarks (some need data of your own: see its README)
	$(BIN)/pytest tests/benchmarks -m benchmark -s

images:  ## build the train and the serve image, and print their sizes
	$(MAKE) --no-print-directory build-train build-serve
	@$(DOCKER) image inspect $(TRAIN_IMAGE) $(SERVE_IMAGE) --format '{{index .RepoTags 0}} {{.Size}}' \
	  | awk '{printf "%-32s %7.0f MB\n", $$1, $$2 / 1e6}'

build-%: IMAGE = $(if $(filter train,$*),$(TRAIN_IMAGE),$(SERVE_IMAGE))
build-%:
	$(DOCKER) build --quiet --file images/$*/Dockerfile --tag $(IMAGE) $(BUILD_ARGUMENTS) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(git show --no-patch --format=%cI HEAD) .

wheelhouse: setup  ## fill images/wheelhouse, for builds without network (as many bytes as make setup)
	$(BIN)/python images/requirements.py pyproject.toml > images/wheelhouse/requirements.txt
	$(BIN)/pip wheel --quiet --quiet --disable-pip-version-check $(PIP_OPTIONS) --wheel-dir images/wheelhouse \
	  --constraint constraints.txt --requirement images/wheelhouse/requirements.txt 'setuptools>=77'

image-list: setup  ## write images/IMAGES.txt anew: every image that a full installation pulls
	$(BIN)/python images/image_list.py > images/IMAGES.txt.partial
	mv images/IMAGES.txt.partial images/IMAGES.txt

sbom: setup  ## write what each image holds to sbom/ (CycloneDX); the images are built before
	$(BIN)/python images/sbom.py $(TRAIN_IMAGE) $(SERVE_IMAGE)

clean:  ## remove what runs (registered models too) and tools left in this folder; the virtual environment stays
	rm -rf .undercut .pytest_cache .mypy_cache .ruff_cache build dist sbom

include manifests/kind/kind.mk
