# `make` alone lists the targets. Everything here also works without make: the recipes are one line each.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak up migrate contracts format faults lock screenshots states
PYTHON := .venv/bin/python

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## set up, then run an example site with simulated gateways; Ctrl-C ends all of it
	@deploy/dev/setup demo
	@exec .venv/bin/depotgrid up --demo $(ARGS)

test: ## set up, then run every test against real services
	@deploy/dev/setup test
	@exec $(PYTHON) -m pytest $(ARGS)

check: ## style, types, import rules, the pages' types, and that no promise of the HTTP interface is broken
	@deploy/dev/setup demo
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m pyright
	.venv/bin/lint-imports
	cd services/web && ../../deploy/dev/node --run check && ../../deploy/dev/node --run test
	$(PYTHON) -m pytest tests/contracts/test_http_promises.py tests/read_api/test_openapi.py tests/command_api/test_openapi.py

bench: ## measure speed, one table and build/bench.json; ARGS="mqtt card …" for some of it
	@deploy/dev/setup bench
	@$(PYTHON) -m bench $(ARGS)
	@$(if $(ARGS),,PYTHONPATH=libs exec build/bench-venv/bin/python bench/balancing.py)

soak: ## 20 minutes at 2,000 packets/s, and nothing that grows; SOAK_MINUTES=2 for a shorter run
	@deploy/dev/setup bench
	@exec $(PYTHON) -m bench.soak

faults: ## the fault matrix at full size (25 minutes), and docs/fault-report.md with its figures
	@deploy/dev/setup test
	@FAULTS=full exec $(PYTHON) -m pytest -m faults $(ARGS)

up: ## run everything on this machine; ARGS="--port 8080 --data-dir DIR …"
	@deploy/dev/setup demo
	@exec .venv/bin/depotgrid up $(ARGS)

migrate: ## bring the database of DEPOTGRID_DATABASE_URL to the newest migration
	@deploy/dev/setup python
	@exec .venv/bin/depotgrid db migrate $(ARGS)

contracts: ## write anew what is generated from the code
	@deploy/dev/setup python
	$(PYTHON) -m service_runtime.settings > docs/settings.md
	$(PYTHON) -m read_api.openapi contracts/openapi.read.json
	$(PYTHON) -m command_api.openapi contracts/openapi.command.json
	$(PYTHON) -m tests.contracts.http_promises

screenshots: ## pictures of the web pages for the guides, into docs/images
	@deploy/dev/setup test
	@exec $(PYTHON) -m tests.browser.screenshots

states: ## every state of every page in both colours and three widths, all looked at; pictures in build/states
	@deploy/dev/setup test
	@STATES=whole exec $(PYTHON) -m pytest tests/browser/test_pages_in_chromium.py -k every_state $(ARGS)

format: ## format the code and sort its imports
	@deploy/dev/setup python
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

lock: ## resolve dependencies anew into requirements.lock (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --group dev --group balancing pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --group pyproject.toml:balancing-bench -o requirements-bench.lock
