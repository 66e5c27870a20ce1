# `make` or `make help` lists the verbs.
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)

UV := $(or $(shell command -v uv 2>/dev/null),.venv/bin/uv)
READY := .venv/.ready
DEMO := build/demo
SERVICE := $(DEMO)/intent-service
MEASURED := build/capacity/intent-service
# Three tests at a time, in the order in which tests/conftest.py puts them.
PARALLEL := --numprocesses 3 --dist loadgroup --no-loadscope-reorder

.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(SERVICE)/Makefile ## Generate a service, set it up, train it, serve it, ask it
	$(MAKE) --no-print-directory -C $(SERVICE) demo
	@echo "The service is in $(SERVICE): look around, its README says how to go on."

.PHONY: test
test: $(READY) ## Prove the template and what it generates
	pytest $(PARALLEL)

.PHONY: test-fast
test-fast: $(READY) ## The same without the slow tests: for everyday work
	pytest $(PARALLEL) -m "not slow"

.PHONY: bench
bench: $(READY) ## Measure what benchmarks/ has, or PARTS= of it, and write its report
	$(UV) sync --inexact --quiet --group bench
	python -m benchmarks $(PARTS)

.PHONY: capacity
capacity: $(READY) ## Measure what one pod carries: the result that every service is born with
	rm -rf build/capacity
	cookiecutter . --no-input --output-dir build/capacity
	$(MAKE) --no-print-directory -C $(MEASURED) train bench
	cp $(MEASURED)/reports/capacity.json '{{cookiecutter.service_slug}}/reports/'
	cp $(MEASURED)/docs/capacity.md '{{cookiecutter.service_slug}}/docs/'

.PHONY: picture
picture: $(READY) ## Take the picture of the demo that stands in the README of a service
	pytest tests/test_demo.py -k person
	cp build/demo.png '{{cookiecutter.service_slug}}/docs/'

.PHONY: lint
lint: $(READY) ## Check the style and types of the template's own Python
	black --check --quiet hooks tests benchmarks
	isort --check hooks tests benchmarks
	flake8 hooks tests benchmarks
	mypy hooks
	mypy tests benchmarks

$(SERVICE)/Makefile: | $(READY)
	cookiecutter . --no-input --output-dir $(DEMO)

$(READY): pyproject.toml | $(UV)
	$(UV) sync --inexact --no-progress
	@touch $@

.venv/bin/uv:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed as python3, or uv on the PATH." >&2; exit 1; }
	python3 -m venv .venv
	.venv/bin/pip install --quiet uv
