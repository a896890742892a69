# Everything that people and CI run. Each target sets up what it needs: only Python 3.11 to 3.13 and make are required.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready

.PHONY: help demo test test-slow test-matrix fuzz check format bench-featurize bench-bucket bench-predict bench-scale bench-stream bench-train bench-skewed lock clean

help:
	@echo "make demo     synthesize a small collection, featurize it, train on it, write the report"
	@echo "make test     run the tests (EARMARK_MUSIC=folder adds those on real music)"
	@echo "make test-slow  run the tests that take minutes: many kills, full disks, crashing decoders"
	@echo "make test-matrix  run every command on many hostile files and in hostile folders (an hour)"
	@echo "make fuzz     damage audio, tags, tables, settings, datasets and models at random (MINUTES=10 for each)"
	@echo "make check    run ruff and mypy, as CI does"
	@echo "make format   format the code and fix what ruff can fix"
	@echo "make bench-featurize   compare featurizing with librosa and with decoding alone"
	@echo "make bench-bucket   compare featurizing from a bucket that waits before each answer with a local disk"
	@echo "make bench-predict     compare predicting a collection into a folder with featurizing it"
	@echo "make bench-scale       measure the driver with a collection of a million tracks"
	@echo "make bench-stream      compare training batches from shards with TFRecord, Ray Data and memory"
	@echo "make bench-train       compare an epoch from shards with keras.Model.fit on arrays in memory"
	@echo "make bench-skewed      measure whether balancing helps classes of very different sizes"
	@echo "make lock     resolve pyproject.toml into requirements.lock, and those of the nodes of a cluster"
	@echo "make clean    remove the environment and the files of the tools"

# Built once, and again when the lock or the project file changes.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"Earmark needs Python 3.11 to 3.13; $(PYTHON) is {v[0]}.{v[1]}. Type: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV): about 1.2 GB to download, 4.2 GB on disk. This takes some minutes, once."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --progress-bar on --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)
	$(BIN)/earmark demo

# Most tests use one core or wait most of the time.
# Files in the order of tests/conftest.py, the longest first: one that begins last would run alone.
TWO_AT_ONCE := --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(BIN)/python -m pytest -m "not slow and not matrix" $(TWO_AT_ONCE)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow $(TWO_AT_ONCE)

test-matrix: $(READY)
	$(BIN)/python -m pytest -m matrix $(TWO_AT_ONCE)

MINUTES ?= 10
fuzz: $(READY)
	cd tests && PYTHONPATH=. ../$(BIN)/python -m fuzz --minutes $(MINUTES)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One core for each contender: the libraries read these variables when they load.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
export EARMARK_MUSIC

bench-featurize: $(READY)
	$(ONE_THREAD) $(BIN)/python -m benchmarks.featurize

bench-bucket: $(READY)
	$(ONE_THREAD) $(BIN)/python -m benchmarks.bucket

bench-predict: $(READY)
	$(BIN)/python -m benchmarks.predict

TRACKS ?= 1000000
bench-scale: $(READY)
	$(BIN)/python -m benchmarks.scale --tracks $(TRACKS)

DEVICE ?= cpu
bench-stream: $(READY)
	$(BIN)/python -m benchmarks.stream --device $(DEVICE)

bench-train: $(READY)
	$(BIN)/python -m benchmarks.train --device $(DEVICE)

bench-skewed: $(READY)
	$(BIN)/python -m benchmarks.skewed_classes

# One lock for all supported Python versions and platforms; it pins versions and names no package index. The locks for
# the nodes of a cluster have the same versions.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --upgrade \
	  --no-emit-index-url --no-header --no-annotate pyproject.toml --output-file requirements.lock
	sed -n 's/^tensorflow==/tensorflow-cpu==/p' requirements.lock > $(VENV)-lock/tensorflow-cpu
	for group in featurize train-cpu train-gpu; do \
	  $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --group $$group --upgrade \
	    --constraint requirements.lock --constraint $(VENV)-lock/tensorflow-cpu \
	    --no-emit-index-url --no-header --no-annotate --output-file requirements-$$group.lock || exit 1; \
	done
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
