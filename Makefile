# Every target creates the environment if necessary. Works with GNU make 3.81 (macOS) and newer.

# The interpreter to use, and the package index that torch is installed from (a CPU-only or another CUDA build), e.g.
#   make demo PYTHON=python3.12 TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/installed
# Most tests wait for processes that they start, so several run at once; all tests of a file run in one worker and share its fixtures.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-all chaos check format docs bench gpu-check environment

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12 selects the interpreter, TORCH_INDEX=URL the package index for torch; ARGS=... are passed on"

demo: $(INSTALLED) ## draw labelled faces, pack them, train for minutes, generate from words
	$(RUN) -m trainer demo $(ARGS)

test: $(INSTALLED) ## run the fast tests, in parallel
	$(RUN) -m pytest $(PARALLEL) $(ARGS)

test-long: $(INSTALLED) ## run the tests marked long, but of each matrix only some rows, as CI does
	$(RUN) -m pytest $(PARALLEL) -m "long and not exhaustive and not chaos" $(ARGS)

test-all: $(INSTALLED) ## run all tests, also those marked long and exhaustive
	$(RUN) -m pytest $(PARALLEL) -m "not chaos" $(ARGS)

chaos: $(INSTALLED) ## kill packing and training at random moments; ARGS="--chaos-seed N" repeats a run
	$(RUN) -m pytest -m chaos tests/system/test_chaos.py $(ARGS)

check: $(INSTALLED) ## lint, check formatting and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

format: $(INSTALLED) ## format the sources
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: $(INSTALLED) ## build the documentation site in build/docs; fails on a warning
	$(RUN) -m sphinx -W --keep-going -q -b html docs build/docs $(ARGS)

bench: $(INSTALLED) ## run the benchmarks, each against its baseline (benchmarks/studies takes hours and is not included)
	@for benchmark in $(filter-out benchmarks/time_to_quality.py benchmarks/published_run.py benchmarks/other_%.py,$(wildcard benchmarks/*.py)); do echo "== $$benchmark"; $(RUN) "$$benchmark" $(ARGS) || exit 1; done

gpu-check: $(INSTALLED) ## check on one GPU, in at most 8 minutes, what no CPU can say; ARGS=--cpu rehearses it
	$(RUN) benchmarks/gpu_check $(ARGS)

environment: $(INSTALLED) ## create .venv and install into it

$(INSTALLED): pyproject.toml constraints.txt .ci/environment.py
	@"$(PYTHON)" .ci/environment.py $(VENV) "$(TORCH_INDEX)"
	@touch $@
