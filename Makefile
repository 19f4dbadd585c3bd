# Python to build .venv with: 3.11 or newer. Ports, providers, catalogue, models, replicas and the collector of traces are read by the runner from the environment.
PYTHON ?= python3
export PORT HTTPS_PORT PROVIDERS CATALOG MODELS OTLP REPLICAS VERBOSE EMAIL PURPOSE FROM TO PROVIDER MODEL APPLY

RUN := .venv/bin/python -m
INSTALLED := .venv/installed.json
# `make test PYTEST='-k stream -x'` hands options on.
PYTEST ?=

.DEFAULT_GOAL := help
.PHONY: help run up down status logs admin rotate-keys rewrap-history test test-vault check fresh breaking proto fmt lint type lock bench bench-router bench-analytics bench-capacity reprice test-alerts images sbom dashboards clean
MAKEFLAGS += --no-print-directory

help: ## Say what there is to make
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z%-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Everyday (PORT=8080 PROVIDERS=sandbox|live CATALOG=catalog.toml MODELS=models.toml OTLP=http://host:4317 REPLICAS=worker-openai=3 VERBOSE=1)
run: $(INSTALLED) ## Start everything here, show a first chat, follow the logs; Ctrl-C stops
	@$(RUN) deploy.local run

up: $(INSTALLED) ## Start everything in the background, return when it is healthy
	@$(RUN) deploy.local up

down: $(INSTALLED) ## Stop everything
	@$(RUN) deploy.local down

status: $(INSTALLED) ## Say what runs
	@$(RUN) deploy.local status

logs: $(INSTALLED) ## Follow the logs of what runs
	@$(RUN) deploy.local logs

admin: $(INSTALLED) ## Make EMAIL=someone@example.com an administrator, with a new account when there is none
	@$(RUN) deploy.local admin

rotate-keys: $(INSTALLED) ## Rotate the encryption key of PURPOSE=provider-keys|chat-history, and seal anew what it sealed
	@$(RUN) deploy.local rotate-keys

rewrap-history: $(INSTALLED) ## After `make rotate-keys PURPOSE=chat-history`, have the data keys of the history wrapped anew
	@$(RUN) deploy.local rewrap-history

reprice: $(INSTALLED) ## Price chats anew: FROM=2026-11-01 [TO=… PROVIDER=… MODEL=…]; APPLY=1 changes them, else it only says what would
	@$(RUN) deploy.local reprice

##@ Tests (PYTEST='-k stream -x' for options)
# Half of their time is waiting: three files at a time, each process with servers of its own. One seed, because the names
# of some tests hold sets, and all processes must find the same tests.
test: $(INSTALLED) ## All of them; the few that fail, once more on their own
	@PYTHONHASHSEED=0 $(RUN) tests -n 3 --dist loadfile $(PYTEST)

test-%: $(INSTALLED) ## Those of one folder: unit contract architecture integration e2e reliability
	@$(RUN) pytest tests/$* $(PYTEST)

# Variables of Vault's own command line; without them, the OpenBao of the tests.
test-vault: $(INSTALLED) ## Those of the key vault against the server at VAULT_ADDR (VAULT_TOKEN, VAULT_CACERT, VAULT_NAMESPACE)
	@TEST_VAULT_ADDR='$(VAULT_ADDR)' $(RUN) pytest tests/integration/key_vault $(PYTEST)

test-alerts: ## The alerts, with promtool, which comes with Prometheus (Debian, Ubuntu: apt install prometheus)
	@promtool test rules deploy/prometheus/alerts_test.yml

bench: $(INSTALLED) ## Measure the governed path against the bare one
	@$(RUN) tests.bench

bench-router: $(INSTALLED) ## Measure the way through the router against the direct one
	@$(RUN) tests.bench.router_hop

bench-analytics: $(INSTALLED) ## Measure how analytics takes in a million facts and reports on them
	@$(RUN) tests.bench.analytics

bench-capacity: $(INSTALLED) ## Measure the CPU that each service takes for what people do
	@$(RUN) tests.bench.capacity

##@ Checks
check: lint type fresh ## All that can be known without starting anything: also the rules of layers, protos and access
	@$(RUN) pytest -q tests/architecture

fresh: breaking ## Whether what is generated is as its sources say
	@$(RUN) proto.generate --check
	@$(RUN) deploy.settings_reference --check
	@$(RUN) deploy.grafana.build --check
	@$(RUN) deploy.prometheus.kubernetes --check

breaking: $(INSTALLED) ## Whether the protos break clients of the last release, the newest tag like v1.2.3
	@$(RUN) proto.breaking

lint: $(INSTALLED) ## Style
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

type: $(INSTALLED) ## Types
	@$(RUN) mypy .

fmt: $(INSTALLED) ## Put the code into the common form
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

##@ Shipping (REGISTRY=registry.example.com/ VERSION=1.2.3 PUSH=1)
images: ## Build all images with Docker; PUSH=1 sends them to REGISTRY, with their bills of materials and provenance
	@REVISION=$$(git rev-parse HEAD) docker buildx bake -f deploy/docker/docker-bake.hcl \
	  $(if $(PUSH),--push --sbom=true --provenance=mode=max,--load)

# From the lock files, so that it needs neither images nor the network; packages of Debian are in that of `make images`.
sbom: $(INSTALLED) ## Write the bills of materials of services and jobs, in the form of CycloneDX, to dist/
	@mkdir -p dist
	@for set in runtime jobs; do $(RUN) cyclonedx_py requirements requirements/$$set.txt --pyproject pyproject.toml \
	  --output-reproducible -o dist/$$set.cdx.json 2>/dev/null || exit 1; echo dist/$$set.cdx.json; done

##@ Upkeep
proto: $(INSTALLED) ## Generate the stubs in libs/gen from proto/
	@$(RUN) proto.generate

dashboards: $(INSTALLED) ## Write the dashboards of deploy/grafana anew
	@$(RUN) deploy.grafana.build

COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make lock'
lock: $(INSTALLED) ## Pin the packages of requirements/*.in anew, with hashes; UPGRADE=1 takes the newest
	@$(COMPILE) $(if $(UPGRADE),--upgrade) requirements/dev.in -o requirements/dev.txt
	@for set in runtime jobs build; do $(COMPILE) -c requirements/dev.txt requirements/$$set.in -o requirements/$$set.txt; done
	@echo uv | $(COMPILE) -c requirements/dev.txt - -o requirements/bootstrap.txt

clean: ## Remove the state of the local stack and all caches; .venv stays
	@test ! -d .local || $(MAKE) down
	@rm -rf .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(INSTALLED): requirements/bootstrap.txt requirements/dev.txt deploy/local/install.py
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv and ensurepip: install them (Debian, Ubuntu: apt install python3-venv), or name another Python with PYTHON=" >&2; exit 1; }
	@$(PYTHON) deploy/local/install.py
