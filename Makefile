# Every target sets up what it needs: a fresh machine with Python 3.11 to 3.13 and make is enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ROOT ?= outputs
TASK ?= quadruped_velocity

.PHONY: help train smoke floor-demo test test-fast check format docs ui build clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

train: $(VENV)/.installed  ## set up, train the robot dog, and say where the results are
	$(BIN)/python -m factory.train task=$(TASK) output_root=$(ROOT) $(ARGS)

smoke: $(VENV)/.installed  ## set up, and run every stage on a small task in under a minute
	$(BIN)/python -m factory.train experiment=smoke output_root=$(ROOT) $(ARGS)

floor-demo: $(VENV)/.installed  ## set up, and show the factory floor: five lines, a budget that halves, a kill
	rm -rf $(ROOT)/floor-demo
	$(BIN)/python -m factory.floor demo --root $(ROOT)/floor-demo

test: $(VENV)/.installed-dev check  ## set up, then lint, types and all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: $(VENV)/.installed-dev  ## the tests without the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

check: $(VENV)/.installed-dev  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## build the documentation in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

ui: $(VENV)/.installed  ## open the MLflow UI on the project's store, for this machine only
	@$(BIN)/python -m factory.tracking.newest $(ROOT)
	$(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///$(abspath $(ROOT))/mlflow.db

build: $(VENV)/.installed-dev  ## build the wheel, install it elsewhere and run it from another folder
	$(BIN)/python -m pytest -m slow tests/test_package.py

clean:  ## remove what the other targets made, but not the runs
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache factory/kernels/__pycache__

# torch first and pinned: a second torch, with gigabytes of CUDA libraries, is never fetched.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@
