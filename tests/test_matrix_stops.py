"""SIGKILL, SIGTERM and SIGINT at random moments of every command: nothing partial, and the next run completes it.

The next run makes the bytes of an undisturbed one and leaves no temporary file; no process goes on.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.command_line import earmark
from support.processes import MARK, handles, processes

pytestmark = pytest.mark.matrix

SETTINGS = ["--set", "featurize.segments_per_track=4", "--set", "featurize.tracks_per_shard=3"]
TRAINING = ["--set", "train.model=modulation", "--set", "train.epochs=2", "--set", "train.device=cpu"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# After SIGKILL nobody is left to end Ray's helpers, which notice it themselves.
SECONDS_TO_END = {signal.SIGKILL: 60, signal.SIGTERM: 5, signal.SIGINT: 5}
VERBS = ("featurize", "run", "train", "crossval", "evaluate", "export", "compare", "predict", "verify", "demo")
TIMED = (".json", ".yaml", ".html")  # they hold times, places or the process's own settings
MOMENTS = ("tensorboard", "checkpoints")  # a run that was stopped has checkpoints of those moments, too


@pytest.fixture(scope="module")
def trained(features, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    done = earmark("train", features, "--out", run, *TRAINING)
    assert done.returncode == 0, done.stderr
    return run


def command(verb: str, music: Path, features: Path, trained: Path, out: Path) -> list[str]:
    if verb == "evaluate" and not (out / "run").exists():
        shutil.copytree(trained, out / "run")
    words: dict[str, list[object]] = {
        "featurize": ["featurize", music, "--out", out / "features", *SETTINGS],
        "run": ["run", music, "--out", out / "run", *SETTINGS, *TRAINING],
        "train": ["train", features, "--out", out / "run", *TRAINING],
        "crossval": ["crossval", features, "--out", out / "folds", *TRAINING],
        "evaluate": ["evaluate", out / "run"],
        "export": ["export", trained, "--format", "keras", "--out", out / "exported.keras"],
        "compare": ["compare", trained, trained, "--out", out / "compare.html"],
        "predict": ["predict", trained, music],
        "verify": ["verify", features],
        "demo": ["demo", "--out", out / "demo"],
        "doctor": ["doctor"],
    }
    return [str(word) for word in words[verb]]


def start(words: list[str], mark: str, temporary: Path, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *words],
        env={**os.environ, MARK: mark, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=cwd,
    )


def start_and_wait(words: list[str], mark: str, delay: float, temporary: Path) -> subprocess.Popen | None:
    """Start a command and wait some seconds from when it handles signals; None if it has ended by then."""
    running = start(words, mark, temporary, temporary.parent)
    while running.poll() is None and not handles(running.pid, signal.SIGTERM):
        time.sleep(0.005)
    time.sleep(delay)
    if running.poll() is None:
        return running
    running.communicate()
    return None


def check_no_process_remains(mark: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def check_whole(folder: Path) -> None:
    """Read every file that has its final name."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".parquet":
                pq.read_table(path, partitioning=None)
            case ".keras":
                assert zipfile.ZipFile(path).testzip() is None
            case ".html":
                assert path.read_text().rstrip().endswith("</html>")


def results(folder: Path, stdout: str, verb: str) -> dict[str, bytes]:
    """Return what two runs have in common, by name: weights, predictions, shards, and the output of queries."""
    found = {"stdout": stdout.encode()} if verb in ("predict", "verify") else {}
    for path in sorted(folder.rglob("*")):
        name, parts = str(path.relative_to(folder)), path.relative_to(folder).parts
        if path.suffix == ".keras":
            found[name] = zipfile.ZipFile(path).read("model.weights.h5")
        elif (
            path.is_file()
            and path.suffix not in TIMED
            and not any(part in MOMENTS or part[0] == "." for part in parts)
        ):
            found[name] = path.read_bytes()
    return found


def leftovers(*folders: Path) -> list[str]:
    names = (".earmark-", "earmark-", "__autograph")
    return [str(path) for folder in folders for path in folder.rglob("*") if path.name.startswith(names)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_that_was_stopped_three_times(verb, music, features, trained, tmp_path):
    moments = random.Random(f"stops {verb}")
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    out.mkdir()
    undisturbed.mkdir()
    with tempfile.TemporaryDirectory(prefix="em", dir="/tmp") as short:
        temporary = Path(short)
        begun = time.monotonic()
        words = command(verb, music, features, trained, undisturbed)
        stdout, stderr = start(words, uuid.uuid4().hex, temporary, tmp_path).communicate(timeout=600)
        assert "Traceback" not in stderr
        expected = results(undisturbed, stdout, verb)
        seconds = time.monotonic() - begun
        assert not os.listdir(temporary)
        for signum in SIGNALS:
            mark = uuid.uuid4().hex
            delay = moments.uniform(0.02, 0.9) * seconds
            words = command(verb, music, features, trained, out)
            while (running := start_and_wait(words, mark, delay, temporary)) is None:
                shutil.rmtree(out)  # it had finished
                out.mkdir()
                words = command(verb, music, features, trained, out)
                delay /= 2
            running.send_signal(signum)
            stdout, stderr = running.communicate(timeout=120)
            print(f"{verb}: {signum.name} after {delay:.1f} of {seconds:.1f} s: {running.returncode}")
            assert "Traceback" not in stderr, stderr
            if signum == signal.SIGKILL:
                assert running.returncode == -signum
            else:
                assert running.returncode == 128 + signum, stderr
                assert stderr.count("Stopped") == 1, stderr
            check_no_process_remains(mark, SECONDS_TO_END[signum])
            check_whole(out)
        running = start(words, uuid.uuid4().hex, temporary, tmp_path)
        stdout, stderr = running.communicate(timeout=600)
        assert running.returncode == 0, stderr
        assert results(out, stdout, verb) == expected
        assert not leftovers(out, temporary)


def test_doctor_leaves_nothing_when_it_is_stopped(tmp_path):
    moments = random.Random("stops doctor")
    with tempfile.TemporaryDirectory(prefix="em", dir="/tmp") as short:
        for signum in (signal.SIGTERM, signal.SIGINT):
            mark = uuid.uuid4().hex
            running = start(["doctor"], mark, Path(short), tmp_path)
            while running.poll() is None and not handles(running.pid, signal.SIGTERM):
                time.sleep(0.005)
            time.sleep(moments.uniform(0.5, 12))
            running.send_signal(signum)
            _, stderr = running.communicate(timeout=120)
            assert running.returncode == 128 + signum
            assert "Traceback" not in stderr
            check_no_process_remains(mark, SECONDS_TO_END[signum])
        assert not leftovers(Path(short), tmp_path)
