.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test check quick sim bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 — \2/p' Makefile

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: .venv/.ready ## three nodes, real data, a killed leader, nothing lost (ARGS=--once ends by itself)
	$(BIN)/raftwright demo $(ARGS)

test: check ## everything: style, types, layers and all tests
	$(BIN)/pytest $(ARGS)

check: .venv/.ready ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

quick: .venv/.ready ## the tests without the slow ones
	$(BIN)/pytest -m 'not slow' $(ARGS)

sim: .venv/.ready ## a long search by simulation that resumes: make sim SEEDS=10000
	$(BIN)/python -m raftwright.sim --seeds $(or $(SEEDS),1000) --resume .sim $(ARGS)

bench: .venv/.ready ## writes/s and reads/s of three nodes on this machine
	$(BIN)/python -m bench $(ARGS)

clean: ## remove what was made
	rm -rf .venv .demo .sim build dist
