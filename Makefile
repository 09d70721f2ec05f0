# make train and make test need nothing but Python 3.11 or newer; all else goes into .venv/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
CKPT ?=
CLUSTER ?=
SOAK ?= logs/soak
STEPS ?= 200000
JOBS ?= 200
# TORCH_BACKEND=cpu: torch without CUDA, from PyTorch's own index (a tenth of the download; untested by .ci/run)
TORCH_BACKEND ?=
CUDA = ^(nvidia-|cuda-|triton=)
PYTEST = $(BIN)/python -m pytest -n 2
LAWS = tests/test_process.py tests/test_elbo.py tests/test_consistency.py tests/test_derivation_laws.py \
	tests/likelihoods/test_likelihoods.py tests/test_parameterisations.py

.DEFAULT_GOAL := help
.PHONY: help setup pins train evaluate report dashboard sample check test test-slow test-cluster soak lint clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(VENV)/.ready: pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "vdm needs Python 3.11 or newer, and $(PYTHON) is %s: make PYTHON=python3.11 …" % sys.version.split()[0])'
	@echo "setting up $(VENV)/ (once; some minutes where the network is slow)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@grep -vE '$(if $(TORCH_BACKEND),$(CUDA),^$$)' requirements.txt > $(VENV)/requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement $(VENV)/requirements.txt \
		$(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

setup: $(VENV)/.ready ## make the environment in .venv/; TORCH_BACKEND=cpu: a small torch for machines without a GPU

pins: setup ## compile requirements.txt from pyproject.toml: ARGS="--upgrade" for the newest, "--upgrade-package NAME" for one
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-annotate --no-header \
		--quiet --output-file requirements.txt $(ARGS)

train: setup ## train on the built-in digits; ARGS="schedule=cosine seed=1" for anything else; CLUSTER=slurm submits it
	@$(BIN)/vdm-train $(if $(CLUSTER),-m hydra/launcher=$(CLUSTER)) $(ARGS)

evaluate: setup ## the bound of a trained model: CKPT=logs/…/checkpoints/best.ckpt
	@$(BIN)/vdm-evaluate $(if $(CKPT),ckpt=$(CKPT)) $(ARGS)

report: setup ## ARGS="estimators ckpt=…", "lineage", "run=FOLDER" or "sweep=FOLDER"
	@$(BIN)/vdm-report $(ARGS)

dashboard: setup ## a W&B workspace for a sweep: ARGS="sweep=FOLDER"
	@$(BIN)/vdm-dashboard $(ARGS)

sample: setup ## samples of a trained model: CKPT=… ARGS="n=64"
	@$(BIN)/vdm-sample $(if $(CKPT),ckpt=$(CKPT)) $(ARGS)

check: lint ## lint, and the laws of the theory: under a minute
	@$(BIN)/python -m pytest -q -n 2 -m "not slow" $(LAWS)

test: setup ## the fast tests: 13 minutes on two cores
	@$(PYTEST) -m "not slow" $(ARGS)

test-slow: setup ## the slow tests, but for those on SLURM: 15 minutes
	@$(PYTEST) -m slow --ignore tests/cluster $(ARGS)

test-cluster: setup ## jobs on a real SLURM, started on this machine from Debian's packages: 36 minutes
	@tests/cluster/loopback.sh $(BIN)/python -m pytest tests/cluster $(ARGS)

soak: setup ## hours: long training, a sweep of many jobs, many random configs; SOAK=folder for what they write
	@$(BIN)/python benchmarks/soak/steps.py folder=$(SOAK)/steps steps=$(STEPS)
	@$(BIN)/python benchmarks/soak/sweep.py folder=$(SOAK)/sweep jobs=$(JOBS)
	@VDM_EXAMPLES=200 $(PYTEST) -m "slow or not slow" tests/config/test_random_configs.py tests/cli/test_one_thing_wrong.py

lint: setup ## style, types, and the floors of the architecture
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

clean: ## remove the environment and the caches, not the runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
