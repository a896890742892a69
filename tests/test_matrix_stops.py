"""SIGKILL, SIGTERM and SIGINT at random moments of every command: nothing partial, and the next run completes it.

The next run makes the bytes of an undisturbed one and leaves no temporary file; no process goes on.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from pathlib import Path

import pytest
from support.matrix import check_whole, commands, leftovers, prepare
from support.processes import MARK, handles, processes

pytestmark = pytest.mark.matrix

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# After SIGKILL nobody is left to end Ray's helpers, which notice it themselves.
SECONDS_TO_END = {signal.SIGKILL: 60, signal.SIGTERM: 5, signal.SIGINT: 5}
SECONDS_TO_EXIT = 1  # that a process takes after its command has done its work
VERBS = ("featurize", "compact", "run", "train", "crossval", "evaluate")
VERBS += ("export", "compare", "predict", "verify", "demo")
TIMED = (".json", ".yaml", ".html")  # they hold times, places or the process's own settings
MOMENTS = ("tensorboard", "checkpoints")  # a run that was stopped has checkpoints of those moments, too


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


def stop(words: list[str], mark: str, signum: signal.Signals, delay: float, temporary: Path) -> str | None:
    """Send a signal to a command some seconds after it handles signals; check its exit status.

    Returns:
        Its error output; None if it had done its work before the signal.
    """
    running = start(words, mark, temporary, temporary.parent)
    while running.poll() is None and not handles(running.pid, signal.SIGTERM):
        time.sleep(0.005)
    time.sleep(delay)
    running.send_signal(signum)  # to nobody if it has ended
    sent = time.monotonic()
    _, stderr = running.communicate(timeout=120)
    if running.returncode == 0 and time.monotonic() - sent < SECONDS_TO_EXIT:
        return None
    assert running.returncode == (-signum if signum == signal.SIGKILL else 128 + signum), stderr
    return stderr


def check_no_process_remains(mark: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


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


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_that_was_stopped_three_times(verb, music, features, quick_run, tmp_path):
    moments = random.Random(f"stops {verb}")
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    out.mkdir()
    undisturbed.mkdir()
    words = commands(music, features, quick_run, out)[verb]
    with tempfile.TemporaryDirectory(prefix="em", dir="/tmp") as short:
        temporary = Path(short)
        prepare(verb, features, quick_run, undisturbed)
        begun = time.monotonic()
        first = commands(music, features, quick_run, undisturbed)[verb]
        stdout, stderr = start(first, uuid.uuid4().hex, temporary, tmp_path).communicate(timeout=600)
        assert "Traceback" not in stderr
        expected = results(undisturbed, stdout, verb)
        seconds = time.monotonic() - begun
        assert not os.listdir(temporary)
        for signum in SIGNALS:
            mark = uuid.uuid4().hex
            delay = moments.uniform(0.02, 0.9) * seconds
            prepare(verb, features, quick_run, out)
            while (stderr := stop(words, mark, signum, delay, temporary)) is None:  # it had finished
                shutil.rmtree(out)
                out.mkdir()
                prepare(verb, features, quick_run, out)
                delay /= 2
            print(f"{verb}: {signum.name} after {delay:.1f} of {seconds:.1f} s")
            assert "Traceback" not in stderr, stderr
            if signum != signal.SIGKILL:
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
        begun = time.monotonic()
        start(["doctor"], uuid.uuid4().hex, Path(short), tmp_path).communicate(timeout=300)
        seconds = time.monotonic() - begun
        for signum in (signal.SIGTERM, signal.SIGINT) * 3:
            mark, delay = uuid.uuid4().hex, moments.uniform(0.1, 0.8) * seconds
            stderr = stop(["doctor"], mark, signum, delay, Path(short))
            print(f"doctor: {signum.name} after {delay:.1f} of {seconds:.1f} s")
            assert stderr is not None
            assert "Traceback" not in stderr
            check_no_process_remains(mark, SECONDS_TO_END[signum])
            assert not leftovers(Path(short), tmp_path)


def test_submit_stops_while_a_cluster_does_not_answer():
    moments = random.Random("stops submit")
    with (
        tempfile.TemporaryDirectory(prefix="em", dir="/tmp") as short,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = ["submit", "--address", address, "--", "run", "s3://music/music", "--out", "s3://music/run"]
        for signum in (signal.SIGTERM, signal.SIGINT) * 3:
            mark = uuid.uuid4().hex
            stderr = stop(words, mark, signum, moments.uniform(0, 4), Path(short))
            assert stderr is not None
            assert stderr.count("Stopped") == 1
            assert "Traceback" not in stderr
            check_no_process_remains(mark, 5)
            assert not os.listdir(short)
