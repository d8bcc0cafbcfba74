# Each target makes .venv by itself; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all test-fast lint docs serve-docs bench wheel-check clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/nasalign align smollm2-135m --out runs/demo --overwrite

test: $(STAMP)
	$(BIN)/pytest -n auto --dist loadfile -m "not long"

# Half an hour on two cores: before a release, and after a change of resume, processes or endpoints.
test-all: $(STAMP)
	$(BIN)/pytest -n auto --dist loadfile

test-fast: $(STAMP)
	$(BIN)/pytest -n auto --dist loadfile -m "not slow and not long and not gpu and not hub"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Shows the documentation at http://127.0.0.1:8000, and again after each change.
serve-docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# Installs the wheel into an empty environment, and goes from there to a corrected model.
wheel-check: $(STAMP)
	$(BIN)/python benchmarks/wheel_check.py

# Each prints its table; benchmarks/README.md has them. A GPU is for benchmarks/shapes.py.
bench: $(STAMP)
	$(BIN)/python benchmarks/recorder_overhead.py
	$(BIN)/python benchmarks/shared_prefix.py
	$(BIN)/python benchmarks/tuning_speed.py --repeats 1
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/machine_rate.py
	$(BIN)/python benchmarks/free_answers.py

clean:
	rm -rf $(VENV) runs
