# The commands for contributors, which CI runs too. `make` alone lists them.
SHELL := /bin/bash
PORT ?= 8000
RATE ?= 2
DEVICE ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
BASE := models/smollm2-135m-instruct
ENCODER := models/all-minilm-l6-v2
ADAPTER := adapters/news-smollm2
MODEL := models/news-smollm2
UNDONE := models/news-smollm2-undone
RUN := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help serve test coverage check format load limit fuzz slow clients site openapi lock demo packages packages-dev packages-test
# What is missing of the system is named before anything is downloaded, so in this order.
.NOTPARALLEL:

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# With weights of 8 bits where the processor has instructions for them, else as merged.
INT8 := $(if $(filter cpu,$(DEVICE)),$(shell grep -qwE 'avx512_vnni|amx_int8' /proc/cpuinfo && echo yes))
SERVED := $(MODEL)$(if $(INT8),-int8)

# Beside the tuned model its base, for comparison, unless the environment says what to serve.
BESIDE := $(if $(FRONTPAGE_MODEL)$(FRONTPAGE_ADAPTERS)$(FRONTPAGE_CONFIG)$(FRONTPAGE_SECRETS),,FRONTPAGE_MODEL=$(SERVED) FRONTPAGE_MODEL_NAME=$(notdir $(MODEL)) FRONTPAGE_ADAPTERS='{"$(notdir $(BASE))": "$(UNDONE)"}')

COMPILED := $(if $(BESIDE),$(if $(filter cpu,$(DEVICE)),$(SERVED)/compiled/by-make))

serve: packages $(SERVED)/config.json $(ENCODER)/config.json $(UNDONE)/adapter_config.json $(COMPILED) ## install what is missing and serve on PORT (default 8000)
	FRONTPAGE_PORT=$(PORT) $(BESIDE) $(RUN) -m app

test: packages-test $(MODEL)/config.json $(ENCODER)/config.json ## install what is missing and run all tests
	$(RUN) -m pytest
	@echo "==> all tests passed; next: make serve, or make check before a commit"

coverage: packages-test $(MODEL)/config.json $(ENCODER)/config.json ## run all tests and list the lines of app/ and training/ that no test runs
	$(RUN) -m pytest --cov

check: packages-dev ## check linting, formatting, types, and that all imported packages are declared
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/deptry .
	.venv/bin/deptry . --exclude '\.venv' --ignore DEP002,DEP004

format: packages-dev ## format the code and fix what the linter can fix
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

load: packages-dev ## send RATE (default 2) requests per second to the service on PORT
	$(RUN) -m loadtests.compare service=http://127.0.0.1:$(PORT) --kinds predict,rank,chat --rate $(RATE)

limit: packages-dev $(MODEL)/config.json ## measure how close the service is to the hardware's limit (15 minutes)
	$(RUN) -m loadtests.limit --json runs/limit.json

fuzz: packages-test $(MODEL)/config.json ## send 2,000 faulty requests to the service and look for faults of its own (5 minutes)
	$(RUN) -m tests.fuzz

slow: packages-test $(MODEL)/config.json ## run the tests that make test leaves out because they are slow and rarely break (half an hour)
	$(RUN) -m pytest tests/slow

clients: packages-dev $(MODEL)/config.json ## try OpenAI's clients, LangChain and LiteLLM, which are installed into .venv/share/clients
	tests/clients/install.sh
	$(RUN) -m tests.clients

site: packages-dev ## build the documents as a site, with search, into runs/site-docs
	@requirements/npm.sh
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict
	@echo "==> runs/site-docs/index.html is ready; for search: $(RUN) -m http.server 8080 --bind 127.0.0.1 --directory runs/site-docs"

openapi: packages-dev $(MODEL)/config.json ## generate docs/openapi.json, docs/api.md, the table and the file of settings
	$(RUN) -m tools.openapi docs/openapi.json
	$(RUN) -m tools.api_doc docs/api.md
	$(RUN) -m tools.settings_table docs/operations/settings.md
	$(RUN) -m tools.settings_file docs/operations/settings.env

lock: packages-dev ## write requirements/*.txt anew from pyproject.toml's pins
	$(RUN) requirements/lock.py

demo: ## try the containers: build, serve, monitor, load, break, drain (needs Docker)
	python3 docker/demo.py

packages:
	@requirements/install.sh $(DEVICE)

packages-dev:
	@requirements/install.sh $(DEVICE) train load ray faiss dev

packages-test:
	@requirements/system.sh tests
	@requirements/install.sh $(DEVICE) train load ray faiss dev
	@requirements/promtool.sh
	@requirements/npm.sh
	@requirements/browser.sh

$(BASE)/config.json: | packages
	@requirements/part.sh "downloading SmolLM2-135M-Instruct (93 MB) and converting it into $(BASE)" \
		$(RUN) -m training download smollm2

$(ENCODER)/config.json: | packages
	@requirements/part.sh "downloading the sentence encoder all-MiniLM-L6-v2 (84 MB) into $(ENCODER)" \
		$(RUN) -m training download minilm

RANKER := $(wildcard $(addprefix $(ADAPTER)/,ranker.json ranker.txt first_stage.txt tower.npz))

$(MODEL)/config.json: $(ADAPTER)/adapter_model.safetensors $(ADAPTER)/profile.json $(RANKER) | $(BASE)/config.json
	@requirements/part.sh "merging $(ADAPTER) into it: the default model, $(MODEL)" \
		$(RUN) -m training merge --no-check --base $(BASE) --adapter $(ADAPTER) --output $(MODEL)

$(MODEL)-int8/config.json: $(MODEL)/config.json
	@requirements/part.sh "giving it weights of 8 bits, with which this processor is faster: $(MODEL)-int8" \
		$(RUN) -m training quantize --no-check --model $(MODEL) --to int8 --output $(MODEL)-int8

$(SERVED)/compiled/by-make: $(SERVED)/config.json $(UNDONE)/adapter_config.json requirements/$(DEVICE).txt
	@if ! { command -v g++ && $(RUN) -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")'; } >/dev/null 2>&1; then \
		echo "==> not compiled, which needs g++ and Python's headers (python3-dev): the service is a little slower"; \
	elif requirements/part.sh "compiling $(SERVED) for this processor, which takes two minutes on two cores" \
		env $(BESIDE) $(RUN) -m app compile; then touch $@; \
	else echo "==> going on: without that, the service is a little slower"; fi

$(UNDONE)/adapter_config.json: $(ADAPTER)/adapter_model.safetensors $(ADAPTER)/profile.json | packages
	@requirements/part.sh "writing $(UNDONE), with which the default model answers as its base does" \
		$(RUN) -m training undo --adapter $(ADAPTER) --output $(UNDONE)
