# Everything runs in .venv, which the first target that needs it sets up. PYTHON names the interpreter to make it from.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# pip honours the user's own configuration (index, constraints): no address is fixed here.
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo app lab test test-lowest test-wheel lint bench clean

help:
	@echo 'make demo    pre-train on the embedded scenes with 2 processes on the CPU (4 to 12 minutes), result in runs/demo;'
	@echo '             again: goes on where it stopped, or reports the finished run (rm -rf runs/demo: starts anew)'
	@echo 'make app     look inside checkpoints in a browser (http://127.0.0.1:7860/); make app ARGS="--images photos"'
	@echo 'make lab     the notebooks in JupyterLab'
	@echo 'make test    run the tests'
	@echo 'make test-lowest  the same with the lowest supported version of each requirement, in $(VENV)-lowest'
	@echo 'make test-wheel   build wheel and sdist, install each into an empty environment, use it from elsewhere'
	@echo 'make lint    ruff, mypy and the import rule'
	@echo 'make bench   what a step, its losses, loading and looking cost here (about 6 minutes), and bench.json'
	@echo 'make clean   remove $(VENV), caches and build output; runs/ stays'
	@echo
	@echo 'The first run makes $(VENV) with $(PYTHON) (another one: make PYTHON=python3.12 ...).'

# A thread for each process on up to seven logical cores, and four at the most: a container may have less than it shows.
THREADS = $$($(BIN)/python -c 'import os; print(min(4, max(1, os.cpu_count() // 4)))')

demo: $(VENV)/.installed-core
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=$(THREADS) $(BIN)/torchrun --standalone --nproc_per_node=2 train_ddp.py --preset demo --out runs/demo --resume auto

app: $(VENV)/.installed-app
	$(BIN)/python -m plrc app $(ARGS)

lab: $(VENV)/.installed-notebooks
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate notebooks/01_point_affinity.ipynb $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal

test-lowest: $(VENV)-lowest/.installed
	$(VENV)-lowest/bin/python -m pytest -q --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

test-wheel: $(VENV)/.installed-dev
	$(BIN)/python tests/installed.py $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up ---------------------------------------------------------------------------------------------------------

$(VENV)/.installed-core: pyproject.toml | $(BIN)/pip
	@echo 'Installing into $(VENV) (the first time takes minutes: torch is large)'
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-app $(VENV)/.installed-notebooks: $(VENV)/.installed-%: pyproject.toml | $(BIN)/pip
	@echo 'Installing into $(VENV), with what make $* needs (the first time takes minutes: torch is large)'
	@$(PIP) --editable '.[$*]'
	@touch $@ $(VENV)/.installed-core

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/pip
	@echo 'Installing into $(VENV), with the tools for development (the first time takes minutes: torch is large)'
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed-core $(VENV)/.installed-app $(VENV)/.installed-notebooks

# Of each requirement the newest patch of its lowest release; the tools for development are as they come. Matplotlib 3.8
# warns of later releases of pyparsing, and the tests refuse warnings.
LOWEST = import re; text = open("pyproject.toml").read().split("dev = [")[0].split("dependencies = [", 1)[1]; \
	print(*("{}=={}.*".format(*of) for of in re.findall(r"\"([\w-]+)>=([\d.]+)", text)), sep="\n")

$(VENV)-lowest/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -c '$(LOWEST)' > $(VENV)-lowest/lowest.txt
	@echo 'pyparsing<3.3' >> $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(VENV)-lowest/lowest.txt --editable '.[dev]'
	@touch $@

# pip is the last thing that venv writes: an interrupted set-up is made again.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo 'There is no $(PYTHON). Install Python 3.10 or later (Debian: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python ...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is $$($(PYTHON) --version), but Python 3.10 or later is needed. Name one: make PYTHON=/path/to/python ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo '$(PYTHON) cannot make virtual environments, because its module ensurepip is missing. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@echo 'Making $(VENV)'
	@$(PYTHON) -m venv $(VENV)
