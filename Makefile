# Two commands do everything on a machine with Python (3.11 or newer), make and git:
#   make quickstart   set up, make a data set, train on it, evaluate, draw, ask        (about 10 minutes on two cores)
#   make test         set up, run the tests
# And for those who work on composer:
#   make lint          check style and types
#   make lmms          run the tests of the entry point for lmms-eval, in an environment of its own
#   make pythons       run the README's commands on every Python that is installed (PYTHONS lists versions)
#   make test-lowest   run the tests with the lowest versions that pyproject.toml declares
#   make constraints   pin the newest versions that pyproject.toml allows (constraints*.txt)
PYTHON ?= python3
PYTHONS ?= 3.11 3.12 3.13 3.14
VENV ?= .venv
LMMS_VENV ?= .venv-lmms
LOWEST_VENV ?= .venv-lowest
BIN := $(VENV)/bin
UV := $(BIN)/uv
DATA ?=
FLAGS ?=
RUN := runs/quickstart
# One thread beside one process that decodes: threads that wait for a busy core cost more than they bring.
export OMP_NUM_THREADS ?= 1

.PHONY: setup quickstart test lmms pythons test-lowest constraints lint clean

setup: $(VENV)/installed

# The last line meets the one known trap: a CPU-only torch beside the index's torchvision.
$(VENV)/installed: pyproject.toml constraints.txt plugins/example/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]' --editable plugins/example
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
	$(LMMS_VENV)/bin/python -m pytest tests/composer/inference/lmms_eval tests/composer/data/media/test_video.py tests/plugins/benchmarks/test_choice.py

$(LMMS_VENV)/installed: $(VENV)/installed constraints-lmms.txt
	$(UV) venv --quiet --clear --python $(BIN)/python $(LMMS_VENV)
	$(UV) pip install --quiet --python $(LMMS_VENV)/bin/python --constraint constraints-lmms.txt --editable '.[lmms]' pytest hypothesis
	@touch $@

pythons: setup
	@for version in $(PYTHONS); do .ci/on-python $$version $(UV) || exit 1; done

test-lowest: setup
	$(UV) venv --quiet --clear --python $(BIN)/python $(LOWEST_VENV)
	$(UV) pip install --quiet --python $(LOWEST_VENV)/bin/python --resolution lowest-direct --editable '.[dev]' --editable plugins/example
	$(LOWEST_VENV)/bin/python -m pytest -n 2

# For every Python that composer supports. Pins carry no address of an index.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --upgrade
constraints: setup
	echo uv | $(COMPILE) --extra dev --output-file constraints.txt pyproject.toml -
	printf 'pytest\nhypothesis\n' | $(COMPILE) --extra lmms --output-file constraints-lmms.txt pyproject.toml -

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(LMMS_VENV) $(LOWEST_VENV) .venv-pythons build *.egg-info
