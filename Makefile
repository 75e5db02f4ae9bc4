# `make demo` and `make test` need Python 3.11 or newer and nothing else; they make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo-workspace

.PHONY: help setup setup-core setup-test setup-dev demo test test-fast lint bench lock lock-check docs clean
help:
	@echo "make demo | test | test-fast | lint | bench | setup | docs | lock | lock-check | clean"
setup: setup-dev
	@$(PYTHON) scripts/setup_programs.py
setup-core:
	@$(PYTHON) scripts/setup_env.py core $(EXTRAS)
setup-test:
	@$(PYTHON) scripts/setup_env.py test $(EXTRAS)
setup-dev:
	@$(PYTHON) scripts/setup_env.py dev $(EXTRAS)
demo: setup-core
	@$(BIN)/resa-hub demo --workspace $(DEMO)
test: setup-test
	@$(BIN)/python -m pytest -n auto --dist loadfile
test-fast: setup-test
	@$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile
lint: setup-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright
bench: setup-dev
	@$(BIN)/python -m bench
lock: setup-dev
	@UV="$(BIN)/uv" scripts/lock.sh
lock-check: setup-core
	@$(BIN)/python scripts/lock_check.py
docs:
	@$(PYTHON) scripts/setup_env.py core docs && $(BIN)/zensical build --strict
clean:
	rm -rf .venv $(DEMO) .pytest_cache .ruff_cache .cache dist site
