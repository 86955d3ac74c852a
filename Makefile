# Everything starts from a fresh clone with Python and pip; `make` alone says what there is.

SUITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# The newest that is there and works: a name on the PATH may stand for a version that is not installed or cannot make
# environments. `make demo PYTHON=/path/to/python` picks another.
PYTHON ?= $(shell IFS=:; for name in python3.13 python3.12 python3.11 python3; do for folder in $$PATH; do \
	"$$folder/$$name" -c '$(SUITS)' 2>/dev/null && echo "$$folder/$$name" && exit; done; done)
MISSING := StreamVLM needs Python 3.11, 3.12 or 3.13 with pip and venv; install one (on Debian and Ubuntu \
	python3-venv too), or name it: make PYTHON=/path/to/python
MODEL ?= pocket
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --root-user-action ignore \
	--constraint constraints.txt --editable

.PHONY: help demo test inputs drawings check clean

help:
	@echo 'make demo      renders a four-minute video and asks it questions; MODEL=NAME asks another model than pocket'
	@echo 'make test      runs all tests'
	@echo 'make inputs    tries every kind of input at every door, and writes docs/results/inputs.md'
	@echo 'make drawings  draws the pictures in docs/ again'
	@echo 'make check     format, lint, types, and the import staircase'
	@echo 'make clean     removes .venv and what was built'

demo: $(VENV)/installed
	mkdir -p build
	$(BIN)/streamvlm world 7 --duration 4m --out build/demo.mp4
	$(BIN)/python -m streamvlm_demos.first_questions build/demo.mp4 --model "$(MODEL)"

# A file's tests share their models and servers, so they stay in one process.
test: $(VENV)/installed-test
	$(BIN)/pytest --numprocesses auto --dist loadfile

inputs: $(VENV)/installed-test
	$(BIN)/pytest tests/inputs --write-table

drawings: $(VENV)/installed-test
	$(BIN)/python -m streamvlm_demos.timeline > docs/timeline.svg
	$(BIN)/python docs/staircase.py > docs/staircase.svg

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist

# Stamps: installing happens once, and again when what is to be installed changes.
$(VENV)/installed: pyproject.toml constraints.txt
	@"$(PYTHON)" -c '$(SUITS)' 2>/dev/null || { echo '$(MISSING)' >&2; exit 1; }
	@echo 'Installing StreamVLM and what it needs into $(VENV) (2 to 6 GB, some minutes) ...'
	@"$(PYTHON)" -m venv $(VENV)
	@$(INSTALL) .
	@touch $@

$(VENV)/installed-%: $(VENV)/installed
	@echo 'Installing its extra "$*" ...'
	@$(INSTALL) ".[$*]"
	@touch $@
