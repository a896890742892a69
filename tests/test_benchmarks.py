"""Every benchmark runs at its smallest size and writes its results; the measured speeds are not checked."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Benchmark: arguments for its smallest size, and expected keys of its results.
SMALLEST = {
    "featurize": (
        ["--rounds", 1, "--clips", 2, "--tracks", 5, "--longest", 10],
        {
            "clips",
            "rounds",
            "clips_per_second",
            "ratio_librosa",
            "ratio_decode",
            "ratio_workers",
            "ratio_bytes",
            "ratio_peers",
            "seconds_to_first_shard",
            "peak_megabytes",
        },
    ),
    "feature_settings": (
        ["--rounds", 1, "--clips", 2, "--tracks", 1],
        {"clips", "rounds", "ratio_librosa", "largest_db", "store"},
    ),
    "bucket": (
        ["--rounds", 1, "--clips", 2, "--tracks", 2, "--segments", 360],
        {
            "clips",
            "rounds",
            "ms_per_track",
            "stream_rows_per_second",
            "ratio_stream_100ms",
            "ratio_evaluation_stream",
            "requests_per_visit",
            "ratio_evaluation_100ms",
            "segments",
            "tag_requests_per_track",
            "tag_heads_per_track",
            "tag_bytes_per_track",
            "ratio_featurize_30ms",
            "ratio_featurize_100ms",
            "requests_per_track",
            "ratio_bytes_excerpt",
        },
    ),
    "predict": (
        ["--rounds", 1, "--clips", 3, "--tracks", 5, "--links", 70],
        {
            "clips",
            "tracks",
            "rounds",
            "cores",
            "model",
            "tracks_per_second",
            "ratio_featurize",
            "startup_seconds",
            "bytes_per_track",
            "peak_megabytes",
        },
    ),
    "scale": (
        ["--tracks", 2000],
        {
            "tracks",
            "shards",
            "plan_seconds",
            "plan_processor_seconds",
            "make_and_finish_seconds",
            "driver_ms_per_shard",
            "resume_seconds",
            "grow_seconds",
            "peak_megabytes",
            "peak_mapped_megabytes",
        },
    ),
    "stream": (
        ["--segments", 512, "--rounds", 1, "--seconds", 1],
        {
            "segments",
            "batch_size",
            "rounds",
            "cores",
            "device",
            "segments_per_second",
            "segments_per_pass",
            "seconds_to_first_batch",
            "other",
            "ratio_tfrecord",
            "ratio_tfrecord_bytes",
            "ratio_other",
            "ratio_memory",
            "peak_mb",
            "window_mb",
        },
    ),
    "train": (
        ["--tracks", 10, "--rounds", 1, "--batch-size", 16],
        {"rounds", "batch_size", "cores", "device", "models", "host_ms_per_step"},
    ),
    "evaluation": (
        ["--rows", 2000],
        {"model", "batch_size", "cores", "sizes"},
    ),
    "checkpoints": (
        ["--model", "modulation", "--checkpoints", 1],
        {"model", "checkpoints", "cores", "latencies"},
    ),
    "learning": (
        ["--tracks", 5, "--recipes", "best", "--seeds", 1, "--folds", 2, "--epochs", 1],
        {"tracks", "folds", "seeds", "inner_seeds", "settings", "candidates", "svm", "chosen"},
    ),
    "skewed_classes": (
        ["--classes", 2, "--seeds", 1, "--epochs", 1, "--evaluated", 1],
        {"tracks", "evaluated", "seeds", "macro_f1", "gain"},
    ),
}


# These import TensorFlow or librosa in many child processes.
SLOW = {
    "bucket",
    "checkpoints",
    "evaluation",
    "feature_settings",
    "featurize",
    "learning",
    "predict",
    "skewed_classes",
    "stream",
    "train",
}


def test_every_benchmark_has_a_smallest_size():
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "--results" in path.read_text()}
    assert modules == SMALLEST.keys()


def test_every_benchmark_finds_what_it_imports(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    for name in SMALLEST:
        importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else []) for name in SMALLEST]
)
def test_a_benchmark_runs(name, tmp_path):
    arguments, keys = SMALLEST[name]
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments), "--results", str(results)]
    environment = {key: value for key, value in os.environ.items() if key != "EARMARK_MUSIC"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout
    assert json.loads(results.read_text()).keys() == keys
