# Two commands do everything on a fresh machine with Python 3.11+, git and make:
#   make demo   upscale a photograph and print the paths of the results
#   make test   run the tests
# make web starts the page in the browser.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo web test test-cluster lint types check tables fuzz test-all clean

$(VENV)/base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# torch is installed first, at a fixed version: if the index has a CPU build, no other package replaces it by a larger one.
$(VENV)/dev: $(VENV)/base
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/base
	$(BIN)/python examples/demo.py

web: $(VENV)/base
	$(BIN)/python -m pip install --quiet --editable '.[web,formats]'
	$(BIN)/python -m subpixel serve

# The test processes already use all cores; more threads would only wait for each other. Tests of clusters come after the
# others: they share one cluster of many processes.
test test-all: export OMP_NUM_THREADS = 1
test test-all: export OPENBLAS_NUM_THREADS = 1
test: $(VENV)/dev
	$(BIN)/python -m pytest -n auto -m "not slow" --ignore=tests/cluster
	$(BIN)/python -m pytest -m "not slow" tests/cluster

test-all: $(VENV)/dev
	$(BIN)/python -m pytest -n auto --ignore=tests/cluster
	$(BIN)/python -m pytest tests/cluster

# Kills processes, nodes and drivers of a cluster on this machine, at random moments, and separates two nodes in
# mid-job; takes some minutes. The second part needs root, and says so.
test-cluster: $(VENV)/dev
	$(BIN)/python tests/cluster_faults.py
	$(BIN)/python tests/cluster_partition.py

# Runs each parser on damaged input, for a minute in all. Installs atheris, which has no wheel for some platforms; there,
# fuzz.py prints a message and does nothing.
fuzz: $(VENV)/dev
	-$(BIN)/python -m pip install --quiet --only-binary atheris --editable '.[fuzz]'
	$(BIN)/python fuzz/fuzz.py

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/dev
	$(BIN)/mypy

check: lint types test

# Writes the tables of measured numbers on the pages from benchmarks/results/. A test finds tables that are out of date.
tables: $(VENV)/base
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf $(VENV) out
