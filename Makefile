# make run            install, then the whole way on real scanned digits, offline
# make run DATA=…     the same on cifar10, cifar100 or a folder of images
# make test           the whole test suite
# make check          style, types, layers, docs, and the built wheel in a clean environment
SHELL := /bin/bash
PYTHON ?= python3
DATA ?= digits
ENV := .venv
BIN := $(ENV)/bin
WORKERS ?= 2

.PHONY: run test check lint docs wheel format clean

run: $(ENV)/.installed
	$(BIN)/peregrine run --data $(DATA)

test: $(ENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -q

check: lint docs wheel

lint: $(ENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(ENV)/.installed-dev
	$(BIN)/python -m pytest -q tests/docs

wheel: $(ENV)/.installed-dev
	tests/smoke_wheel.sh $(BIN)/python

format: $(ENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# PyTorch first and by its exact series: where an index has a CPU build of it, pip takes that one, and what comes after
# is content with it.
$(ENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Peregrine needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@echo "Installing into $(ENV): a minute or two, some two gigabytes."
	test -x $(BIN)/python || $(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'torch==2.13.*'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu]'
	touch $@

$(ENV)/.installed-dev: $(ENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	touch $@

clean:
	rm -rf $(ENV) dist build .pytest_cache .mypy_cache .ruff_cache
