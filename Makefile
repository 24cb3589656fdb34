PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

CORE = .venv/.installed
DEV = .venv/.installed-dev

.PHONY: help demo test test-all lint licences docs bench vendor wheel clean
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(CORE) ## train, evaluate and export on the images that come with medseg
	-@.venv/bin/python tools/vendor_web.py
	.venv/bin/medseg demo

test: $(DEV) vendor ## run the tests
	.venv/bin/pytest -n auto --dist loadfile

test-all: $(DEV) vendor ## run the tests with the slow ones
	.venv/bin/pytest -m ""

lint: $(DEV) ## check style, formatting and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

licences: $(DEV) ## check that all dependencies have a permissive licence
	.venv/bin/python tools/check_licences.py

docs: $(DEV) ## check that links and commands in the documentation exist
	.venv/bin/python tools/check_docs.py

bench: $(DEV) ## measure the augmentation, against kornia where it is installed
	.venv/bin/python benchmarks/augment.py

vendor: .venv/bin/python ## fetch onnxruntime-web, which exported web pages compute with
	.venv/bin/python tools/vendor_web.py

wheel: vendor ## build the wheel, in dist/
	.venv/bin/python -m pip --disable-pip-version-check wheel --quiet --no-deps -w dist .

clean: ## remove the environment and everything that tools left
	rm -rf .venv build dist src/*.egg-info src/medseg/export/web/vendor .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "medseg needs Python 3.11 or newer, and $(PYTHON) is not."; \
	  echo "Name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

$(CORE): pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[export]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[dev]'
	@touch $(CORE) $@
