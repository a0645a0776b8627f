# The contributor's commands; CI runs the same. `make` alone lists them.
SHELL := /bin/bash
PORT ?= 8000
RATE ?= 2
DEVICE ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
BASE := models/smollm2-135m-instruct
ADAPTER := adapters/news-smollm2
MODEL := models/news-smollm2
RUN := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help serve test coverage check format load limit openapi lock demo packages packages-dev

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

serve: packages $(MODEL)/config.json ## set up what is missing and serve on PORT (default 8000)
	FRONTPAGE_PORT=$(PORT) $(RUN) -m app

test: packages-dev $(MODEL)/config.json ## set up what is missing and run all tests
	$(RUN) -m pytest
	@echo "==> all tests passed; next: make serve, or make check before a commit"

coverage: packages-dev $(MODEL)/config.json ## run all tests and list the lines of app/ and training/ that none ran
	$(RUN) -m pytest --cov

check: packages-dev ## lint, formatting, strict types, and whether all that is imported is declared
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/deptry .
	.venv/bin/deptry . --exclude '\.venv' --ignore DEP002,DEP004 # tests and tools too, which may use what is for developers

format: packages-dev ## format and mend what the linter can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

load: packages-dev ## open load of RATE (default 2) requests a second on the service at PORT
	$(RUN) -m loadtests.compare service=http://127.0.0.1:$(PORT) --kinds predict,rank,chat --rate $(RATE)

limit: packages-dev $(MODEL)/config.json ## how near to the hardware's limit the service is (a quarter of an hour)
	$(RUN) -m loadtests.limit --json runs/limit.json

openapi: packages-dev $(MODEL)/config.json ## write docs/openapi.json, docs/api.md and the table of settings
	$(RUN) -m tools.openapi docs/openapi.json
	$(RUN) -m tools.api_doc docs/api.md
	$(RUN) -m tools.settings_table docs/operations/settings.md

lock: packages-dev ## resolve pyproject.toml's pins again into requirements/*.txt
	$(RUN) requirements/lock.py

demo: ## show the containers at work: build, serve, watch, load, break, drain (needs Docker)
	python3 docker/demo.py

packages:
	@requirements/install.sh $(DEVICE)

packages-dev:
	@requirements/install.sh $(DEVICE) train load ray dev

$(BASE)/config.json: | packages
	@echo "==> bringing SmolLM2-135M-Instruct into $(BASE)"
	@$(RUN) -m training download smollm2

$(MODEL)/config.json: $(ADAPTER)/adapter_model.safetensors $(ADAPTER)/profile.json | $(BASE)/config.json
	@echo "==> merging $(ADAPTER) into it: the default model, $(MODEL)"
	@$(RUN) -m training merge --no-check --base $(BASE) --adapter $(ADAPTER) --output $(MODEL)
