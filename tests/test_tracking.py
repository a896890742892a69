"""`--track mlflow`: what a tracking server records of a run, and that its failure ends nothing."""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, NamedTuple

import pytest
from support.command_line import earmark, earmark_here
from support.logs import logged
from support.nodes import free_port

import jobs.tracking
from featurize.storage import StoragePath
from jobs.errors import ConfigError, Interrupted
from jobs.tracking import tracked, tracking_uri
from train.run import Run

SETTINGS = ["train.model=modulation", "train.batch_size=16", "train.learning_rate=1e-3"]
SET = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture
def begun(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    return StoragePath.of(tmp_path)


@pytest.mark.parametrize(
    ("track", "message"),
    [
        ("wandb", r"--track wandb: expected mlflow, or mlflow:URI"),
        ("mlflow:", r"--track mlflow:: expected mlflow, or mlflow:URI"),
        ("mlflow", r"no tracking server is named. Type --track mlflow:http://HOST:5000"),
        ("other:http://USER:SECRET@host", r"--track other:http://host: expected"),
    ],
)
def test_a_tracker_that_cannot_be_used_is_refused(track, message, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=message):
        tracking_uri(track)


def test_without_the_package_the_command_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.tracking.importlib.util, "find_spec", lambda name: None)
    for verb in ("train", "crossval"):
        out = tmp_path / verb
        done = earmark_here(verb, tmp_path / "features", "--out", out, "--track", "mlflow:http://127.0.0.1:1")
        assert done.returncode == 2
        assert 'pip install "earmark[mlflow]"' in done.stderr
        assert not out.exists()


def test_the_address_is_in_the_option_or_the_environment(monkeypatch):
    monkeypatch.setattr(jobs.tracking.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b")
    assert (tracking_uri(None), tracking_uri("mlflow")) == (None, "http://b")
    assert tracking_uri("mlflow:http://a:5000") == "http://a:5000"


def test_a_server_that_fails_is_a_warning(begun, monkeypatch):
    def fail(uri, run, status):
        raise ConnectionError("http://USER:SECRET@127.0.0.1:1 refused\nit")

    monkeypatch.setattr(jobs.tracking, "send", fail)
    logging.getLogger("jobs").propagate = True
    with logged("jobs") as messages, tracked("http://USER:SECRET@127.0.0.1:1", begun) as observer:
        observer.began()
        observer.epoch_ended()
        time.sleep(0.1)
        observer.epoch_ended()
    [message] = messages
    assert message.startswith(f"The tracking server http://127.0.0.1:1 did not record {begun}: ConnectionError: ")
    assert "SECRET" not in message


def test_a_server_that_never_answers_is_waited_for_a_limited_time(begun, monkeypatch):
    monkeypatch.setattr(jobs.tracking, "send", lambda uri, run, status: time.sleep(5))
    monkeypatch.setattr(jobs.tracking, "_SECONDS_TO_END", 0.2)
    start = time.monotonic()
    with logged("jobs") as messages, tracked("http://127.0.0.1:1", begun) as observer:
        observer.began()
    assert time.monotonic() - start < 4
    assert "has not taken everything within" in messages[0]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (Interrupted(2, ""), "KILLED"), (ValueError(), "FAILED")]
)
def test_the_record_ends_as_the_command_does(error, status, begun, monkeypatch):
    sent = []
    monkeypatch.setattr(jobs.tracking, "send", lambda uri, run, status: sent.append((uri, run.folder, status)))
    with pytest.raises(type(error)) if error else nullcontext(), tracked("http://a", begun) as observer:
        observer.began()
        if error:
            raise error
    assert sent == [("http://a", begun, status)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_command_that_ends_before_it_begins_changes_no_record(error, begun, monkeypatch):
    sent, threads = [], set(threading.enumerate())
    monkeypatch.setattr(jobs.tracking, "send", lambda uri, run, status: sent.append(status))

    def refuse():
        (begun / "run.json").write(b'{"resumed": []}')  # by another process, whose run it is
        raise error

    with pytest.raises(error), tracked("http://a", begun):
        refuse()
    assert sent == []
    assert set(threading.enumerate()) <= threads


class Point(NamedTuple):
    """A metric, as `mlflow.entities.Metric`."""

    key: str
    value: float
    timestamp: int
    step: int


class FlakyClient:
    """The part of MlflowClient that `send` uses, with a server that loses the first request for parameters."""

    records: ClassVar[list[SimpleNamespace]] = []
    failures = 1

    def __init__(self, uri):
        pass

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="1")

    def create_run(self, experiment, start_time, tags, run_name):
        info = SimpleNamespace(
            run_id=str(len(self.records)),
            lifecycle_stage="active",
            status="RUNNING",
            start_time=start_time,
            ends=0,
        )
        data = SimpleNamespace(params={}, metrics={}, tags=dict(tags), points=[])
        self.records.append(SimpleNamespace(info=info, data=data, name=run_name))
        return self.records[-1]

    def get_run(self, identity):
        return self.records[int(identity)]

    def log_batch(self, identity, metrics=(), params=()):
        if FlakyClient.failures:
            FlakyClient.failures -= 1
            raise ConnectionError
        data = self.records[int(identity)].data
        data.params.update(params)
        data.points += metrics
        data.metrics.update({metric.key: metric.value for metric in metrics})

    def get_metric_history(self, identity, key):
        return [metric for metric in self.records[int(identity)].data.points if metric.key == key]

    def set_tag(self, identity, key, value):
        self.records[int(identity)].data.tags[key] = value

    def update_run(self, identity, status):
        self.records[int(identity)].info.status = status

    def log_artifact(self, identity, path):
        pass

    def set_terminated(self, identity, status, end_time):
        info = self.records[int(identity)].info
        info.status, info.ends, info.end_time = status, info.ends + 1, end_time


@pytest.fixture
def flaky_server(monkeypatch):
    monkeypatch.setattr(FlakyClient, "records", [])
    monkeypatch.setattr(FlakyClient, "failures", 1)
    modules = {
        "mlflow": {"MlflowClient": FlakyClient},
        "mlflow.entities": {"Param": lambda key, value: (key, value), "Metric": Point},
        "mlflow.exceptions": {"MlflowException": LookupError},
    }
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    for name in jobs.tracking._QUIET:
        monkeypatch.setenv(name, "")


def fold_with(folder, settings):
    run = Run(folder / "folds" / "seed=1" / "fold=0")
    started = {"date": "2026-11-27T00:00:01Z", "command": ["crossval", "features"], "versions": {}}
    run.write("run.json", {"dataset": "d", "features": "f", "train": settings, "started": started})
    (run.folder / "config.yaml").write(b"featurize: {sample_rate: 22050}")
    return run


def test_a_server_that_fails_after_the_beginning_gets_one_record_with_all_settings(tmp_path, flaky_server):
    settings = {"epochs": 3, **{f"s{number}": number for number in range(150)}}  # two requests
    run = fold_with(tmp_path, settings)
    with pytest.raises(ConnectionError):
        jobs.tracking.send("http://a", run, None)
    for _ in range(2):
        jobs.tracking.send("http://a", run, None)
    [record] = FlakyClient.records
    assert record.name == "folds/seed=1/fold=0"
    expected = {f"train.{name}": str(value) for name, value in settings.items()}
    assert record.data.params == {**expected, "featurize.sample_rate": "22050"}
    assert record.info.start_time == 1795737601000
    assert record.data.tags == {
        "earmark.dataset": "d",
        "earmark.runs": "folds",
        "mlflow.source.name": "earmark crossval",
        "mlflow.source.type": "LOCAL",
    }


def test_scores_are_sent_when_the_command_has_finished(report_run, tmp_path, flaky_server, monkeypatch):
    monkeypatch.setattr(FlakyClient, "failures", 0)
    run = Run(StoragePath.of(shutil.copytree(report_run, tmp_path / "run")))
    for status in (None, "KILLED"):  # the metrics may be those of an earlier model
        jobs.tracking.send("http://a", run, status)
    [record] = FlakyClient.records
    losses = [point for point in record.data.points if point.key == "train/loss"]
    assert [(point.step, point.value) for point in losses] == [(e.epoch, e.train.loss) for e in run.history()]
    assert not any(key.startswith("test/") for key in record.data.metrics)
    os.utime(tmp_path / "run" / "metrics.json", (1, 1_700_000_000))
    for _ in range(2):
        jobs.tracking.send("http://a", run, "FINISHED")
    [score] = [point for point in record.data.points if point.key == "test/track_accuracy"]
    assert (score.step, score.value) == (0, run.metrics().tracks.accuracy)
    assert record.data.metrics["model_epoch"] == run.metrics().epoch
    assert (record.info.ends, record.info.end_time) == (2, 1_700_000_000_000)  # KILLED, and FINISHED once
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    metrics["tracks"]["accuracy"] /= 2
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    jobs.tracking.send("http://a", run, "FINISHED")
    assert (record.data.metrics["test/track_accuracy"], record.info.ends) == (score.value / 2, 3)


def test_a_finished_record_ends_again_only_if_it_went_on(report_run, tmp_path, flaky_server, monkeypatch):
    monkeypatch.setattr(FlakyClient, "failures", 0)
    run = fold_with(tmp_path, {"epochs": 1})
    shutil.copy(report_run / "metrics.json", run.folder.local)
    for _ in range(2):
        jobs.tracking.send("http://a", run, "FINISHED")
    [record] = FlakyClient.records
    assert (record.info.status, record.info.ends) == ("FINISHED", 1)
    fold_with(tmp_path, {"epochs": 3})  # continued
    jobs.tracking.send("http://a", run, None)
    assert record.info.status == "RUNNING"
    jobs.tracking.send("http://a", run, "FINISHED")
    assert (record.info.status, record.info.ends) == ("FINISHED", 2)
    assert (record.data.params["train.epochs"], record.data.tags["train.epochs"]) == ("1", "3")


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """An MLflow server of another environment, because it and Earmark's lock do not share one."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow-skinny is not installed: pip install 'earmark[mlflow]'")
    if not (command := os.environ.get("EARMARK_MLFLOW")):
        pytest.skip("EARMARK_MLFLOW is not set: it names the command mlflow of an environment with its server")
    folder, address = tmp_path_factory.mktemp("mlflow"), f"127.0.0.1:{free_port()}"
    host, port = address.split(":")
    places = ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "files")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [command, "server", "--host", host, "--port", port, "--workers", "1", *places],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.5)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_a_server_has_the_settings_the_epochs_the_scores_and_the_report(mlflow_server, features, tmp_path):
    from mlflow import MlflowClient

    out = tmp_path / "genres"
    selected = ["--set", "train.best_epoch_on_test=true"]  # its curve and the scores have other names
    command = ["train", features, "--out", out, *SET, *selected, "--track", f"mlflow:{mlflow_server}"]
    for epochs in (1, 3):  # the second one continues the record
        done = earmark(*command, "--set", f"train.epochs={epochs}")
        assert done.returncode == 0, done.stderr
        assert "did not record" not in done.stderr
        assert "mlflow" not in done.stdout.lower()
    client = MlflowClient(mlflow_server)
    [record] = client.search_runs([client.get_experiment_by_name("earmark").experiment_id])
    assert json.loads((out / "mlflow.json").read_text()) == {"server": mlflow_server, "run": record.info.run_id}
    assert (record.info.run_name, record.info.status) == ("genres", "FINISHED")
    assert record.data.params["train.model"] == "modulation"
    assert "featurize.sample_rate" in record.data.params
    info, metrics = Run(out).info(), Run(out).metrics()
    assert record.data.tags["earmark.dataset"] == info.dataset
    history = client.get_metric_history(record.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)] == [
        (entry.epoch, entry.train.loss) for entry in Run(out).history()
    ]
    assert len(history) == 3
    curve = client.get_metric_history(record.info.run_id, "test_each_epoch/track_accuracy")
    assert sorted(point.step for point in curve) == [1, 2, 3]
    assert record.data.tags["train.epochs"] == "3"
    [*_, score] = client.get_metric_history(record.info.run_id, "test/track_accuracy")
    assert (score.step, record.data.metrics["test/track_accuracy"]) == (0, metrics.tracks.accuracy)
    assert record.data.metrics["model_epoch"] == metrics.epoch
    refused = earmark(*command, "--set", "train.epochs=3", "--set", "train.learning_rate=1e-2")
    assert refused.returncode == 1
    again = client.get_run(record.info.run_id).info
    assert (again.status, again.end_time) == ("FINISHED", record.info.end_time)
    assert {file.path for file in client.list_artifacts(record.info.run_id)} == {
        "config.yaml",
        "metrics.json",
        "report.html",
    }
    page = client.download_artifacts(record.info.run_id, "report.html", str(tmp_path))
    assert Path(page).read_text() == (out / "report.html").read_text()


@pytest.mark.slow
def test_folds_are_recorded_and_a_server_that_is_gone_ends_no_training(mlflow_server, features, tmp_path):
    from mlflow import MlflowClient

    out, gone = tmp_path / "folds", f"http://127.0.0.1:{free_port()}"
    command = ["crossval", features, "--out", out, *SET, "--set", "train.epochs=1"]
    done = earmark(*command, "--track", f"mlflow:{gone}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"The tracking server {gone} did not record {out / 'fold=0'}") == 1
    done = earmark(*command, "--track", f"mlflow:{mlflow_server}")
    assert done.returncode == 0, done.stderr
    client = MlflowClient(mlflow_server)
    records = client.search_runs([client.get_experiment_by_name("earmark").experiment_id])
    names = sorted(record.info.run_name for record in records if record.info.run_name.startswith("folds/"))
    assert names == [f"folds/fold={fold}" for fold in range(5)]
