# dpsc: two commands, `make run` and `make test`. Both set up what they need; python3 (3.11 or newer) and make are enough.

PYTHON ?= python3
DPSC_VENV ?= .venv
VENV := $(DPSC_VENV)
BIN := $(VENV)/bin
EXPERIMENT ?=
ARGS ?=
NAME ?=
export DPSC_VENV

.PHONY: help setup run test lint format bench reproduce data clean

help:
	$(info make setup      environment in $(VENV) (DPSC_VENV=...), extras from DPSC_EXTRAS, default test; instant when up to date)
	$(info make run        an experiment: EXPERIMENT=name ARGS="key=value ..."; without EXPERIMENT the default one)
	$(info make test       format, lint, types, imports and tests; ARGS="-k name ..." goes to pytest)
	$(info make lint       the same without the tests)
	$(info make format     put the code into the house format)
	$(info make bench      speed against rivals (scripts/benchmark.py); ARGS are passed on)
	$(info make reproduce  published numbers, expected against measured (scripts/reproduce.py); ARGS are passed on)
	$(info make data       download a public data set: NAME=name; without NAME a list of them)
	$(info make clean      remove caches; runs/, data/ and the environment stay)
	$(info )
	$(info PYTHON=python3.12 names another Python, for example: make run PYTHON=python3.12 EXPERIMENT=name)
	@:

setup:
	@$(PYTHON) scripts/bootstrap.py

run: setup
	@$(BIN)/python -m experiments.run $(if $(EXPERIMENT),experiment=$(EXPERIMENT)) $(ARGS)

test: lint
	$(BIN)/python -m pytest -q $(ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy dpsc
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	@$(BIN)/python scripts/benchmark.py $(ARGS)

reproduce: setup
	@$(BIN)/python scripts/reproduce.py $(ARGS)

data: setup
	@$(BIN)/python scripts/fetch_data.py $(NAME) $(ARGS)

clean:
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
