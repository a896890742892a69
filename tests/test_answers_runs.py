"""Predictions into a folder by the command line: killed and continued, from a table, in a bucket, on two nodes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pyarrow.dataset as pads
import pytest
from support.command_line import contents, earmark
from support.nodes import Nodes, ended, nodes, submit, wait_for

from featurize.storage import StoragePath
from train.answers.folder import list_answers, read_answers_info

pytestmark = pytest.mark.slow
LIMITS = ["--set", "featurize.tracks_per_shard=3"]


@pytest.fixture(scope="module")
def run(export_run):
    return export_run


@pytest.fixture(scope="module")
def table(music, tmp_path_factory):
    """A table of links to the pieces, with three columns and a file that is no music."""
    folder = tmp_path_factory.mktemp("many")
    lines = ["title,path,label"]
    for copy in range(3):
        for index, path in enumerate(sorted(music.rglob("*.*"))):
            (folder / f"{copy}-{index}{path.suffix}").symlink_to(path)
            lines.append(f"piece {copy} {index},{copy}-{index}{path.suffix},{path.relative_to(music).parts[0]}")
    (folder / "text.mp3").write_text("no music")
    (folder / "list.csv").write_text("\n".join([*lines, ",text.mp3,"]) + "\n")
    return folder / "list.csv"


@pytest.fixture(scope="module")
def uninterrupted(run, table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    done = earmark("predict", run, table, "--out", folder, *LIMITS, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "predicted 90 of 91 tracks" in done.stdout
    return folder


def test_a_table_is_predicted_with_its_columns(run, table, uninterrupted):
    found = pads.dataset(uninterrupted / "shards").to_table()
    assert found.column_names == ["track", "title", "path", "given_label", "label", "probability", "probabilities"]
    rows = {row["track"]: row for row in found.to_pylist()}
    assert len(rows) == 90
    for line in table.read_text().splitlines()[1:-1]:
        title, path, label = line.split(",")
        assert (rows[path]["title"], rows[path]["path"], rows[path]["given_label"]) == (title, path, label)
    done = earmark("verify", uninterrupted)
    assert done.stdout == "verified  31 shards, 90 tracks: no differences\n"


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.matrix)])
def test_a_prediction_that_is_killed_many_times_writes_the_same_bytes(kills, run, table, uninterrupted, tmp_path):
    chance, folder = random.Random(4), tmp_path / "answers"
    command = [sys.executable, "-m", "jobs.cli", "predict", run, table, "--out", folder, *LIMITS, "--workers", "1"]
    killed = 0
    for _ in range(kills):
        with subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL) as running:
            wanted = len(list_answers(StoragePath.of(folder))) + chance.randint(0, 6)
            while running.poll() is None and len(list_answers(StoragePath.of(folder))) < wanted:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.05))
            if running.poll() is None:
                killed += 1
            running.send_signal(signal.SIGKILL)
    assert killed >= kills - 1
    done = earmark("predict", run, table, "--out", folder, *LIMITS, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert contents(folder) == contents(uninterrupted)
    assert {path.name for path in folder.rglob(".*")} <= {".lock"}


def test_a_prediction_whose_processes_are_killed_goes_on(run, table, uninterrupted, tmp_path):
    chance, folder = random.Random(5), tmp_path / "answers"
    command = [sys.executable, "-m", "jobs.cli", "predict", run, table, "--out", folder, *LIMITS]
    killed: set[str] = set()
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            time.sleep(chance.uniform(0, 0.2))
            if len(list_answers(StoragePath.of(folder))) < 3 * len(killed) + 3:
                continue
            for process in psutil.Process(running.pid).children(recursive=True):
                kind = process.name() if process.is_running() else ""
                if kind.startswith(("ray::Shard", "ray::featurize")) and kind[:10] not in killed:
                    process.kill()
                    killed.add(kind[:10])
        stderr = running.stderr.read()
    assert running.returncode == 0, stderr
    assert killed
    assert contents(folder) == contents(uninterrupted)


def test_music_and_answers_in_a_bucket(run, table, uninterrupted, client, uri, tmp_path):
    for path in sorted(table.parent.iterdir())[:12]:
        client.upload_file(str(path), "music", f"in/deep/{path.name}")
    done = earmark("predict", run, uri("music/in"), "--out", uri("music/answers"), *LIMITS)
    assert done.returncode == 0, done.stderr
    info = read_answers_info(StoragePath.of(uri("music/answers")))
    assert (info.tracks, info.columns) == (12, [])
    again = earmark("predict", run, uri("music/in"), "--out", tmp_path / "here", *LIMITS)
    assert again.returncode == 0, again.stderr
    assert contents(uri("music/answers")) == contents(tmp_path / "here")


def test_an_external_test_set_is_evaluated_without_touching_the_run(run, music, tmp_path):
    (tmp_path / "music" / "bells").mkdir(parents=True)
    (tmp_path / "music" / "polka").mkdir()
    for index, path in enumerate(sorted((music / "bells").rglob("*.*"))[:4]):
        shutil.copy(path, tmp_path / "music" / ("polka" if index == 3 else "bells") / path.name)
    before = contents(run)
    done = earmark("evaluate", run, "--on", tmp_path / "music", "--out", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    assert "(3 tracks)" in done.stdout
    assert "left out  1 tracks of classes without a match: polka" in done.stdout
    assert "The test set has no tracks of" in done.stderr
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert (metrics["tracks"]["count"], metrics["unmatched"]) == (3, {"polka": 1})
    assert "polka (1 track)" in (tmp_path / "results" / "report.html").read_text()
    assert contents(run) == before
    assert "state     complete" in earmark("status", tmp_path / "results").stdout
    again = earmark("evaluate", run, "--on", tmp_path / "music", "--out", tmp_path / "results")
    assert again.stdout == done.stdout
    (tmp_path / "music" / "bells").rename(tmp_path / "music" / "tango")
    other = earmark("evaluate", run, "--on", tmp_path / "music", "--out", tmp_path / "other")
    assert other.returncode == 1
    assert "no class of the test set is one of the model: polka, tango there, " in other.stderr
    assert not (tmp_path / "other").exists()  # nothing was predicted
    (tmp_path / "music" / "tango").rename(tmp_path / "music" / "bells")
    refused = earmark("evaluate", run, "--on", tmp_path / "music", "--out", run)
    assert "and no evaluation of Earmark" in refused.stderr
    assert earmark("evaluate", run, "--on", tmp_path / "music").returncode == 2


@pytest.mark.parametrize("cores", [[1], pytest.param([2, 2], marks=pytest.mark.matrix)], ids=["one core", "nodes"])
def test_a_cluster_writes_the_same_bytes(cores, run, table, uninterrupted, tmp_path):
    with nodes({}) as cluster:
        for address, count in zip(("127.0.0.3", "127.0.0.4"), cores, strict=False):
            cluster.join(address, count)
            cluster.until_joined(address)
        words = ["--shared", "/", "--", "predict", run, table, "--out", tmp_path / "answers", *LIMITS]
        sent = submit(cluster, *words)
        out, err = sent.communicate(timeout=500)
        assert sent.returncode == 0, f"{out}\n{err}\n{cluster.logs()}"
    assert contents(tmp_path / "answers") == contents(uninterrupted)


def predictors_on(cluster: Nodes, *addresses: str) -> int:
    return sum(process.name().startswith("ray::ShardPred") for ip in addresses for process in cluster.below(ip))


@pytest.mark.matrix
def test_two_nodes_that_are_killed_five_times_predict_a_bucket_with_the_same_bytes(
    run, table, client, uri, server, tmp_path
):
    for path in sorted(table.parent.iterdir()):
        for copy in range(12):
            client.upload_file(str(path), "music", f"many/{copy}/{path.name}")
    alone = earmark("predict", run, uri("music/many"), "--out", tmp_path / "alone", *LIMITS)
    assert alone.returncode == 0, alone.stderr

    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    answers = uri("music/many-answers")
    with nodes({name: os.environ[name] for name in keys}) as cluster:
        addresses = [f"127.0.0.{last}" for last in range(3, 10)]
        for address in addresses[:2]:
            cluster.join(address, 1)
            cluster.until_joined(address)
        cluster.join("127.0.0.30", 1, options=("--labels", "earmark/packages=featurize"))
        cluster.until_joined("127.0.0.30")
        sent = submit(cluster, "--shared", "/", "--", "predict", run, uri("music/many"), "--out", answers, *LIMITS)
        for lost, new in zip(addresses[:5], addresses[2:], strict=True):
            before = len(list_answers(StoragePath.of(answers)))
            wait_for(lambda: len(list_answers(StoragePath.of(answers))) > before + 1, sent, 300)  # noqa: B023
            cluster.kill(lost)
            assert predictors_on(cluster, "127.0.0.2", "127.0.0.30") == 0
            print(f"{lost} killed after {len(list_answers(StoragePath.of(answers)))} shards")
            cluster.join(new, 1)
            cluster.until_joined(new)
        status, stdout, stderr = ended(sent, 500)
    assert status == 0, stdout + stderr
    assert contents(answers) == contents(tmp_path / "alone")
