# Everything runs in .venv (the peers of `make bench` in .venv-bench), made here from pinned,
# hash-verified packages. Python 3.11 or newer and make are all that it needs.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# Otherwise pyright asks the network whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
PIP := python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs constraints clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/made ## run the example shop (ARGS=--exit ends after the scripted visit)
	@$(BIN)/python -m examples.shop $(ARGS)

test: .venv/made ## run the tests (ARGS goes to pytest)
	@$(BIN)/python -m pytest $(ARGS)

lint: .venv/made ## style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

bench: .venv-bench/made ## measure against the peers and write docs/benchmarks.md
	@.venv-bench/bin/python -m bench $(ARGS)

docs: .venv/made ## build the documentation into site/
	@rm -rf site
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs site
	@echo site/index.html

constraints: ## resolve the pins again, from pyproject.toml
	@$(call venv,.venv-pins)
	@.venv-pins/bin/$(PIP) install uv
	@$(call pin,constraints.txt,--all-extras --group dev)
	@$(call pin,constraints-bench.txt,--extra server --extra pydantic --extra token --extra redis --extra sql --group bench)

clean: ## remove everything that make has made
	rm -rf .venv .venv-bench .venv-pins site dist .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	find src tests examples bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

.venv/made: pyproject.toml constraints.txt
	@$(call install,.venv,constraints.txt)

.venv-bench/made: pyproject.toml constraints-bench.txt
	@$(call install,.venv-bench,constraints-bench.txt)

# $(call venv,folder)
define venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "statehold needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	|| { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }; \
test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

# The pins are installed as requirements, since pip checks each hash there; the project itself
# comes last and brings nothing along.
# $(call install,folder,pins)
define install
$(call venv,$(1)); \
echo "installing $(2) into $(1) (a minute or two the first time)"; \
$(1)/bin/$(PIP) install --require-hashes --only-binary :all: -r $(2) \
	&& $(1)/bin/$(PIP) install --no-deps --no-build-isolation --editable . \
	&& touch $@
endef

# $(call pin,file,what to resolve)
define pin
.venv-pins/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-header $(2) --output-file $(1) pyproject.toml
endef
