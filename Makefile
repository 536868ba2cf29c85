# `make` lists the targets: what stands behind ## is what each is for. Those that need .venv first make it from
# requirements*.txt, where it is missing or these have changed.

PYTHON ?= python3
# An index to take torch from, say of its CPU builds: https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --disable-pip-version-check
# More workers than the two cores of a small machine, as tests wait for processes and pages. The longest come first, as
# tests/conftest.py orders them. Where Python is told to keep no bytecode, each worker would compile every test anew.
PYTEST := HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder

.PHONY: help demo test test-fast coverage lint bench lock chromium clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.app  ## the web app on http://127.0.0.1:7860
	$(RUN) app.py

test: $(VENV)/.dev chromium  ## every test: units, the app through its API, the page in a browser
	$(PYTEST)

test-fast: $(VENV)/.dev  ## the tests that take no longer than two seconds each, without a browser
	$(PYTEST) --ignore tests/browser -m "not slow" --durations 10 --durations-min 2

coverage: $(VENV)/.dev chromium  ## the tests, slower, and the lines of gcr_core that none of them runs
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

lint: $(VENV)/.dev  ## ruff, its format, mypy, and which part imports which
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

bench: $(VENV)/.dev  ## the figures of docs/figures.md
	@set -e; for program in benchmarks/*.py; do echo "== $$program"; $(RUN) $$program; done

# Made anew for another lock: what that one no longer has must not stay.
$(VENV)/.lock: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || { \
	  echo "Python 3.11 to 3.14 is needed; '$(PYTHON)' is another or missing. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(if $(TORCH_INDEX),$(INSTALL) --no-deps --index-url $(TORCH_INDEX) $$(grep ^torch== requirements.txt))
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/.app: pyproject.toml $(VENV)/.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.app
	$(INSTALL) -r requirements-dev.txt
	touch $@

lock: $(VENV)/.uv/bin/uv  ## requirements*.txt: the newest versions within pyproject.toml's ranges
	$(VENV)/.uv/bin/python scripts/lock.py

$(VENV)/.uv/bin/uv:
	$(PYTHON) -m venv $(VENV)/.uv
	$(VENV)/.uv/bin/python -m pip install --disable-pip-version-check uv==0.13.9

chromium:  ## installs Chromium for the browser tests, where there is none and apt-get may
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then sudo=; \
	  elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then sudo=sudo; \
	  else echo "The browser tests need Chromium: install the package 'chromium' (or Google Chrome) and run make test again." >&2; exit 1; fi; \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium; }

clean:  ## removes .venv and what tools have left
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
