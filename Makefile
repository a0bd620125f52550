.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

IMAGE_TAG ?= dev
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' node/raftwright/version.py)

.PHONY: help demo test check quick sim plan-search bench images e2e e2e-report kind-demo clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1 — \2/p' Makefile

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: .venv/.ready ## three nodes, real data, a killed leader, nothing lost (ARGS=--once ends by itself)
	$(BIN)/raftwright demo $(ARGS)

test: check ## everything: style, types, layers, all tests, and those on a Kubernetes cluster of kind's
	$(BIN)/pytest $(ARGS)
	$(BIN)/pytest e2e

check: .venv/.ready ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

quick: .venv/.ready ## the tests without the slow ones
	$(BIN)/pytest -m 'not slow' $(ARGS)

sim: .venv/.ready ## a long search by simulation that resumes: make sim SEEDS=10000
	$(BIN)/python -m raftwright.sim --seeds $(or $(SEEDS),1000) --resume .sim $(ARGS)

plan-search: .venv/.ready ## a long search of what the operator may do, which resumes (ARGS="rolling --faults 2")
	@mkdir -p .sim
	$(BIN)/python -m tests.operator.search --resume .sim/plan $(ARGS)

bench: .venv/.ready ## writes/s and reads/s of three nodes on this machine
	$(BIN)/python -m bench $(ARGS)

# pip's own variables go into the build, and so do proxies; what is not set is not passed. The host's network is used
# for the build only, since an index may be reachable from this machine alone.
BUILD_VARIABLES = PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST HTTP_PROXY HTTPS_PROXY NO_PROXY \
	http_proxy https_proxy no_proxy
BUILD_ARGS = --network host $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) --build-arg VERSION=$(VERSION) \
	$(foreach name,$(BUILD_VARIABLES),$(if $($(name)),--build-arg $(name)))

images: ## the container images, of the node and of the operator (IMAGE_TAG=dev BASE_IMAGE=python:3.13-slim)
	@docker version >/dev/null || { echo "images are built with Docker, which does not answer" >&2; exit 1; }
	docker build --quiet $(BUILD_ARGS) --target node --tag raftwright/node:$(IMAGE_TAG) .
	docker build --quiet $(BUILD_ARGS) --target operator --tag raftwright/operator:$(IMAGE_TAG) .

e2e: .venv/.ready ## the tests on a Kubernetes cluster of kind's (they skip without one; E2E=required makes them fail)
	$(BIN)/pytest e2e $(ARGS)

e2e-report: .venv/.ready ## what the tests on kind measure, as a table
	$(BIN)/python -m e2e.report $(ARGS)

kind-demo: .venv/.ready ## a kind cluster with a RaftCluster of three, left running, and what to try
	$(BIN)/python -m e2e.demo $(ARGS)

clean: ## remove what was made
	rm -rf .venv .demo .sim build dist
