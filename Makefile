# Everything that people and CI run. Each target sets up what it needs: only Python 3.11 to 3.13 and make are required.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
TOOLS  := $(VENV)/ready-tools

.PHONY: help demo test test-slow test-matrix fuzz check format bench-featurize bench-features bench-bucket bench-predict bench-scale bench-stream bench-train bench-evaluate bench-checkpoints bench-skewed bench-learning picture lock clean

help:
	@echo "make demo     synthesize a small collection, featurize it, train on it, write the report"
	@echo "make test     run the tests (EARMARK_MUSIC=folder adds those on real music)"
	@echo "make test-slow  run the tests that take minutes: many kills, full disks, crashing decoders"
	@echo "make test-matrix  run what takes still longer: every command on hostile files and in hostile folders, on clusters"
	@echo "make fuzz     damage audio, tags, tables, settings, datasets and models at random (MINUTES=10 for each)"
	@echo "make check    run ruff and mypy, as CI does"
	@echo "make format   format the code and fix what ruff can fix"
	@echo "make bench-featurize   compare featurizing with librosa and with decoding alone"
	@echo "make bench-features    compare other feature settings with librosa, and float16 with float32"
	@echo "make bench-bucket   compare featurizing from a bucket that waits before each answer with a local disk"
	@echo "make bench-predict     compare predicting a collection into a folder with featurizing it"
	@echo "make bench-scale       measure the driver with a collection of a million tracks"
	@echo "make bench-stream      compare training batches from shards with TFRecord, Ray Data and memory"
	@echo "make bench-train       compare an epoch from shards with keras.Model.fit on arrays in memory"
	@echo "make bench-evaluate    measure memory and speed of evaluation from ten thousand to a million rows"
	@echo "make bench-checkpoints measure how long training waits for a checkpoint in a bucket"
	@echo "make bench-skewed      measure whether balancing helps classes of very different sizes"
	@echo "make bench-learning    measure the accuracy of candidate settings in nested folds"
	@echo "make picture           take docs/report.png, the picture in README.md, of the demo's report"
	@echo "make lock     resolve pyproject.toml into requirements.lock (all), requirements-run.lock and those of cluster nodes"
	@echo "make clean    remove the environment and the files of the tools"

# What Earmark needs; built once, and again when the lock or the project file changes.
$(READY): requirements-run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"Earmark needs Python 3.11 to 3.13; $(PYTHON) is {v[0]}.{v[1]}. Type: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV): about 1 GB to download, 3.4 GB on disk. This takes some minutes, once."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --progress-bar on --disable-pip-version-check -r requirements-run.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What its tests and benchmarks need as well: the same versions, and those of pytest, mypy, moto and the exporters.
$(TOOLS): $(READY) requirements.lock
	$(BIN)/python -m pip install --progress-bar on --disable-pip-version-check -r requirements.lock
	@touch $@

demo: $(READY)
	$(BIN)/earmark demo

# On two cores: most tests use one core or wait a third of the time.
# Files in the order of tests/conftest.py, the longest first: one that begins last would run alone.
THREE_AT_ONCE := --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: $(TOOLS)
	$(BIN)/python -m pytest -m "not slow and not matrix" $(THREE_AT_ONCE)

test-slow: $(TOOLS)
	$(BIN)/python -m pytest -m "slow and not matrix" $(THREE_AT_ONCE)

test-matrix: $(TOOLS)
	$(BIN)/python -m pytest -m matrix $(THREE_AT_ONCE)

MINUTES ?= 10
fuzz: $(TOOLS)
	cd tests && PYTHONPATH=. ../$(BIN)/python -m fuzz --minutes $(MINUTES)

check: $(TOOLS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(TOOLS)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One core for each contender: the libraries read these variables when they load.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
export EARMARK_MUSIC

bench-featurize: $(TOOLS)
	$(ONE_THREAD) $(BIN)/python -m benchmarks.featurize

bench-features: $(TOOLS)
	$(ONE_THREAD) $(BIN)/python -m benchmarks.feature_settings

bench-bucket: $(TOOLS)
	$(ONE_THREAD) $(BIN)/python -m benchmarks.bucket

bench-predict: $(TOOLS)
	$(BIN)/python -m benchmarks.predict

TRACKS ?= 1000000
bench-scale: $(TOOLS)
	$(BIN)/python -m benchmarks.scale --tracks $(TRACKS)

DEVICE ?= cpu
bench-stream: $(TOOLS)
	$(BIN)/python -m benchmarks.stream --device $(DEVICE)

bench-train: $(TOOLS)
	$(BIN)/python -m benchmarks.train --device $(DEVICE)

bench-evaluate: $(TOOLS)
	$(BIN)/python -m benchmarks.evaluation

bench-checkpoints: $(TOOLS)
	$(BIN)/python -m benchmarks.checkpoints

bench-skewed: $(TOOLS)
	$(BIN)/python -m benchmarks.skewed_classes

bench-learning: $(TOOLS)
	$(BIN)/python -m benchmarks.learning

picture: $(TOOLS)
	$(BIN)/python docs/report_picture.py

# One lock for all supported Python versions and platforms; it pins versions and names no package index. The lock of what
# running needs, and those for the nodes of a cluster, have the same versions.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --upgrade \
	  --no-emit-index-url --no-header --no-annotate pyproject.toml --output-file requirements.lock
	$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --constraint requirements.lock \
	  --no-emit-index-url --no-header --no-annotate pyproject.toml --output-file requirements-run.lock
	sed -n 's/^tensorflow==/tensorflow-cpu==/p' requirements.lock > $(VENV)-lock/tensorflow-cpu
	for group in featurize train-cpu train-gpu; do \
	  $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --group $$group --upgrade \
	    --constraint requirements.lock --constraint $(VENV)-lock/tensorflow-cpu \
	    --no-emit-index-url --no-header --no-annotate --output-file requirements-$$group.lock || exit 1; \
	done
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
