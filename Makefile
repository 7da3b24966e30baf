# The two commands of a newcomer are `make repro` and `make test`; both make the environment first if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

WITNESS := .venv-reference
SEEDS ?= 1 2 3

.PHONY: help env reference parity repro test lint base peers clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

env: $(VENV)/.ready  ## make the environment in .venv from requirements.lock

# Asked only when an environment is made: one that is there has its own Python.
define check_python
@$(PYTHON) -c 'import sys; sys.exit("stemscribe needs Python 3.11 or newer; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
endef

# torch comes first and alone: everything after it finds it installed and pulls in no other build. tinysoundfont's wheel asks
# for a sound-card library that rendering to memory does not need.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(check_python)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --progress-bar off $(shell grep '^torch==' requirements.lock)
	$(BIN)/pip install --quiet --progress-bar off -r requirements.lock
	$(BIN)/pip install --quiet --progress-bar off --no-deps tinysoundfont==0.3.7
	$(BIN)/pip install --quiet --progress-bar off --no-deps --no-build-isolation --editable .
	@touch $@

reference: $(WITNESS)/.ready  ## make the environment of the reference, the wheel yourmt3, in .venv-reference

$(WITNESS)/.ready: witness/requirements.lock
	$(check_python)
	$(PYTHON) -m venv $(WITNESS)
	$(WITNESS)/bin/pip install --quiet --progress-bar off $(shell grep '^torch==' witness/requirements.lock)
	$(WITNESS)/bin/pip install --quiet --progress-bar off --no-deps -r witness/requirements.lock
	@touch $@

parity: env reference  ## compare our model with the reference at full size; SEEDS=1 for one set of random weights
	python -m witness --seeds $(SEEDS)

repro: env  ## run the whole graph on the corpus that params.yaml names
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "stemscribe: this folder is no git clone, and DVC needs one; git clone the repository" >&2; exit 2; }
	@python tools/side_by_side.py
	dvc repro

test: env lint  ## check and test the code
	pytest --numprocesses auto --dist loadgroup

lint: env  ## style and types
	ruff check .
	ruff format --check .
	mypy

base: env  ## train the shipped small base anew (three hours on two cores)
	cd pretrain && dvc repro && python -m stemscribe.pretraining.ship

# Each in an environment of its own, .venv-peers/<peer>, which the script makes.
peers: env  ## run Harmonica and Basic Pitch beside ours on the songs that `make repro` left (a quarter of an hour on two cores)
	python peers/compare.py --command 'make peers'

clean:  ## remove all environments, builds, the peers' files and unfinished training; never data, downloads or models
	rm -rf $(VENV) $(WITNESS) .venv-peers build $(addprefix work/,bass drums vocals other peers out_of_domain)
	@if [ -d pretrain/work ]; then find pretrain/work -mindepth 1 -maxdepth 1 ! -name downloads -exec rm -rf {} +; fi
