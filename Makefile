# Every target makes the environment by itself. Works with GNU make 3.81 (macOS) and newer.

# The interpreter to build on, and the package index to take torch from (a CPU-only or another CUDA build), e.g.
#   make demo PYTHON=python3.12 TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-all chaos check format docs bench environment

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12 picks the interpreter; TORCH_INDEX=URL the index to take torch from; ARGS=... more words for the command"

demo: $(INSTALLED) ## labelled faces, packed, trained on for minutes, drawn by word: the whole way
	$(RUN) -m trainer demo $(ARGS)

test: $(INSTALLED) ## the tests, without the long ones
	$(RUN) -m pytest $(ARGS)

test-all: $(INSTALLED) ## all tests
	$(RUN) -m pytest -m "not chaos" $(ARGS)

chaos: $(INSTALLED) ## kill packing and training at random moments, many times; ARGS="--chaos-seed N" repeats a run
	$(RUN) -m pytest -m chaos tests/system/test_chaos.py $(ARGS)

check: $(INSTALLED) ## lint, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

format: $(INSTALLED) ## let ruff put the sources in order
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: $(INSTALLED) ## the documentation site, into build/docs; fails on a warning
	$(RUN) -m sphinx -W --keep-going -q -b html docs build/docs $(ARGS)

bench: $(INSTALLED) ## the benchmarks, each against its rival, in one run (the open questions take hours: not here)
	@for benchmark in $(filter-out benchmarks/open_questions.py,$(wildcard benchmarks/*.py)); do echo "== $$benchmark"; $(RUN) "$$benchmark" $(ARGS) || exit 1; done

environment: $(INSTALLED) ## only make .venv and install into it

$(INSTALLED): pyproject.toml constraints.txt .ci/environment.py
	@"$(PYTHON)" .ci/environment.py $(VENV) "$(TORCH_INDEX)"
	@touch $@
