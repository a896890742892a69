"""Ctrl-C and SIGTERM at any moment of any command: status, sentence, and no process left."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid

import pytest
from support.command_line import earmark
from support.processes import MARK, handles, processes

from jobs.terminal.signals import handled, noted_signals

SETTINGS = ["--set", "featurize.segments_per_track=4", "--set", "featurize.tracks_per_shard=3"]
TRAINING = ["--set", "train.model=modulation", "--set", "train.epochs=3", "--set", "train.device=cpu"]
SECONDS = {  # that a command takes about; a signal arrives within them
    "featurize": 4,
    "run": 9,
    "train": 6,
    "crossval": 10,
    "tune": 10,
    "predict": 4,
    "export": 5,
    "evaluate": 4,
    "report": 3,
    "compare": 1.2,
    "verify": 0.9,
    "demo": 5,
}

_SECONDS_TO_END = 0.5  # that a command takes after it has done its work


@pytest.fixture(scope="module")
def trained(features, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    done = earmark("train", features, "--out", out, *TRAINING)
    assert done.returncode == 0, done.stderr
    return out


def stop(words: list[str], signum: signal.Signals, delay: float, group: bool) -> tuple[int, str]:
    """Send a signal to a command after a delay; return its status and output, and check that nothing remains."""
    mark = uuid.uuid4().hex
    running = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *words],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while running.poll() is None and not handles(running.pid, signal.SIGTERM):
        time.sleep(0.005)
    time.sleep(delay)
    if running.poll() is not None:  # on a fast machine, the command ends sooner
        running.communicate()
        return stop(words, signum, delay / 2, group)
    (os.killpg if group else os.kill)(running.pid, signum)
    sent = time.monotonic()
    stdout, stderr = running.communicate(timeout=60)
    if running.returncode == 0 and time.monotonic() - sent < _SECONDS_TO_END:  # it was ending already
        return stop(words, signum, delay / 2, group)
    deadline = time.monotonic() + 5
    while (left := processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    return running.returncode, stdout + stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_during_imports(signum):
    status, output = stop(["verify", "/nowhere"], signum, 0.0, group=False)
    assert status == 128 + signum
    assert output.count("Stopped") == 1
    assert "Traceback" not in output


def commands(music, features, trained, out) -> dict[str, list[str]]:
    space = out / "space.yaml"
    space.write_text("train.learning_rate: [1e-3, 1e-2]\n")
    return {
        "featurize": ["featurize", music, "--out", out / "f", *SETTINGS],
        "run": ["run", music, "--out", out / "r", *SETTINGS, *TRAINING],
        "train": ["train", features, "--out", out / "t", *TRAINING],
        "crossval": ["crossval", features, "--out", out / "c", *TRAINING],
        "tune": ["tune", features, "--space", space, "--samples", 2, "--out", out / "s", *TRAINING],
        "predict": ["predict", trained, music],
        "export": ["export", trained, "--format", "onnx", "--out", out / "model.onnx"],
        "evaluate": ["evaluate", trained],
        "report": ["report", trained],
        "compare": ["compare", trained, trained, "--out", out / "compare.html"],
        "verify": ["verify", features],
        "demo": ["demo", "--out", out / "d"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", SECONDS)
def test_a_stop_at_a_random_moment(command, music, features, trained, tmp_path):
    moments = random.Random(command)
    words = [str(word) for word in commands(music, features, trained, tmp_path)[command]]
    for signum, group in [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGINT, True)]:
        delay = moments.uniform(0, SECONDS[command])
        status, output = stop(words, signum, delay, group)
        print(f"{command}: {signum.name} after {delay:.2f} s: {status}")
        assert status == 128 + signum, (delay, output)
        assert output.count("Stopped") == 1, (delay, output)
        assert "Traceback" not in output, (delay, output)


def test_a_signal_that_training_does_not_obey_acts_after_it():
    obeyed = []
    with handled(lambda signum, frame: obeyed.append(signum)):
        with noted_signals() as noted:
            signal.raise_signal(signal.SIGTERM)
            assert noted() == signal.SIGTERM
            assert obeyed == []
        assert obeyed == [signal.SIGTERM]
        with contextlib.suppress(KeyError), noted_signals() as noted:
            signal.raise_signal(signal.SIGINT)
            raise KeyError(noted())  # obeyed
        assert obeyed == [signal.SIGTERM]
        with noted_signals():
            pass
    assert obeyed == [signal.SIGTERM]


def test_a_stop_that_a_destructor_swallows_prints_no_traceback(tmp_path):
    script = tmp_path / "destructor.py"
    script.write_text(
        "import os, signal\n"
        "from jobs.terminal.signals import end_with\n"
        "class Swallows:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "def command():\n"
        "    Swallows()\n"
        "    print('went on')\n"
        "end_with(command)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (143, "went on\n", "Stopped.\n")


def test_a_stop_that_the_last_destructor_of_a_command_swallows_is_its_status(tmp_path):
    script = tmp_path / "last.py"
    script.write_text(
        "import os, signal\n"
        "from jobs.commands.error_exits import plain_errors\n"
        "from jobs.terminal.signals import end_with\n"
        "class Swallows:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "def command():\n"
        "    with plain_errors('All is kept.'):\n"
        "        Swallows()\n"
        "end_with(command)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Stopped. All is kept.\n")


def test_a_signal_during_the_end_of_the_process_ends_it_in_the_same_way(tmp_path):
    script = tmp_path / "ending.py"
    script.write_text(
        "import atexit, os, signal, sys\n"
        "from jobs.terminal.signals import end_with\n"
        "class Output:\n"
        "    def flush(self):\n"
        "        sys.stdout = sys.__stdout__\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "def command():\n"
        "    atexit.register(print, 'the way out of the interpreter')\n"
        "    sys.stdout = Output()\n"
        "end_with(command)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "Stopped.\n")


def test_a_swallowed_stop_and_a_second_one_end_the_process(tmp_path):
    script = tmp_path / "swallows.py"
    script.write_text(
        "import sys, time\n"
        "import jobs.terminal.signals\n"
        "jobs.terminal.signals._CLEANUP_SECONDS = 1.0\n"
        "from jobs.commands.error_exits import plain_errors\n"
        "from jobs.terminal.signals import end_with\n"
        "def command():\n"
        "    with plain_errors('All is kept.'):\n"
        "        while True:\n"
        "            try:\n"
        "                print('ready', flush=True)\n"
        "                time.sleep(60)\n"
        "            except BaseException:\n"
        "                print('swallowed', flush=True)\n"
        "end_with(command)\n"
    )
    for second in (True, False):
        running = subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert running.stdout.readline() == "ready\n"
        running.terminate()
        assert running.stdout.readline() == "swallowed\n"
        if second:
            running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=20)
        assert running.returncode == 143
        assert stderr == "Stopped. All is kept.\n"
