# `make help` lists what can be done here.
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
PORT ?= 8080
MLFLOW_PORT ?= 5000
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false

.PHONY: help run test test-slow test-hours test-all lint mlflow serve live pipeline-compile pipeline-run pipeline-submit bench study study-smoke lock wheel clean core dev tfx-environment packages

help:  ## this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %-18s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: core  ## the whole pipeline on the sample corpus; runs what has changed and prints the F1 table
	@merlb run

test: dev packages  ## the tests
	@python -m pytest -m "not slow and not hours"

test-slow: dev tfx-environment packages  ## the slow tests alone
	@python -m pytest -m slow

test-hours: dev  ## the long ones: 2,000 clips from ingest to validate, 100 webcams; prints the figures
	@python -m pytest -m hours --capture=no

test-all: test test-slow test-hours  ## the tests, the slow ones too

lint: dev  ## ruff and mypy
	@ruff check .
	@ruff format --check .
	@mypy

mlflow: core  ## the dashboard of all runs on MLFLOW_PORT (5000), for this machine only
	@mkdir -p .merlb/mlflow
	@exec mlflow server --backend-store-uri sqlite:///.merlb/mlflow/mlflow.db --artifacts-destination .merlb/mlflow/artifacts \
	  --host 127.0.0.1 --port $(MLFLOW_PORT) --workers 1

serve: core  ## serve the newest promoted model on PORT (8080)
	@exec merlb serve --port $(PORT)

live: core  ## score SOURCE=<file or URL>, a line a second
	@test -n "$(SOURCE)" || { echo "make live needs a source: make live SOURCE=recording.mp4" >&2; exit 2; }
	@exec merlb live "$(SOURCE)"

pipeline-compile: core  ## write the Kubeflow pipeline to build/merlb-training.yaml
	@python -m pipelines.submit compile

pipeline-run: core  ## run the Kubeflow pipeline here, without Docker or a cluster
	@python -m pipelines.submit run

pipeline-submit: core  ## upload the pipeline to HOST=<Kubeflow URL> and start a run
	@test -n "$(HOST)" || { echo "make pipeline-submit needs a host: make pipeline-submit HOST=https://kubeflow.example" >&2; exit 2; }
	@python -m pipelines.submit submit --host "$(HOST)"

bench: dev  ## side-by-side measurements, some of which need a `make run` before
	@for file in benchmarks/bench_*.py; do echo "== $$file"; python "$$file" || exit 1; done

study: core  ## the study of docs/study.md (an hour; goes on where it was stopped): writes docs/results.md
	@merlb study

study-smoke: core  ## the same on a corpus too small to say anything
	@merlb study --smoke

lock:  ## write requirements/*.txt anew from pyproject.toml
	@infra/lock.sh

wheel: dev  ## a wheel in dist/
	@python -m hatchling build -t wheel

clean:  ## remove what the commands made: environment, data, models, reports, caches; data/sources stays
	@rm -rf .venv .venv-tfx .merlb build dist models reports data/raw data/extract data/store data/*.parquet .dvc/cache .dvc/tmp \
	  .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

core:
	@infra/setup.sh core

dev:
	@infra/setup.sh dev

tfx-environment:
	@infra/setup.sh tfx

packages:
	@infra/packages.sh
