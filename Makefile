# Klinehouse: every command a person needs. `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.8

# Nothing here phones home, and Prefect keeps its state beside the project instead of in the user's home.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT := false
export PREFECT_HOME ?= $(CURDIR)/.prefect

.DEFAULT_GOAL := help
.PHONY: help install demo demo-live docs serve stop test check format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## virtual environment with the locked dependencies

$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Klinehouse needs Python 3.11 or newer, found %s; set PYTHON=python3.11" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

lock: ## resolve pyproject.toml anew into requirements.lock (hashes, no registry host)
	$(UV) pip compile --quiet --universal --python-version 3.11 --group dev --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

check: install ## lint, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyrefly check

format: install ## format and mend what ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

test: check ## lint, types and the whole suite
	@$(BIN)/python -m pytest -n 3 --dist loadfile

demo: install ## the whole research path on real bars, on a market inside the process
	@$(BIN)/python -m flows.demo

demo-live: install ## the whole live side for a minute, trading on paper in a market inside the process
	@$(BIN)/python -m flows.demo_live

docs: install ## run or parse every block, command and link of the pages, run the tutorial, build the site into site/
	@$(BIN)/python -m pytest tests/docs/test_pages.py tests/docs/blocks.py tests/docs/notebook.py tests/docs/tutorial.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel-check: install ## the wheel alone in an empty environment, for each of PYTHONS="python3.11 python3.12"
	@KLINEHOUSE_WHEEL_PYTHONS="$(or $(PYTHONS),$(PYTHON))" $(BIN)/python -m pytest tests/test_packaging.py

audit: install ## known vulnerabilities of the locked dependencies (asks the advisory database: needs the internet)
	@$(UV) tool run --quiet pip-audit==2.10.1 --strict --progress-spinner off --requirement requirements.lock --disable-pip --require-hashes \
		|| { echo "audit: not clean. A table above names vulnerable packages; an ERROR above means that pypi.org could not be asked and nothing is known" >&2; exit 1; }

serve: install ## everything on this machine until Ctrl-C: server, worker, deployments, automations, live (SYMBOLS="BTCUSDT ETHUSDT")
	@$(BIN)/klinehouse serve $(SYMBOLS)

stop: install ## stop the Prefect server that a demo or an ad-hoc run left running
	@$(BIN)/prefect server stop

proof-backfill: install ## a backfill killed at 50 random points ends like one that was not, asking for no page twice
	@$(BIN)/python -m benchmarks.proof_backfill $(or $(POINTS),50)

bench-stream: install ## one connection's speed against the article's client, loop lag, a virtual day of 50 symbols
	@$(BIN)/python -m benchmarks.stream --hours $(or $(HOURS),24)

proof-stream: install ## 10,000 disconnects, 1,000 faults, 50 symbols refilled
	@$(BIN)/python -m benchmarks.proof_stream

proof-live: install ## every way to end the live flow, with a real Prefect server
	@KLINEHOUSE_PROOF=1 $(BIN)/python -m pytest tests/flows/test_live.py

proof-serve: install ## one command serves all; killed workers and runs leave nothing Running; Ctrl-C ends clean
	@KLINEHOUSE_PROOF=1 $(BIN)/python -m pytest tests/flows/test_serve.py

proof-writers: install ## two processes on one partition, 200 rounds
	@PROOF_ROUNDS=200 $(BIN)/python -m pytest tests/lake/test_writers.py

proof-quality: install ## 78 million bars judged within a minute, every injected defect found (builds a 1 GB lake)
	@$(BIN)/python -m benchmarks.quality_lake --rows $(or $(ROWS),78840000)

proof-orders: install ## 1,000 kills of the order desk for two classes of broker: nothing twice, nothing lost; broken rules must fail
	@$(BIN)/python -m benchmarks.proof_orders --kills $(or $(KILLS),1000)

proof-parity: install ## clean days traded alike on three paths, and eight injected causes named (SEEDS=20 periods each)
	@$(BIN)/python -m benchmarks.proof_parity $(or $(SEEDS),20)

proof-fuzz: install ## a million damaged inputs for every parser of bytes from outside (an hour and a half; INPUTS=20000 for minutes)
	@POLARS_MAX_THREADS=1 $(BIN)/python -m benchmarks.fuzz --inputs $(or $(INPUTS),1000000)

proof-lifecycles: install ## 10,000 random histories of orders against a slow reference, 151,200 orders of arrival
	@PROOF_EXAMPLES=$(or $(EXAMPLES),10000) PROOF_PERMUTATIONS=5040 $(BIN)/python -m pytest -n 2 --timeout=0 \
		tests/orders/test_machine.py tests/orders/test_permutations.py

proof-properties: install ## every property once more with cases never tried before, ROUNDS=20 times
	@for round in $$(seq $(or $(ROUNDS),20)); do \
		$(BIN)/python -m pytest -n 2 -m hypothesis --hypothesis-profile search || exit 1; done

proof-powercut: install ## power cut 500 times on a disk that drops what was not synced: nothing was sent that is not on record
	@$(BIN)/python -m benchmarks.lost_writes --cuts $(or $(CUTS),500)

bench-orders: install ## tick to order, cancels behind a queue of ticks, a start on a million journal lines
	@$(BIN)/python -m benchmarks.orders

bench-lake: install ## the lake's and the backfill's speeds (26 and 79 million rows, some minutes)
	@missed=0; for script in backfill_page rate_budget "lake_reads --full" "lake_volume --full" "lake_commits --full"; do \
		$(BIN)/python -m benchmarks.$$script || missed=1; done; exit $$missed

bench-cost: install ## what 500 and 10,000 symbols cost, by a model that is held against measured runs (five minutes)
	@$(BIN)/python -m benchmarks.cost_model

bench-ladder: install ## CSV, lake, object storage and Redis: where each begins to pay
	@$(BIN)/python -m benchmarks.storage_ladder

bench-orchestration: install ## what Prefect costs: a backfill of 200 symbols through the flow and as a plain call
	@$(BIN)/python -m benchmarks.orchestration

bench-features: install ## feature kernels against the article's loop, pandas and TA-Lib; the leak prover's time
	@$(BIN)/python -m benchmarks.features

bench-sweep: install ## sweep speed, memory and certification against VectorBT and others
	@$(BIN)/python -m benchmarks.sweep

proof-sweep: install ## a sweep killed at ten random points ends like one that was not
	@$(BIN)/python -m benchmarks.proof_sweep

proof-verdict: install ## 200 sweeps of noise and 50 of a planted edge through the whole verdict
	@$(BIN)/python -m benchmarks.proof_verdict

clean: ## remove the environment and everything generated
	rm -rf $(VENV) data reports .prefect site
