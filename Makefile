# `make demo` and `make test` set up what they need in .venv, once.
# TORCH_INDEX: an index with CPU builds of torch, e.g. make TORCH_INDEX=https://.../cpu demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
TORCH_INDEX ?=
PIP := $(BIN)/pip install --disable-pip-version-check --quiet

.PHONY: demo test check bench format generate clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo    watch five participants answer 300 queries"
	@echo "make test    run the tests"
	@echo "make check   lint, format, types, layers, generated files"
	@echo "make bench   fi_stream beside others on Apache Kafka, and what it stands"
	@echo "make generate  write the generated files again"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "fi_stream needs Python 3.11 or later, and $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || { echo "Setting up $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing (torch is large: a few minutes on a slow line) ..."
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) --index-url "$(TORCH_INDEX)" torch; fi
	@$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/fi-stream demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python $(if $(ARGS),-m pytest $(ARGS),tests/halves.py)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m fi_stream.transport.asyncapi --check

bench: $(STAMP)
	@$(BIN)/python -m bench $(ARGS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(STAMP)
	$(BIN)/python -m fi_stream.transport.asyncapi --write

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
