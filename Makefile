# Both targets set up their own environment; nothing is needed before but Python 3.11 or newer.
# PYTHON, VENV, MODEL and LIBRISPEECH can be set: make demo LIBRISPEECH=/data/LibriSpeech

PYTHON ?= python3
VENV ?= .venv
MODEL ?= whisper-base
LIMIT ?= 24
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

ifdef LIBRISPEECH
export EDGEWHISPER_LIBRISPEECH := $(LIBRISPEECH)
endif

.PHONY: demo test lint clean

demo: $(VENV)/.host
	$(BIN)/edgewhisper build --model $(MODEL) --recipe quanto-int8 --limit $(LIMIT)
	$(BIN)/edgewhisper transcribe runtime/edgewhisper_runtime/speech/smoke/slt/1/slt-1-0001.opus
	$(BIN)/edgewhisper profile models/bundles/$(MODEL)-quanto-int8

# Tests start processes side by side: threads that spin while they wait would slow them all.
test: export OMP_WAIT_POLICY ?= PASSIVE
test: export GOMP_SPINCOUNT ?= 0
test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict runtime/edgewhisper_runtime
	$(BIN)/python tools/write_tables.py --check
	$(BIN)/mypy edgewhisper exporters/edgewhisper_exporters tools

# torch comes first and alone: asked for by another package, pip may take a larger build of it.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	touch $@

$(VENV)/.host: $(VENV)/.torch pyproject.toml runtime/pyproject.toml
	$(INSTALL) --editable ./runtime --editable '.[quanto]'
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml runtime/pyproject.toml
	$(INSTALL) --editable './runtime[serve]' --editable '.[quanto,hqq,bitsandbytes,ray,dev]'
	touch $@ $(VENV)/.host

clean:
	rm -rf $(VENV)
