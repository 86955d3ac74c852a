# Everything starts from a fresh clone with Python 3.11 and pip; `make demo PYTHON=/path/to/python3.11` picks another.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: demo test check clean

demo: $(VENV)/installed
	mkdir -p build
	$(BIN)/streamvlm world 7 --duration 4m --out build/demo.mp4
	$(BIN)/python -m streamvlm_demos.first_questions build/demo.mp4

test: $(VENV)/installed-test
	$(BIN)/pytest

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist

# Stamps: installing happens once, and again when what is to be installed changes.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(INSTALL) ".[$*]"
	touch $@
