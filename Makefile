# Everything runs in .venv (the peers of `make bench` in .venv-bench), made here from pinned,
# hash-verified packages. Python 3.11 or newer and make are all that it needs.

PYTHON ?= python3
ARGS ?=
# How many processes share the tests; 0: none but one, for ARGS=--pdb.
WORKERS ?= 3
# How many times the usual rounds `make test-deep` plays.
ROUNDS ?= 10
BIN := .venv/bin
# The tests start hundreds of interpreters, which would compile everything again.
unexport PYTHONDONTWRITEBYTECODE
# Otherwise pyright asks the network whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
PIP := python -m pip --disable-pip-version-check --quiet
# Few tests at a time go to a worker, so that the long ones, which come first, are dealt out evenly.
SHARED = -n $(WORKERS) --maxschedchunk 4

# Asked for another Python than .venv has, say so rather than go on with that one.
version = $(shell $(1) -c 'import platform; print(platform.python_version())' 2>/dev/null)
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard .venv/bin/python),)
ifeq ($(filter clean,$(MAKECMDGOALS)),)
ifneq ($(call version,.venv/bin/python),$(call version,$(PYTHON)))
$(error .venv has Python $(call version,.venv/bin/python), $(PYTHON) is $(call version,$(PYTHON)): `make clean` first)
endif
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-deep mutants lint bench docs constraints clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/made ## run the example shop (ARGS=--exit ends after the scripted visit)
	@$(BIN)/python -m examples.shop $(ARGS)

test: .venv/made ## run the tests (ARGS goes to pytest)
	@$(BIN)/python -m pytest $(SHARED) $(ARGS)

test-deep: .venv/made ## play what grows with rounds ROUNDS times as often (long)
	@STATEHOLD_ROUNDS=$(ROUNDS) HYPOTHESIS_PROFILE=thorough \
		$(BIN)/python -m pytest $(SHARED) -m "deep or rounds" $(ARGS)

mutants: .venv/made ## plant faults in copies of two drivers, each of which the kit has to catch (long; ARGS=--help)
	@$(BIN)/python -m mutants $(ARGS)

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

constraints: .venv/made ## pin what pyproject.toml asks for (UPGRADE=--upgrade: the newest of everything)
	@$(call pin,constraints.txt,--all-extras --group dev)
	@$(call pin,constraints-bench.txt,--extra server --extra pydantic --extra token --extra redis --extra sql --group bench)

clean: ## remove everything that make has made
	rm -rf .venv .venv-bench site dist .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	find src tests examples bench mutants -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

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
test -x $(1)/bin/python || $(PYTHON) -m venv $(1); \
$(1)/bin/$(PIP) --version >/dev/null 2>&1 || $(1)/bin/python -m ensurepip >/dev/null
endef

# The pins are installed as requirements, since pip checks each hash there. They are complete, so
# nothing is looked for beside them (older pips would, for what is asked for with an extra), and the
# project itself, which comes last, brings nothing along; `pip check` finds what is missing.
# $(call install,folder,pins)
define install
$(call venv,$(1)); \
echo "installing $(2) into $(1) (a minute or two the first time)"; \
$(1)/bin/$(PIP) install --no-deps --require-hashes --only-binary :all: -r $(2) \
	&& $(1)/bin/$(PIP) install --no-deps --no-build-isolation --editable . \
	&& $(1)/bin/$(PIP) check \
	&& touch $@
endef

# $(call pin,file,what to resolve)
define pin
$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-header $(2) --output-file $(1) pyproject.toml
endef
