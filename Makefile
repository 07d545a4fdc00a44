# `make demo` and `make test` do all the set-up; `make help` lists the rest.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$p"; exit; }; done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

CORE := $(wildcard safehandle_debug/_core/*.[ch] safehandle_debug/_core/*/*.[ch] safehandle_debug/ledger/_index/*.[ch])
CHECKED := benchmarks docs samples
PYTEST ?= -n 2
# Under `--handles` a test must neither record this process for itself nor misuse a
# handle on purpose, as those of the core and of the types of handles do.
OWN ?= tests/findings tests/ledger tests/recording tests/cli tests/testing tests/activate tests/samples
SANITIZED ?= tests/core tests/conformance tests/faults tests/finalization tests/handles tests/marshal tests/watch tests/ledger
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g

.PHONY: help demo test lint check-types check-core unit own sanitize benchmark soak format expected cost docs screenshot clean

help: ## Lists what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: $(VENV)/installed ## Starts the sample program under watch and opens the screen on it
	@$(BIN)/safehandle demo

test: lint check-types check-core unit ## Checks everything: style, types, C, imports, tests

$(VENV)/tools: pyproject.toml .ci/preflight.py
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: there is no $(PYTHON): install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) .ci/preflight.py
	@echo "making $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install --group dev
	@touch $@

$(VENV)/installed: $(VENV)/tools setup.py safehandle_debug/activate/safehandle_debug.pth $(CORE)
	@echo "building the C core"
	@$(PIP) install --no-build-isolation --editable '.[tui,pytest]'
	@touch $@

lint: $(VENV)/installed ## Style of Python and C, and the rules of who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CORE)
	$(BIN)/lint-imports

check-types: $(VENV)/installed ## Types of all Python code
	$(BIN)/mypy
	$(BIN)/mypy --strict $(CHECKED)

check-core: $(VENV)/installed ## The C core against its stub
	$(BIN)/python -P -m mypy.stubtest --mypy-config-file pyproject.toml --ignore-disjoint-bases \
		--allowlist tests/house/stubtest_allowlist.txt safehandle_debug._native safehandle_debug.ledger._index

unit: $(VENV)/installed ## The tests alone; PYTEST="-k name" chooses
	$(BIN)/python -m pytest $(PYTEST)

own: $(VENV)/installed ## Our own tests that work in one process, under `pytest --handles`
	$(BIN)/python -m pytest --handles $(PYTEST) $(OWN)

# The core built with the sanitizers has an environment of its own; what else
# the tests need it takes from the first one.
SANITIZED_VENV := build/sanitize/venv
sanitize: $(VENV)/installed ## The core's tests under AddressSanitizer and UBSan
	@$(BIN)/python -m venv --without-pip --clear $(SANITIZED_VENV)
	@site=$$($(SANITIZED_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	$(BIN)/python -c 'import os, sysconfig; print(os.path.abspath(sysconfig.get_path("purelib")))' \
		> "$$site/dependencies.pth"; \
	CFLAGS="$(SANITIZE)" LDFLAGS="$(SANITIZE)" $(BIN)/python setup.py --quiet \
		build --force --build-base build/sanitize --build-lib "$$site"
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" PYTHONMALLOC=malloc SAFEHANDLE_SANITIZED=1 \
	ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0:handle_segv=0:handle_abort=0:allocator_may_return_null=1 \
	UBSAN_OPTIONS=print_stacktrace=1 \
	$(SANITIZED_VENV)/bin/python -P -m pytest -p no:cacheprovider $(PYTEST) $(SANITIZED)

benchmark: $(VENV)/installed ## Measures the costs beside the alternatives
	@over=0; for name in core calls descriptors plugin; do \
		$(BIN)/python benchmarks/$$name.py || over=1; echo; \
	done; exit $$over

soak: $(VENV)/installed ## Ten minutes of mixed churn with an exact account (benchmarks/soak.py)
	$(BIN)/python benchmarks/soak.py $(SECONDS)

format: $(VENV)/installed ## Formats Python and C
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CORE)

expected: $(VENV)/installed ## Writes the samples' expected reports anew
	SAFEHANDLE_UPDATE_EXPECTED=1 $(BIN)/python -m pytest -q tests/samples tests/explain/test_docs.py

cost: $(VENV)/installed ## Measures the costs and writes the page about them
	$(BIN)/python docs/cost.py

docs: $(VENV)/installed ## The documentation, in build/site; a warning is an error
	$(BIN)/python -m mkdocs build --strict

screenshot: $(VENV)/installed ## Draws the pictures of README and docs anew
	$(BIN)/python docs/screenshot.py

clean: ## Removes everything that was built
	rm -rf $(VENV) build dist ./*.egg-info safehandle_debug/*.so safehandle_debug/ledger/*.so
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
