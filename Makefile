# make app: set up and run the dashboard.  make test: set up and run the tests.  make help: the rest.
PYTHON ?= python3
PORT   ?= 8501
HOST   ?= 127.0.0.1
BIN    := .venv/bin
export ORT_DISABLE_TELEMETRY := 1
# The names that the dashboard answers to, beside those of this machine: make app HOST=0.0.0.0 ALLOWED_HOSTS=fovea.example.com
ifdef ALLOWED_HOSTS
export FOVEA_ALLOWED_HOSTS := $(ALLOWED_HOSTS)
endif

.PHONY: help app test lint format bench clean
.DEFAULT_GOAL := help

help:
	@echo "make app     set up .venv and run the dashboard on http://$(HOST):$(PORT)  (PORT=, HOST=0.0.0.0 to serve a team,"
	@echo "             ALLOWED_HOSTS=fovea.example.com for the names that it answers to)"
	@echo "make test    set up .venv and run the tests (TESTS=path, ARGS='-k name')"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff rewrite the formatting"
	@echo "make bench   run the benchmarks; their tables are in benchmarks/README.md"
	@echo "make clean   remove .venv and caches (runs in FOVEA_HOME are kept)"

# A virtual environment is made once; its stamps are younger than the requirement files while nothing changed.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Fovea needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": say make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/app.stamp: requirements.txt | $(BIN)/python
	@echo "Setting up .venv: PyTorch and the other packages are fetched, which takes some minutes the first time"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/test.stamp: requirements-dev.txt .venv/app.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

app: .venv/app.stamp
	@echo "Fovea is starting on http://$(HOST):$(PORT)"
	@exec $(BIN)/streamlit run app.py --server.port $(PORT) --server.address $(HOST) --server.headless true

TESTS ?= tests
test: .venv/test.stamp
	$(BIN)/python -m pytest $(TESTS) $(ARGS)

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .typing/fovea && ln -sfn $(CURDIR)/fovea/*.py $(CURDIR)/engine $(CURDIR)/models .typing/fovea/
	$(BIN)/mypy

format: .venv/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/test.stamp
	@failed=; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python -m benchmarks.$$(basename $$file .py) || failed="$$failed $$file"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
