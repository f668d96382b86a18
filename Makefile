# casfne: `make repro` runs the whole chain, `make test` checks it. Both install what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export RAY_USAGE_STATS_ENABLED := 0
export DVC_NO_ANALYTICS := 1

.PHONY: help install repro test lint soak bench pictures lock clean
help:            ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -C editable_mode=compat -e .
	@touch $@

install: $(VENV)/.installed  ## .venv with everything pinned in requirements.lock

repro: install   ## the whole chain, from captures to the report; does nothing when nothing changed
	dvc repro report
	@echo "the report is data/report/index.html, the numbers: dvc metrics show"

test: install    ## every test
	python -m pytest

lint: install    ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

soak: install    ## the kill tests for longer, 20 rounds each
	PYTHONPATH=tests python -m pytest -n0 -s tests/soak/soak_fleet.py

bench: install   ## benchmarks/*.py -> benchmarks/results/latest.json
	python -m benchmarks

pictures: install  ## the README's pictures, from the release weights, the studio and what `make repro` made
	casfne studio render --count 3 --seed 90210 --out out/people
	casfne figure errors out/people --out out/release
	cp out/release.png data/report/frame.png docs/
	casfne studio sheet --count 48 --seed 7 --out docs/studio.jpg
	casfne stereo data/captures/photoface/0001/2008-03-03_09-06-37 --out out/stereo --light-distance 1.5
	cp out/stereo/figure.png docs/stereo.png

lock: install    ## resolve pyproject.toml again into requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --extra dev --no-header --no-annotate pyproject.toml -o requirements.lock

clean:           ## what commands made: environment, caches, data
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis out dvc_plots benchmarks/results .dvc/cache .dvc/tmp
	find data -mindepth 1 ! -name .gitkeep -delete
