# Every target sets up its own environment; nothing is needed before but Python 3.11 or newer.
# PYTHON, VENV, MODEL, RECIPE, LIBRISPEECH and ARGS can be set:
#   make demo LIBRISPEECH=/data/LibriSpeech
#   make test ARGS='tests/runtime -k words'

PYTHON ?= python3
VENV ?= .venv
MODEL ?= whisper-base
RECIPE ?= onnx-int8
LIMIT ?= 24
BUNDLES ?= build/test-bundles
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

ifdef LIBRISPEECH
export EDGEWHISPER_LIBRISPEECH := $(LIBRISPEECH)
endif

.PHONY: demo test fast test-runtime test-bundles lint types docs clean

demo: $(VENV)/.host
	$(BIN)/edgewhisper build --model $(MODEL) --recipe $(RECIPE) --limit $(LIMIT)
	$(BIN)/edgewhisper transcribe runtime/edgewhisper_runtime/speech/smoke/slt/1/slt-1-0001.opus
	$(BIN)/edgewhisper profile models/bundles/$(MODEL)-$(RECIPE)
	@echo 'That was a whole build: quantized, exported, compared with float32, packed, measured here.'
	@echo 'Next: edgewhisper transcribe YOUR-FILE, or make demo LIBRISPEECH=DIR for a verdict that counts.'

# Tests start processes side by side: threads that spin while they wait would slow them all.
test fast test-runtime: export OMP_WAIT_POLICY ?= PASSIVE
test fast test-runtime: export GOMP_SPINCOUNT ?= 0
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# What needs neither weights nor recorded speech: under a minute.
fast: $(VENV)/.dev
	$(BIN)/python -m pytest --fast -n 2 $(ARGS)

# The runtime where the host toolkit is not installed, on bundles made before.
test-runtime: $(VENV)-runtime/.done $(BUNDLES)
	EDGEWHISPER_TEST_BUNDLES=$(BUNDLES) $(VENV)-runtime/bin/python -m pytest tests/runtime $(ARGS)

test-bundles $(BUNDLES): $(VENV)/.dev
	$(BIN)/python -P tests/bundles.py $(BUNDLES)

lint: $(VENV)/.dev types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/write_tables.py --check

types: $(VENV)/.dev
	$(BIN)/mypy --strict runtime/edgewhisper_runtime
	$(BIN)/mypy edgewhisper exporters/edgewhisper_exporters tools

docs: $(VENV)/.docs
	$(BIN)/mkdocs build

# torch comes first and alone: asked for by another package, pip may take a larger build of it.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	touch $@

$(VENV)/.host: $(VENV)/.torch pyproject.toml runtime/pyproject.toml
	$(INSTALL) --editable ./runtime --editable '.[quanto]'
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml runtime/pyproject.toml
	$(INSTALL) --editable ./runtime --editable '.[quanto,hqq,bitsandbytes,ray,dev]'
	touch $@ $(VENV)/.host

# The reference is read from the source: nothing of the project needs to be installed.
$(VENV)/.docs: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) mkdocs 'mkdocstrings[python]'
	touch $@

$(VENV)-runtime/.done: runtime/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-runtime
	$(VENV)-runtime/bin/python -m pip install --quiet --constraint constraints.txt --editable './runtime[media,mic,serve,test,vad]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-runtime $(BUNDLES) site
