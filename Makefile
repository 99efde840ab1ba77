# `make demo` and `make test` set up what they need: python3 (>= 3.11) and make are enough.
# uv is used where it is installed, plain venv and pip elsewhere.
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),$(UV) pip install -q --compile-bytecode --python $(BIN)/python,$(BIN)/python -m pip install -q --disable-pip-version-check)

.PHONY: demo test lint format bench chaos outage install dev

demo: install
	$(BIN)/tcclip sweep zero_shot --demo --models tc_clip,vifi_clip,clip --seeds 0,1

# Bytecode is kept, whatever the environment says: the next run compiles no test anew.
test: export PYTHONDONTWRITEBYTECODE =
test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m tests.house
	$(BIN)/mypy

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Ratios against a baseline in the same run; what was measured here stands in docs/.
bench: dev
	$(BIN)/python -m tests.benchmarks.model_bench
	$(BIN)/python -m tests.benchmarks.data_bench
	$(BIN)/python -m tests.benchmarks.evaluation_bench
	$(BIN)/python -m tests.benchmarks.report_bench
	$(BIN)/python -m tests.benchmarks.overhead_bench
	$(BIN)/python -m tests.benchmarks.ray_bench

# A sweep on Ray that is killed 20 times; its short form is one of the slow tests.
chaos: dev
	$(BIN)/python -m tests.chaos

# MLflow's PostgreSQL, then its server, away for a minute in the middle of a sweep.
outage: dev
	$(INSTALL) --require-hashes -r docker/requirements-server.txt
	$(BIN)/python -m tests.outage

install: .venv/installed
dev: .venv/installed-dev

# The stamps are newer than what they were made from, so a change of the pins installs anew.
.venv/installed: requirements.txt pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes -r requirements.txt
	$(INSTALL) --no-deps -e .
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

$(BIN)/python:
	@$(if $(UV),$(UV) venv -q .venv,$(PYTHON) -m venv .venv) || { echo "No virtual environment could be made. On Debian: apt install python3-venv" >&2; exit 1; }
