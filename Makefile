# Two commands do everything on a machine with Python (3.11 or newer), make and git:
#   make quickstart   set up, make a data set, train on it, evaluate, draw, ask        (about 10 minutes on two cores)
#   make test         set up, run the tests
# Apart from both, in an environment of its own:
#   make lmms         run the tests of the entry point for lmms-eval
PYTHON ?= python3
VENV ?= .venv
LMMS_VENV ?= .venv-lmms
BIN := $(VENV)/bin
DATA ?=
FLAGS ?=
RUN := runs/quickstart
# One thread beside one process that decodes: threads that wait for a busy core cost more than they bring.
export OMP_NUM_THREADS ?= 1

.PHONY: setup quickstart test lmms lint clean

setup: $(VENV)/installed

# The last line meets the one known trap: a CPU-only torch beside the index's torchvision.
$(VENV)/installed: pyproject.toml plugins/example/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]' --editable plugins/example
	@$(BIN)/python -c 'import torchvision' || { echo "torch and torchvision are not of one build: run" \
		"'$(BIN)/python -m pip install --force-reinstall torch torchvision' to take both from one index"; exit 1; }
	@touch $@

quickstart: setup
	$(BIN)/composer data synthesize data/shapes $(DATA)
	$(BIN)/composer fit --config recipes/quickstart.yaml --ckpt_path last $(FLAGS)
	$(BIN)/composer test --config recipes/quickstart.yaml --ckpt_path last $(FLAGS)
	$(BIN)/composer plot $(RUN)
	$(BIN)/composer visualize-merge $(RUN) data/shapes/videos/heldout-00000.mp4
	$(BIN)/composer ask $(RUN) --video data/shapes/videos/heldout-00000.mp4 "Which way do they move?"

test: setup
	$(BIN)/python -m pytest -n 2

# lmms-eval pins versions that would hold the others back (docs/evaluation.md).
lmms: $(LMMS_VENV)/installed
	$(LMMS_VENV)/bin/python -m pytest tests/composer/inference/lmms_eval tests/plugins/benchmarks/test_choice.py

$(LMMS_VENV)/installed: $(VENV)/installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LMMS_VENV)
	$(BIN)/uv pip install --quiet --python $(LMMS_VENV)/bin/python --editable '.[lmms]' pytest
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(LMMS_VENV) build *.egg-info
