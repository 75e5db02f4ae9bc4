# `make demo` and `make test` need Python 3.11 or newer and nothing else; they make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo-workspace

.PHONY: help setup demo test test-fast lint bench lock clean
help:
	@echo "make demo | test | test-fast | lint | bench | setup | lock | clean"
setup:
	@$(PYTHON) scripts/setup_env.py $(EXTRAS)
demo: setup
	@$(BIN)/resa-hub demo --workspace $(DEMO)
test: setup
	@$(BIN)/python -m pytest -n auto --dist loadfile
test-fast: setup
	@$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile
lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright
bench: setup
	@$(BIN)/python -m bench
lock: setup
	@UV="$(BIN)/uv" scripts/lock.sh
clean:
	rm -rf .venv $(DEMO) .pytest_cache .ruff_cache dist
