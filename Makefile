# Every target does its own set-up: on a fresh machine `make demo` or `make test` is all there is to type.
# The environment is made again only when pyproject.toml changes (.venv/.ready remembers).

.PHONY: help setup slurm demo test check clean
.DEFAULT_GOAL := help

RUN := .venv/bin/python
# One thread a test process: two processes on two cores would otherwise fight over both.
# Bytecode is kept, whatever the caller's environment says: tests start hundreds of processes.
TEST_ENV := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
WORKERS ?= 2

# The first interpreter that runs, is of a supported version and can make environments. A name on PATH is
# not enough: version managers put shims there for versions that are not installed.
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3 python)

help:
	@echo "make demo    train on a real table, make a synthetic one and a picture of how close they are"
	@echo "make test    run the tests"
	@echo "make check   lint, types, direction of imports"
	@echo "make setup   only make .venv with the package and everything the rest needs"
	@echo "make clean   remove .venv, caches and what the demo left"

setup: .venv/.ready

.venv/.ready: pyproject.toml
	@python=""; \
	for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c "$(SUPPORTED)" >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "no usable Python among: $(CANDIDATES)." >&2; \
	    echo "nemo_tabular needs Python 3.11 or 3.12 with its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; \
	    echo "Install one, or name the one to use: make setup PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	fi; \
	if ! $(RUN) -c "$(SUPPORTED)" >/dev/null 2>&1; then \
	    echo "making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv --clear .venv; \
	fi
	@echo "installing nemo_tabular and what it needs into .venv (the first time takes minutes)"
	@$(RUN) -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch .venv/.ready

demo: setup
	@$(RUN) scripts/demo.py

# A real SLURM for the tests that start one, and the linter of its scripts, where they can be had: on Debian or
# Ubuntu, as root. Elsewhere those tests are skipped and say why.
SLURM_PACKAGES := slurmctld slurmd slurm-client munge shellcheck

slurm:
	@if [ -x /usr/sbin/slurmctld ] && command -v shellcheck >/dev/null; then :; \
	elif [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	    echo "no SLURM here, and no way to install one without root and apt: its tests will be skipped" >&2; \
	else \
	    echo "installing $(SLURM_PACKAGES) for the tests that start a SLURM"; \
	    { apt-get update && DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y --no-install-recommends $(SLURM_PACKAGES); } >/dev/null 2>&1 \
	        || echo "they cannot be installed: the tests that need them will be skipped" >&2; \
	fi

# The cluster's tests run by themselves: four nodes beside other tests would make both late.
test: setup slurm
	@$(TEST_ENV) $(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not bench and not slurm and not alone"
	@$(TEST_ENV) $(RUN) -m pytest -m "slurm or alone" tests/checkpoints tests/slurm

check: setup
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@$(RUN) -m pytest -q tests/test_imports.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
