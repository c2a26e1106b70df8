# Everything runs in .venv, which the first target you ask for makes. GNU make 3.81 and a POSIX sh are enough.
# An interrupted set-up is finished by the next call; a finished one is redone only when
# pyproject.toml or constraints.txt changes, or when the folder was moved.

# The Python that a new .venv is made from. Empty: the first of these that runs and is new enough.
PYTHON ?=
PYTHONS = python3.13 python3.12 python3.11 python3
EXTRAS = book,test,browser,dev
# Processes that share the tests of `make test`.
WORKERS ?= 2

VENV = .venv
RUN = $(VENV)/bin/python
READY = $(VENV)/.ready
LAB_READY = $(VENV)/.ready-lab
BENCH_READY = $(VENV)/.ready-bench
# JupyterLab asks nobody for news, updates or extensions.
QUIET_LAB = --LabApp.news_url=None --LabApp.extension_manager=readonly \
  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
PIP = $(RUN) -m pip --disable-pip-version-check install -c constraints.txt

# Of no use any more: the folder was moved, or the Python below it is gone.
usable = [ "$$(cat $(VENV)/.made-in 2>/dev/null)" = "$$(pwd -P)" ] && $(RUN) -m pip --version >/dev/null 2>&1
ifneq ($(wildcard $(READY)),)
ifneq ($(shell [ "$$(cat $(VENV)/.made-in)" = "$$(pwd -P)" ] && $(RUN) -c 'print("ok")' 2>/dev/null),ok)
.PHONY: $(READY)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help book test test-all test-rest lint types unit lab bench refresh check setup clean distclean

help:
	@echo 'make book       build the book to _build/html and print its address'
	@echo 'make test       format, lint, types and every test a contributor needs'
	@echo 'make test-all   the same, then the browser tests and the slow ones'
	@echo 'make check      hygiene of the notebooks and their stored outputs (seconds)'
	@echo 'make refresh    re-execute the notebooks and store their outputs'
	@echo 'make lab        open the notebooks in JupyterLab'
	@echo 'make bench      measure Lipschitz constants against other tools (half an hour)'
	@echo 'make setup      only make .venv and install into it'
	@echo 'make clean      remove what a build leaves; make distclean removes .venv too'
	@echo
	@echo 'Each makes .venv on first use. PYTHON=python3.12 chooses the Python of a new .venv;'
	@echo 'WORKERS=2 processes share the tests of make test; WORKERS=0 runs them in one.'
	@echo 'ARGS="..." is passed on to the program that the target calls last.'

book: $(READY)
	$(VENV)/bin/lipbook build $(ARGS)

test: lint types unit

test-all: test test-rest

lint: $(READY)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

types: $(READY)
	$(RUN) -m mypy

unit: $(READY)
	$(RUN) -m pytest -n $(WORKERS) -m 'not browser and not slow' $(ARGS)

test-rest: $(READY)
	$(RUN) -m pytest -m 'browser or slow' $(ARGS)

check: $(READY)
	$(VENV)/bin/lipbook check $(ARGS)

refresh: $(READY)
	$(VENV)/bin/lipbook refresh $(ARGS)

lab: $(LAB_READY)
	$(RUN) -m jupyterlab --notebook-dir=. $(QUIET_LAB) $(ARGS)

bench: $(BENCH_READY)
	$(RUN) -m benchmarks.lipschitz $(ARGS)

setup: $(READY)

# torch goes in first and alone: asked for by its exact version, plain pip takes the build that fits this machine.
$(READY): pyproject.toml constraints.txt
	@rm -f $(READY) $(LAB_READY) $(BENCH_READY)
	@$(usable) || { $(make_venv); }
	@echo "[2/3] torch"
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@echo "[3/3] lipbook and its other requirements (about 150 packages)"
	@$(PIP) -e '.[$(EXTRAS)]'
	@touch $(READY)
	@echo "Set-up done: $(VENV), $$($(RUN) --version)."

$(LAB_READY): $(READY)
	@echo "[+] JupyterLab"
	@$(PIP) -e '.[$(EXTRAS),lab]'
	@touch $(LAB_READY)

$(BENCH_READY): $(READY)
	@echo "[+] the tools to compare with"
	@$(PIP) -e '.[$(EXTRAS),bench]'
	@touch $(BENCH_READY)

# A pyenv shim can be there and not run, and Debian ships a Python without ensurepip: try before choosing.
define make_venv
probe='import sys; assert sys.version_info >= (3, 11); import ensurepip, venv'; found=; \
for candidate in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
  if "$$candidate" -c "$$probe" >/dev/null 2>&1; then found=$$candidate; break; fi; \
done; \
if [ -z "$$found" ]; then \
  echo 'make: no Python to make .venv from. Tried: $(or $(PYTHON),$(PYTHONS)).' >&2; \
  echo 'It must be 3.11 or newer and have the venv and ensurepip modules (on Debian and Ubuntu:' >&2; \
  echo 'apt install python3-venv). Name one with: make PYTHON=/path/to/python3 ...' >&2; \
  exit 2; \
fi; \
echo "[1/3] $(VENV), from $$found ($$("$$found" --version))"; \
"$$found" -m venv --clear $(VENV) && pwd -P > $(VENV)/.made-in
endef

clean:
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis build ./*.egg-info
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
