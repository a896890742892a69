"""The folds of a cross-validation in separate processes: how many at a time, signals, and deaths."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from support.command_line import contents, earmark, earmark_here

from jobs.cross_validation import folds_at_once, share_of_gpus
from train.config import TrainConfig

SETTINGS = ["--set", "train.model=modulation", "--set", "train.epochs=2", "--set", "train.batch_size=16"]


@pytest.fixture
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(
    ("gpus", "cores", "settings", "expected"),
    [
        ("", 2, {}, 1),
        ("", 16, {}, 2),
        ("", 640, {}, 5),
        ("0,1,2", 2, {}, 3),
        ("0,1,2,3", 2, {"replicas": 2}, 2),
        ("0", 2, {"replicas": 2}, 1),
        ("0,1,2", 8, {"device": "cpu"}, 1),
        ("0,1,2", 64, {"workers": 2}, 1),
    ],
)
def test_folds_at_a_time(gpus, cores, settings, expected, monkeypatch, no_cluster):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(cores))
    assert folds_at_once(5, TrainConfig.model_validate(settings)) == expected


@pytest.mark.parametrize(
    ("gpus", "slots", "expected"),
    [("", 2, ["", ""]), ("0,1,2", 3, ["0", "1", "2"]), ("0,1,2", 2, ["0,2", "1"]), ("4,5", 3, ["4", "5", "4"])],
)
def test_each_process_gets_a_share_of_the_gpus(gpus, slots, expected, monkeypatch, no_cluster):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    shares = [share_of_gpus(slot, slots, TrainConfig()) for slot in range(slots)]
    assert [share.get("CUDA_VISIBLE_DEVICES", "") for share in shares] == expected


def start(features, out, *options):
    command = [sys.executable, "-m", "jobs.cli", "crossval", features, "--out", out, *SETTINGS, *options]
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def read_until(running, text):
    """Return the output up to the first line with a text."""
    lines = []
    for line in running.stderr:
        lines.append(line)
        if text in line:
            break
    return "".join(lines)


@pytest.mark.slow
def test_stops_deaths_and_folds_at_a_time_leave_the_same_result(features, tmp_path):
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    done = earmark("crossval", features, "--out", undisturbed, *SETTINGS, "--at-once", "2")
    assert done.returncode == 0, done.stderr
    assert "5 of 5 folds trained" in done.stderr

    running = start(features, out)
    assert "fold 1 | epoch 1/2" in read_until(running, "fold 1 | epoch 1/2")
    children = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGTERM)
    rest = running.communicate(timeout=60)[1]
    assert running.returncode == 143
    assert "Stopped: 1 of 5 folds are finished, and checkpoints hold the rest. The same command continues" in rest
    assert not any(child.is_running() for child in children)
    assert (out / "fold=1" / "checkpoints").is_dir()

    running = start(features, out)
    assert "fold 2 | epoch 1/2" in read_until(running, "fold 2 | epoch 1/2")
    (child,) = psutil.Process(running.pid).children()
    child.kill()
    rest = running.communicate(timeout=60)[1]
    assert running.returncode == 1
    assert "the process that trained fold 2 ended with signal 9" in rest

    done = earmark("crossval", features, "--out", out, *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "crossval.json").read_text()) == json.loads(
        (undisturbed / "crossval.json").read_text()
    )
    for fold in range(5):
        predictions = f"fold={fold}/predictions.parquet"
        assert contents(out / predictions) == contents(undisturbed / predictions) != {}


@pytest.mark.slow
def test_an_error_of_a_fold_is_that_of_the_command(features, no_cluster, tmp_path):
    (tmp_path / "fold=0").mkdir()
    (tmp_path / "fold=0" / "run.json").write_text("{")
    done = earmark_here("crossval", features, "--out", tmp_path, *SETTINGS)
    assert done.returncode == 1
    assert "run.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "fold=1").exists()
