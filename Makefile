# Two commands are enough on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
# Whoever may reach this address may use the explorer: 0.0.0.0 opens it to the network.
ADDRESS ?= 127.0.0.1
# Names under which a browser may call it; a web page elsewhere cannot pose as this machine.
HOSTS ?= $(if $(filter 127.0.0.1 localhost,$(ADDRESS)),localhost 127.0.0.1,*)
# Bound to every address, Streamlit would ask a service outside for this machine's own.
NAMED := $(if $(filter 0.0.0.0 ::,$(ADDRESS)),--browser.serverAddress $(shell hostname))
BIN := $(VENV)/bin
# Wheels of another machine's accelerator are several gigabytes; a torch that is already in the
# virtual environment is kept.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
SOURCES := app.py hosted.py core pages deploy make_demo benchmarks tests

.PHONY: run host test check format lint types bench demo clean

run: $(VENV)/.app-ready
	$(BIN)/streamlit run app.py --server.port $(PORT) --server.address $(ADDRESS) \
		$(foreach host,$(HOSTS),--server.allowedHosts '$(host)') $(NAMED)

# For several people, with a policy in SAE_EXPLORER_HOSTING: docs/hosting.md.
host: $(VENV)/.app-ready
	$(BIN)/python hosted.py --server.port $(PORT) --server.address $(ADDRESS)

test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder

check: lint types test

lint: $(VENV)/.dev-ready
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

format: $(VENV)/.dev-ready
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

types: $(VENV)/.dev-ready
	$(BIN)/mypy

bench: $(VENV)/.dev-ready
	$(BIN)/python -m benchmarks

# DEMO takes the options of `python -m make_demo --help`, e.g. DEMO="--device cuda".
demo: $(VENV)/.app-ready
	$(BIN)/python -m make_demo $(DEMO)

$(VENV)/.app-ready: requirements.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements.txt
	touch $@

$(VENV)/.dev-ready: $(VENV)/.app-ready requirements-dev.txt
	$(PIP) --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
