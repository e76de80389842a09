# Two commands matter: `make demo` and `make test`. Both set up what they need in .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: setup demo test quick check audit format lock bench coverage proof clean

setup: $(VENV)/.installed

$(VENV)/.installed: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup              ## the main job: sandbox providers, the daemon, a shop's day, the report
	$(BIN)/reconcile demo

# A hundred processes of ours are started: without bytecode on disk each of them would compile everything again.
test: setup              ## all tests, on SQLite and on a real PostgreSQL that the tests start
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

quick: setup             ## the tests that take less than five seconds each
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m "not long"

check: setup             ## format, lint, types, import contracts, insecure habits
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --severity-level medium --skip B608 reconciler providers

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup             ## benchmarks: ratios to floors measured in the same run
	$(BIN)/python -m tests.benchmarks

# Two at a time, the longest first, since a measured process takes twice as long. Long tests (kills, walks, floods) repeat
# what the short ones prove, and of some folders a few files are all that is needed. Fails below 100 % of branches.
MEASURED         := report ledger console outbox loop protection moving backup alerts intake status
MEASURED_report  := tests/report/test_*.py
MEASURED_console := $(addprefix tests/console/test_,access.py ajar.py api.py elsewhere.py pages.py)
MEASURED_intake  := $(addprefix tests/intake/test_,answers.py server.py)
MEASURED_status  := tests/status/test_read_budget.py

coverage: setup          ## every branch of the ledger, worker, planner and sweeps is taken by the short tests, or this fails
	rm -rf build/coverage && mkdir -p build/coverage
	+$(MAKE) --jobs=2 --output-sync=target $(MEASURED:%=measured-%)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

measured-%:
	PYTHONDONTWRITEBYTECODE= $(BIN)/coverage run -m pytest -n 0 -q -m "not long" $(or $(MEASURED_$*),tests/$*)

proof: setup             ## what is for a night or a week-end: seeds, weeks, kills, power cuts, nodes, fuzzing, mutations
	$(BIN)/python -m tests.simulation --seeds 10000
	$(BIN)/python -m tests.simulation --profile week --seeds 1000
	$(BIN)/python -m tests.simulation.hunting
	$(BIN)/python -m tests.crashes --kills 200 --cuts 200 --crashes 10
	$(BIN)/python -m tests.crashes.nodes --rounds 10
	$(BIN)/python -m tests.fuzz --examples 20000
	$(BIN)/python -m tests.mutation --postgres --minutes 240

lock:                    ## constraints.txt anew: every package with its hashes, no index and no host named
	$(PYTHON) -m uv pip compile pyproject.toml --extra dev --extra otel --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header --quiet --output-file constraints.txt

audit: setup             ## known vulnerabilities of the locked packages; exits with 3 where no advisory source is reached
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.10,<3'
	.ci/audit $(VENV)-audit/bin/pip-audit constraints.txt

clean:
	rm -rf $(VENV) $(VENV)-audit .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
