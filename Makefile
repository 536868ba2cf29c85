# `make` lists the targets: what stands behind ## is what each is for. Those that need .venv first make it from
# requirements*.txt, where it is missing or these have changed.

PYTHON ?= python3
# An index to take torch from, say of its CPU builds: https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --disable-pip-version-check
# tests/conftest.py says how many workers there are, and lets the longest tests come first. Where Python is told to keep
# no bytecode, each worker would compile every test anew.
PYTEST := HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest --numprocesses auto --dist loadgroup --no-loadscope-reorder

.PHONY: help demo test test-fast test-firefox coverage lint bench lock chromium clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.app  ## the web app on http://127.0.0.1:7860
	$(RUN) app.py

test: $(VENV)/.dev chromium  ## every test: units, the app through its API, the page in a browser
	$(PYTEST)

test-fast: $(VENV)/.dev  ## the tests that take a second at most each, without a browser
	$(PYTEST) --ignore tests/browser -m "not slow" --durations 10 --durations-min 2

test-firefox: $(VENV)/.dev $(VENV)/.firefox  ## the tests of search, addresses, lightbox and gallery in Firefox
	@command -v firefox-esr >/dev/null || command -v firefox >/dev/null || { \
	  echo "These tests need Firefox: install the package 'firefox-esr' (or 'firefox')." >&2; exit 1; }
	TEST_BROWSER=firefox PYTHONPATH=$(VENV)/.firefox $(PYTEST) \
	  $(patsubst %,tests/browser/test_%_page.py,search address lightbox gallery)

# A newer Playwright asks of Firefox what its ESR 153 has not.
$(VENV)/.firefox: $(VENV)/.lock
	$(INSTALL) --no-deps --upgrade --target $@ playwright==1.64.0 pyee==13.0.1
	touch $@

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

chromium:  ## installs Chromium for the browser tests, without a desktop, where there is none and apt-get may
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do \
	    command -v $$name >/dev/null && exit; \
	  done; \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then sudo=; \
	  elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then sudo=sudo; \
	  else echo "The browser tests need Chromium: install the package 'chromium' (or Google Chrome) and run make test again." >&2; exit 1; fi; \
	  get="$$sudo apt-get install -y -qq --no-install-recommends"; \
	  $$sudo apt-get update -qq && { $$get chromium-headless-shell || $$get chromium; }

clean:  ## removes .venv and what tools have left
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
