# Two commands to begin with: `make demo` and `make test`. Each sets up what it needs; a second call starts at once.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed
DOCS := .venv/.docs

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test servers shuffled long long-tests properties zones crash cluster matrix lint docs bench bench-servers bench-peers screenshots clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP)  ## a virtual environment in .venv with pinned dependencies

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(SETUP)  ## sample files in, tables out, and the proof that a rerun changes nothing
	@$(BIN)/etl demo

dev: $(SETUP)  ## the Dagster UI on the same data, with sensor and schedule running
	@$(BIN)/dagster dev

kafka:  ## a real one-node Kafka broker at localhost:9092, until Ctrl-C (needs Java 17 and Maven)
	@deploy/kafka/start.sh

# The bytecode of what hundreds of processes load is kept, whatever the environment says.
test servers shuffled long long-tests properties crash cluster: export PYTHONDONTWRITEBYTECODE :=

# Four at a time on two cores: some of them mostly wait, for a daemon or for a lock.
test: $(SETUP)  ## all tests but the long ones and those of servers
	@$(BIN)/python -m pytest -q -n 4 --dist worksteal -m 'not stress and not long and not servers'

servers: $(SETUP)  ## the tests on a real Kafka broker, PostgreSQL and S3 server: those that ETL_TEST_... name
	@$(BIN)/python -m pytest -q -n 4 --dist worksteal -m 'servers and not stress and not long'

SEED ?= $(shell $(PYTHON) -c 'import random; print(random.SystemRandom().randrange(2**32))')
shuffled: $(SETUP)  ## the tests of `make test` in another order, by SEED
	@seed=$(SEED); echo "the same order again: make shuffled SEED=$$seed"; \
	ETL_TEST_ORDER=$$seed $(MAKE) --no-print-directory test

# The properties that `make test` tries on a fixed set of examples are tried on new ones here; SEED=... repeats them.
long: long-tests  ## the demo from an installed package, the UI in a browser, fifty rebuilds, properties on new examples
	@seed=$(SEED); echo "properties on new examples; the same ones again: make properties SEED=$$seed"; \
	$(MAKE) --no-print-directory properties SEED=$$seed

long-tests: $(SETUP)
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal -m 'long and not stress'

properties: $(SETUP)  ## every property on new examples, from SEED
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'hypothesis and not stress' \
	  --hypothesis-profile drawn --hypothesis-seed $(SEED)

# On the disk, while other tests work in memory where there is enough of it. A lake's sessions are in UTC like those of
# the file, and its server says when a day has begun: without servers. TIMELESS: what is left out, test_NAME.py each.
CONTRACTS := etl_project_tests/contracts
zones: $(SETUP)  ## the contracts under the time zones of Shanghai and New York
	@for zone in Asia/Shanghai America/New_York; do \
	  echo "contracts under TZ=$$zone"; \
	  env -u ETL_TEST_POSTGRES -u ETL_TEST_S3 -u PYTHONDONTWRITEBYTECODE TMPDIR=/tmp TZ=$$zone \
	    $(BIN)/python -m pytest -q -n 3 --dist worksteal -m 'not stress and not long' -k 'not twice' \
	    $(TIMELESS:%=--ignore=$(CONTRACTS)/test_%.py) $(CONTRACTS) || exit 1; \
	done

crash: $(SETUP)  ## hundreds of SIGKILLs at random moments (minutes)
	@$(BIN)/python -m pytest -q -m stress

# Needs redis-server and faketime (Debian's packages; rabbitmq-server for what is tried on it), and what ETL_TEST_POSTGRES and
# ETL_TEST_S3 name.
cluster: $(SETUP)  ## a daemon and three workers under faults end as one machine does (minutes)
	@$(BIN)/python -m pytest -q -m stress etl_project_tests/crash/test_cluster.py etl_project_tests/crash/test_workers.py

matrix: $(SETUP)  ## the IO managers with the oldest to the newest versions of what they need (network)
	@$(BIN)/python -m etl_project_tests.matrix

lint: $(SETUP)  ## format, lint, types, YAML, definitions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy --python-version 3.10 --no-warn-return-any --no-warn-unused-ignores -p etl_project.storage
	@$(BIN)/dg check yaml
	@$(BIN)/dagster definitions validate

docs: $(DOCS)  ## the documentation as a site in build/site; broken links fail
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/site.py

$(DOCS): $(SETUP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

bench: $(SETUP)  ## benchmarks: ratios against a floor measured in the same run
	@$(BIN)/python benchmarks/drain.py

bench-servers: $(SETUP)  ## ratios of warehouses, lakes, looks and workers on servers (ETL_TEST_POSTGRES, ETL_TEST_S3; an hour)
	@$(BIN)/python -m benchmarks.warehouses
	@$(BIN)/python -m benchmarks.quiet_tick --servers --files 5000
	@$(BIN)/python -m benchmarks.workers

bench-peers: $(SETUP)  ## who is right after a kill, two writers, a second run, and how fast: us and others (network, hours)
	@$(BIN)/python benchmarks/peers/correct.py
	@$(BIN)/python benchmarks/peers/fast.py
	@$(BIN)/python benchmarks/peers/backlog.py
	@$(BIN)/python benchmarks/peers/tpch.py
	@$(BIN)/python benchmarks/peers/sensor.py
	@test -z "$$ETL_TEST_KAFKA" || $(BIN)/python benchmarks/peers/kafka.py "$$ETL_TEST_KAFKA"

screenshots: $(SETUP)  ## the README's pictures, from the demo in a real browser (needs chromium)
	@$(BIN)/python -m etl_project_tests.browser.screenshots docs/pictures

clean:  ## remove the virtual environment and caches; data/ stays
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
