"""The whole pipeline from the command line, and the error messages of commands."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.command_line import contents, earmark, earmark_here

SETTINGS = [
    "--set", "featurize.tracks_per_shard=3",
    "--set", "featurize.segments_per_track=4",
    "--set", "train.model=modulation",
    "--set", "train.epochs=3",
    "--set", "train.batch_size=16",
    "--set", "train.learning_rate=1e-3",
    "--set", "train.replicas=2",
    "--set", "train.validation_fold=next",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(music, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "run"
    return out, earmark("run", music, "--out", out, "--workers", 1, *SETTINGS)


def test_the_number_of_workers_does_not_change_the_bytes(finished, features):
    out, done = finished
    assert done.returncode == 0, done.stderr
    assert "Featurized: 30 tracks, 120 segments, 0 rejects" in done.stderr
    written = contents(out / "features")
    assert written.pop("config.yaml")
    assert written == contents(features)  # by two workers


def test_run_writes_dataset_model_metrics_and_report(finished):
    out, done = finished
    metrics = json.loads((out / "metrics.json").read_text())
    for level, count in (("segments", 24), ("tracks", 6)):
        scores = metrics[level]
        assert scores["count"] == np.sum(scores["confusion"]) == count
        assert scores["accuracy"] == np.trace(scores["confusion"]) / count
        assert 0 <= scores["macro_f1"] <= 1
        assert [entry["label"] for entry in scores["per_class"]] == metrics["classes"]
    assert f"accuracy {metrics['tracks']['accuracy']:.3f}" in done.stdout
    for line in (
        f"report    {out}/report.html",
        f"model     {out}/model.keras",
        f"--logdir {out}/tensorboard",
    ):
        assert line in done.stdout
    assert "on 2 CPUs" in done.stderr
    lines = done.stderr.splitlines()
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d (INFO |WARNING) .+", line), line
    lines = [line.split(maxsplit=2)[2] for line in lines]
    for noise in ("Traceback", "oneDNN", "WARNING", "cuda", "INFO"):
        assert noise not in "\n".join(lines)
    assert len(lines) == len(set(lines)), "a message is printed twice"


def test_the_report_is_self_contained_and_shows_the_split(finished):
    out, _ = finished
    page = (out / "report.html").read_text()
    pictures = page.count('src="data:image/svg+xml;base64,')
    assert page.count('src="') == pictures == 6  # reliability, two curves, three classes
    assert page.count('href="') == page.count('href="#') + page.count('href="data:,"')
    assert "default-src 'none'" in page
    assert "Groups in more than one part of the split: <strong>0</strong> of 15" in page
    assert "None: all 30 tracks were used." in page
    assert "learning_rate: 0.001" in page


def test_a_second_run_repeats_nothing(finished, music, logical_cpus):
    out, first = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".parquet", ".keras")}
    events = sorted((out / "tensorboard").rglob("*tfevents*"))
    again = earmark_here("run", music, "--out", out, *SETTINGS)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sorted((out / "tensorboard").rglob("*tfevents*")) == events
    assert "epoch" not in again.stderr.replace("3 epochs", "")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_stopped_during_training_ends_with_the_same_metrics(how, finished, music, tmp_path):
    reference, _ = finished
    out = tmp_path / "run"
    subprocess.run(["mkdir", "-p", out], check=True)
    subprocess.run(["cp", "-r", reference / "features", out], check=True)
    command = [sys.executable, "-m", "jobs.cli", "run", str(music), "--out", str(out), *SETTINGS]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (out / "history.json").exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(how)
    _, stderr = running.communicate(timeout=60)
    if how == signal.SIGKILL:
        assert running.returncode == -signal.SIGKILL
    else:
        assert running.returncode == 128 + how
        assert "a checkpoint holds all" in stderr
        assert "The same command continues from there" in stderr
        assert "Traceback" not in stderr
    assert not (out / "model.keras").exists()
    done = earmark("run", music, "--out", out, *SETTINGS)
    assert done.returncode == 0, done.stderr
    metrics, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (out, reference))
    for key in ("segments", "tracks", "split", "epoch"):
        assert metrics[key] == expected[key]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_featurizing_stopped_by_a_signal_prints_how_to_continue(how, music, tmp_path):
    command = [sys.executable, "-m", "jobs.cli", "featurize", str(music), "--out", str(tmp_path), *SETTINGS]
    command += ["--set", "featurize.tracks_per_shard=1"]  # so that much work remains after the first shard
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("shards/*/*.parquet")) and running.poll() is None:
        time.sleep(0.005)
    running.send_signal(how)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 128 + how
    assert "the same command continues from there" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "dataset.json").exists()
    for path in tmp_path.glob("shards/*/*.parquet"):
        pq.ParquetFile(path).read()  # raises if the file is not complete


@pytest.mark.slow
def test_train_gives_the_same_metrics_as_run(finished, tmp_path):
    reference, _ = finished
    done = earmark("train", reference / "features", "--out", tmp_path / "run", *SETTINGS[4:])
    assert done.returncode == 0, done.stderr
    metrics, expected = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", reference)
    )
    assert metrics["segments"] == expected["segments"]
    assert (tmp_path / "run" / "config.yaml").read_text() == (reference / "config.yaml").read_text()


def test_a_run_can_be_moved_with_its_features(finished, logical_cpus, tmp_path):
    reference, done = finished
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-r", reference, moved], check=True)
    (moved / "metrics.json").unlink()
    (moved / "report.html").unlink()
    evaluated = earmark_here("evaluate", moved)
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout == done.stdout.replace(str(reference), str(moved))
    assert (moved / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["run", "absent", "--out", "run"], 1, "absent does not exist"),
        (["run", ".", "--out", "run"], 1, "expected at least 2 classes"),
        (["featurize", "absent", "--out", "f"], 1, "absent does not exist"),
        (
            ["train", "absent", "--out", "run"],
            1,
            "does not exist. Type: earmark featurize MUSIC --out",
        ),
        (["evaluate", "absent"], 1, "absent holds no run"),
        (["run", ".", "--out", "run", "--set", "train.epoch=3"], 2, "did you mean train.epochs?"),
        (["run", ".", "--out", "run", "--workers", "0"], 2, "workers"),
        (["run", "."], 2, "--out"),
        (["fly"], 2, "fly"),
    ],
)
def test_errors_are_printed_without_a_traceback(arguments, status, sentence, tmp_path):
    done = earmark_here(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not os.listdir(tmp_path)


def music_with_rejects(music, tmp_path):
    """Return a copy of the collection with six more files that are no music."""
    root = tmp_path / "music"
    subprocess.run(["cp", "-r", music, root], check=True)
    for n in range(6):
        (root / "bells" / f"[bold]{n}.mp3").write_text("<script>not music</script>")
    return root


def test_a_run_with_too_many_rejects_fails_after_a_table_of_reasons(music, ray_here, tmp_path):
    root = music_with_rejects(music, tmp_path)
    done = earmark_here("run", root, "--out", tmp_path / "run", *SETTINGS)
    assert done.returncode == 1
    assert "6 of 36 tracks rejected" in done.stderr
    assert "not decodable" in done.stderr
    assert "more than featurize.max_reject_fraction = 0.1 allows" in done.stderr
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.slow
def test_rejects_within_the_limit_are_in_the_report(music, tmp_path):
    root = music_with_rejects(music, tmp_path)
    settings = ["--set", "featurize.max_reject_fraction=0.2", "--set", "train.epochs=1"]
    done = earmark("run", root, "--out", tmp_path / "run", *SETTINGS, *settings)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "6 of 36 tracks could not be used" in page
    assert "bells/[bold]0.mp3" in page


@pytest.mark.parametrize("arguments", [["-h"], ["run", "-h"], ["submit", "-h"]])
def test_h_prints_the_same_help_as_help(arguments):
    short, long = earmark_here(*arguments), earmark_here(*arguments[:-1], "--help")
    assert (short.returncode, short.stderr) == (0, "")
    assert "Usage: " in short.stdout
    assert short.stdout == long.stdout


def test_the_version_is_that_of_the_package():
    done = earmark("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"earmark {metadata.version('earmark')}\n", "")


def test_completion_names_the_commands():
    variables = {
        **os.environ,
        "_EARMARK_COMPLETE": "complete_bash",
        "COMP_WORDS": "earmark doc",
        "COMP_CWORD": "1",
    }
    code = "from jobs.commands.app import app; app(prog_name='earmark')"
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["doctor"]
    assert "--install-completion" in earmark_here("--help").stdout
