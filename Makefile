# make demo    the web app on http://127.0.0.1:7860
# make test    every test: units, the app through its API, the page in a browser
# make lint    ruff and mypy
# make bench   the figures of the README
# Each of them first sets up .venv where it is missing or older than the requirements.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test lint bench chromium clean

demo: $(VENV)/.app
	$(RUN) app.py

test: $(VENV)/.dev chromium
	HF_HUB_OFFLINE=1 $(RUN) -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: $(VENV)/.dev
	@set -e; for program in benchmarks/*.py; do echo "== $$program"; $(RUN) $$program; done

$(VENV)/.app: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is older or missing. Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.app
	$(RUN) -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@

chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then sudo=; \
	  elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then sudo=sudo; \
	  else echo "The browser tests need Chromium: install the package 'chromium' (or Google Chrome) and run make test again." >&2; exit 1; fi; \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium; }

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
