# Two commands do everything on a fresh machine with Python 3.11+, git and make:
#   make demo   enlarge a photograph and show where the results lie
#   make test   run the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types check tables fuzz test-all clean

$(VENV)/base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# torch comes first and pinned: where an index holds a CPU build of it, no other package pulls a larger one.
$(VENV)/dev: $(VENV)/base
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/base
	$(BIN)/python examples/demo.py

# The test processes already use every core; threads of their own would only wait for each other.
test test-all: export OMP_NUM_THREADS = 1
test test-all: export OPENBLAS_NUM_THREADS = 1
test: $(VENV)/dev
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: $(VENV)/dev
	$(BIN)/python -m pytest -n auto

# Each of our parsers on damaged input, a minute together. Only here is atheris installed, which has no wheel everywhere:
# without it, fuzz.py says so and does nothing.
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

# The tables of measured numbers on the pages, from benchmarks/results/; a test finds pages that have drifted.
tables: $(VENV)/base
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf $(VENV) out
