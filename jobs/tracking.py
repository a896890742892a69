"""Send a run to an MLflow tracking server: settings, metrics of each epoch, final metrics and the report.

What is sent is read from the files of the run, after each epoch and at the end; the server is asked what it has
already. So a resumed run continues its record, and a command that is typed again sends what a server that was down
has missed. The server is called in a thread: waiting for it delays no training step, and its failure ends nothing.
"""

import contextlib
import importlib.util
import logging
import os
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurize.display import one_line
from featurize.place_uri import is_uri
from featurize.storage import StoragePath
from featurize.uri import uri_without_secrets, without_secrets
from jobs.errors import ConfigError, Interrupted
from jobs.reporters import NO_OBSERVER, RunObserver
from train.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

_RECORD = "mlflow.json"  # in the folder of the run: the id of its record
_EXPERIMENT = "earmark"  # unless MLFLOW_EXPERIMENT_NAME names another one
_ARTIFACTS = ("report.html", "metrics.json", "config.yaml")
_SECONDS_TO_END = 60.0  # for what is left to send after the command is finished
_PER_REQUEST = 100  # parameters, the most that a server accepts
_LONGEST_PARAMETER = 500  # characters, the most that older servers accept
_NOT_BEGUN = "NOT BEGUN"  # instead of a status: the record stays as it is
# MLflow would retry for minutes, send statistics of its use, and print on standard output.
_QUIET = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_log = logging.getLogger(__name__)


def tracking_uri(track: str | None) -> str | None:
    """Return the address of the tracking server that `--track` names; None without the option.

    Raises:
        ConfigError: It is not `mlflow` or `mlflow:URI`, no server is named, or MLflow is not installed.
    """
    if track is None:
        return None
    tracker, colon, uri = track.partition(":")
    if tracker != "mlflow" or (colon and not uri):
        raise ConfigError(
            f"--track {one_line(without_secrets(track))}: expected mlflow, or mlflow:URI such as "
            "mlflow:http://HOST:5000"
        )
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise ConfigError(
            "--track mlflow: no tracking server is named. Type --track mlflow:http://HOST:5000, or export "
            "MLFLOW_TRACKING_URI=http://HOST:5000"
        )
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError('--track mlflow: MLflow is not installed. Type: pip install "earmark[mlflow]"')
    return uri


@contextmanager
def tracked(uri: str | None, out: StoragePath) -> Iterator[RunObserver]:
    """Send a run to a tracking server until exit.

    A command that ends before it has begun the run changes no record: other settings are refused, or another
    process trains the run.

    Args:
        uri: Address of the server, from `tracking_uri`; None to send nothing.
        out: Folder of the run.

    Yields:
        What must be told when the run has begun, and after each epoch.
    """
    if uri is None:
        yield NO_OBSERVER
        return
    sender = _Sender(uri, Run(out))
    status = "FAILED"
    try:
        yield RunObserver(sender.begin, sender.request)
        status = "FINISHED"
    except (Interrupted, KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        sender.finish(status)


class _Sender:
    """Sends the files of a run in a thread, and warns once if that fails."""

    def __init__(self, uri: str, run: Run) -> None:
        self._uri, self._run = uri, run
        self._begun = False
        self._given_up = False  # the thread logs nothing any more: the command has ended
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # A daemon, so that a server that does not answer cannot keep the process.
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Note that the run has begun: from now on, its record is this command's."""
        self._begun = True

    def request(self) -> None:
        """Send what is new; returns at once."""
        self._requests.put(None)

    def finish(self, status: str) -> None:
        """Send what is new, and end the record with a status; wait for it a limited time.

        Args:
            status: Status as in `send`.
        """
        self._requests.put(status if self._begun else _NOT_BEGUN)
        self._thread.join(_SECONDS_TO_END)
        if self._thread.is_alive():
            self._warn(f"it has not taken everything within {_SECONDS_TO_END:.0f} s")
            self._given_up = True

    def _work(self) -> None:
        failed = False
        status: str | None = None
        while status is None:
            status = self._requests.get()
            while status is None and not self._requests.empty():  # one call for all requests so far
                status = self._requests.get()
            if status == _NOT_BEGUN:
                return
            try:
                send(self._uri, self._run, status)
                failed = False
            except Exception as error:  # MLflow's, those of its HTTP library, and of files of the run
                if not failed and not self._given_up:
                    self._warn(f"{type(error).__name__}: {error}")
                failed = True

    def _warn(self, reason: str) -> None:
        _log.warning(
            "The tracking server %s did not record %s: %s. The run does not depend on it. The same command sends "
            "again what is missing.",
            uri_without_secrets(self._uri),
            self._run.folder,
            one_line(without_secrets(reason))[:500],
        )


def send(uri: str, run: Run, status: str | None) -> None:
    """Send what a tracking server has not recorded of a run.

    Args:
        uri: Address of the server.
        run: Run that has begun.
        status: Status to end the record with, `FINISHED`, `KILLED` or `FAILED`; None if the run goes on.

    Raises:
        Exception: The server does not answer or refuses; of any class, as MLflow raises it.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    record = _record_of(client, uri, run)
    identity, recorded = record.info.run_id, record.info.status
    if not status and recorded != "RUNNING":
        client.update_run(identity, status="RUNNING")
    _send_settings(client, identity, run, record.data)
    is_new = _send_epochs(client, identity, run, record.data.metrics)
    ended = None  # now
    if status == "FINISHED":
        is_new |= _send_scores(client, identity, run, record.data.metrics)
        _send_files(client, identity, run)
        ended = int((run.folder / "metrics.json").modified() * 1000)  # maybe by an earlier command
    if status and (is_new or status != recorded):  # else the record keeps the time of its end
        client.set_terminated(identity, status, ended)


def _record_of(client: "MlflowClient", uri: str, run: Run) -> Any:
    """Return the record of a run on the server, which is created if there is none."""
    from mlflow.exceptions import MlflowException

    place = uri_without_secrets(uri) if is_uri(uri) else uri
    known = run.read(_RECORD)
    if isinstance(known, dict) and known.get("server") == place:
        with contextlib.suppress(MlflowException):  # removed there, or the folder is a copy from elsewhere
            record = client.get_run(str(known.get("run")))
            if record.info.lifecycle_stage == "active":
                return record
    info = run.info()
    assert info  # the caller has seen run.json
    started = info.started
    name = one_line(run.name)
    runs, slash, _ = name.partition("/")
    tags = {
        "earmark.dataset": info.dataset,
        "earmark.version": started.versions.get("earmark") if started else None,
        "earmark.runs": runs if slash else None,  # to group the folds of a cross-validation by
        "mlflow.source.name": f"earmark {started.command[0]}" if started and started.command else "earmark",
        "mlflow.source.type": "LOCAL",  # the page shows the commit of such a source
        "mlflow.source.git.commit": started.revision if started else None,
    }
    record = client.create_run(
        _experiment(client),
        start_time=int(datetime.fromisoformat(started.date).timestamp() * 1000) if started else None,
        tags={key: value for key, value in tags.items() if value},
        run_name=name,
    )
    run.write(_RECORD, {"server": place, "run": record.info.run_id})  # at once, so that there is no second record
    return record


def _experiment(client: "MlflowClient") -> str:
    """Return the id of the experiment, which is created if there is none."""
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
    with contextlib.suppress(MlflowException):  # it exists, or another fold creates it at the same time
        if not client.get_experiment_by_name(name):
            client.create_experiment(name)
    found = client.get_experiment_by_name(name)
    if not found:
        raise LookupError(f"the server has no experiment {name!r}, and creates none")
    return str(found.experiment_id)


def _send_settings(client: "MlflowClient", identity: str, run: Run, known: Any) -> None:
    """Send the settings that the server does not have; one that has changed, such as train.epochs, as a tag.

    Args:
        client: Client of the server.
        identity: Id of the record.
        run: The run.
        known: Data of the record. A parameter in it cannot be changed on the server.
    """
    from mlflow.entities import Param

    info = run.info()
    assert info  # as in `_record_of`
    sections = {"train": info.train, "featurize": run.featurize_settings()}
    settings = {
        f"{section}.{key}": str(value)[:_LONGEST_PARAMETER]
        for section, values in sections.items()
        for key, value in values.items()
    }
    missing = [Param(name, value) for name, value in settings.items() if name not in known.params]
    for start in range(0, len(missing), _PER_REQUEST):
        client.log_batch(identity, params=missing[start : start + _PER_REQUEST])
    for name, value in settings.items():
        if known.tags.get(name, known.params.get(name, value)) != value:
            client.set_tag(identity, name, value)


def _send_epochs(client: "MlflowClient", identity: str, run: Run, known: dict[str, float]) -> bool:
    """Send the metrics of epochs that the server does not have; return whether there were any."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    history = client.get_metric_history(identity, "train/loss") if "train/loss" in known else []
    recorded = max((metric.step for metric in history), default=0)
    new = run.history()[recorded:]
    for entry in new:
        # The curve of `train.best_epoch_on_test` must not continue the scores of the finished model.
        names = {part: "test_each_epoch" if part == "test" else part for part in entry.parts}
        values = {
            f"{names[part]}/{key}": value
            for part, of in entry.parts.items()
            for key, value in of.to_json().items()
        }
        speed = ("learning_rate", "examples_per_second", "wait_fraction")
        values |= {key: getattr(entry, key) for key in speed}
        client.log_batch(identity, [Metric(key, float(value), now, entry.epoch) for key, value in values.items()])
    return bool(new)


def _send_scores(client: "MlflowClient", identity: str, run: Run, known: dict[str, float]) -> bool:
    """Send the scores of a finished model, if the server has others; return whether it had."""
    from mlflow.entities import Metric

    metrics = run.metrics()
    assert metrics  # the command that has finished has written them
    final = {
        f"test/{part}_{key}": float(getattr(scores, key))
        for part, scores in (("track", metrics.tracks), ("segment", metrics.segments))
        for key in ("accuracy", "macro_f1", "loss")
    }
    final["model_epoch"] = float(metrics.epoch)
    if all(known.get(key) == value for key, value in final.items()):
        return False
    # The page draws bars instead of curves for metrics whose only step is 0.
    now = int(time.time() * 1000)
    client.log_batch(identity, [Metric(key, value, now, 0) for key, value in final.items()])
    return True


def _send_files(client: "MlflowClient", identity: str, run: Run) -> None:
    """Send the report, the metrics and the settings."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in _ARTIFACTS:
            if (file := run.folder / name).is_file():
                copy = Path(scratch, name)
                copy.write_bytes(file.read())
                client.log_artifact(identity, str(copy))
