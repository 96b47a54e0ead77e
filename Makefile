# `make help` lists what there is to make. PYTHON is the interpreter to build .venv with, 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS ?= tests

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cluster test-live verify record check lint-description \
	check-generated check-surface generate bump newest-generator format coverage pythons lowest newest \
	audit dist docs pictures bench clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '  %-16s %s\n' "$$target" "$$text"; done

setup: $(READY) ## Make .venv with everything that development needs

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "Python's venv module is needed: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV), once; it takes a minute..." >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all,verify]' --group dev
	@touch $@

demo: $(READY) ## Run a command in an isolated sandbox, over real HTTP
	@$(BIN)/sandbox-api execute 'echo $$((2+2))'

test: $(READY) check ## Check and test, in an order of its own: make test [SEED=…] [TESTS=folder]
	@$(BIN)/pytest -n auto -m 'not cluster' $(if $(SEED),--randomly-seed=$(SEED)) $(TESTS)

test-cluster: $(READY) ## Run the tests that make test leaves out, for they need nginx, chromium and zsh
	@missing=; PATH="$$PATH:/usr/sbin"; for each in nginx chromium zsh; do \
		command -v $$each || command -v $$each-browser || missing="$$missing $$each"; \
	done >/dev/null; [ -z "$$missing" ] || { echo "Missing: apt-get install$$missing"; exit 1; }
	@$(BIN)/pytest -n auto -m cluster

test-live: $(READY) ## Run the HTTP tests against another server: make test-live URL=http://host:port
	@test -n "$(URL)" || { echo 'Which server? make test-live URL=http://host:port'; exit 2; }
	@$(BIN)/pytest tests/http --sandbox-url '$(URL)'

verify: $(READY) ## Look whether a server keeps the description: make verify URL=http://host:port [OPTIONS=…]
	@test -n "$(URL)" || { echo 'Which server? make verify URL=http://host:port'; exit 2; }
	@$(BIN)/sandbox-api verify --url '$(URL)' $(OPTIONS)

record: $(READY) ## Write a server's answers to tests/recordings: make record URL=http://host:port
	@test -n "$(URL)" || { echo 'Which server? make record URL=http://host:port'; exit 2; }
	@$(BIN)/python -m scripts.record --url '$(URL)' $(OPTIONS)

check: $(READY) lint-description check-generated check-surface ## Check style and types
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/mypy
	@$(BIN)/pyright

lint-description: $(READY) ## Check openapi/ against the rules of scripts/lint.py
	@$(BIN)/python -m scripts.lint

check-generated: $(READY) ## Fail, naming the cause, when generated/ is not what openapi/ gives
	@$(BIN)/python -m scripts.generate --check

generate: $(READY) ## Write generated/ from openapi/
	@$(BIN)/python -m scripts.generate

bump: $(READY) ## Support another server version, told what changed: make bump [FROM=…] [TO=file]
	@$(BIN)/python -m scripts.bump --from '$(or $(FROM),HEAD)' --to '$(TO)'

check-surface: $(READY) ## Fail when what users can see breaks unannounced: make check-surface [BASE=…]
	@$(BIN)/python -m scripts.surface $(if $(BASE),--base '$(BASE)')

newest-generator: $(READY) ## Tell what the newest openapi-python-client would generate otherwise
	@$(BIN)/python -m scripts.newest_generator

format: $(READY) ## Put the code into the house's style
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/ruff format --quiet

coverage: $(READY) ## Test everything, and tell which lines and branches were not reached
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n auto
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

pythons: $(READY) ## Test everything on each supported Python that is here
	@$(BIN)/nox --session tests

lowest: $(READY) ## Test with the lowest versions of dependencies that pyproject.toml allows
	@$(BIN)/nox --session lowest --error-on-missing-interpreters

newest: $(READY) ## Test with the newest versions of dependencies, as users get them
	@$(BIN)/nox --session newest

audit: $(READY) ## Look up what is installed among known vulnerabilities
	@# Strictly, or what can't be looked up counts as clean.
	@installed=$$($(BIN)/pip freeze --all --exclude-editable) && \
		echo "$$installed" | $(BIN)/pip-audit --strict --disable-pip --no-deps --requirement /dev/stdin

dist: $(READY) ## Build the wheel and the sdist, the same bytes each time, and check them
	@rm -rf dist
	@# What is built has the time of the last commit, or where git knows none, one of hatchling's.
	@moment=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null)}; \
		$${moment:+env SOURCE_DATE_EPOCH=$$moment} $(BIN)/python -m hatchling build
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist/*.whl

docs: $(READY) ## Build the site into site/, to be read without the internet
	@$(BIN)/python -m scripts.site

pictures: $(READY) ## Make the pictures of docs/ again: make pictures [WHICH="page usage"]
	@$(BIN)/python -m scripts.pictures $(WHICH)

bench: $(READY) ## Measure beside the old client, for docs/performance.md: make bench [OPTIONS=--help]
	@$(BIN)/python -m scripts.bench $(OPTIONS)

clean: ## Remove what the other targets made
	@rm -rf $(VENV) .nox .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .coverage* dist site
