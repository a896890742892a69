"""Functions in a child process: messages, errors, deaths, and no child that outlives its parent."""

import ctypes
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from featurize.errors import Reject
from featurize.execution.child_process import ChildProcess, Death
from featurize.execution.subprocess_task import SubprocessTask

LONG = 120  # seconds: generous, because the machine may be busy


@pytest.fixture(autouse=True)
def children_can_import_this_module(monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    )


def counted(numbers):
    yield from range(numbers)


def counted_until_dead(numbers, status):
    yield from range(numbers)
    os._exit(status)


def reject():
    raise Reject("decode", "not decodable", "no frames")


def noisy():
    print("in Python")
    os.write(1, b"in C, or in a process that a library starts\n")
    subprocess.run(
        [sys.executable, "-c", "print('hello'); import sys; sys.exit(sys.stdin.read() != '')"], check=True
    )
    return "quiet"


def hang_in_native_code():
    ctypes.PyDLL(None).pause()  # blocks without releasing the GIL


def print_error_and_abort():
    os.write(2, b"first\nmalloc(): corrupted\n\n")
    os.abort()


def modules():
    return sorted(name.partition(".")[0] for name in sys.modules)


def unpicklable():
    return lambda: None


def test_a_function_returns():
    with ChildProcess(math.sqrt, 4.0) as child:
        assert child.receive(LONG) == ("returned", 2.0)


def test_arguments_and_results_may_be_large():
    content = os.urandom(3 << 20)
    with ChildProcess(bytes.__add__, content, content) as child:
        assert child.receive(LONG) == ("returned", content + content)


def test_a_generator_sends_each_value_as_it_is_yielded():
    with ChildProcess(counted, 3) as child:
        found = [child.receive(LONG) for _ in range(4)]
    assert found == [("yielded", 0), ("yielded", 1), ("yielded", 2), ("returned", None)]


def test_an_error_keeps_its_type_and_attributes():
    with ChildProcess(reject) as child:
        kind, error = child.receive(LONG)
    assert kind == "raised"
    assert isinstance(error, Reject)
    assert (error.stage, error.reason, error.message) == ("decode", "not decodable", "no frames")


@pytest.mark.parametrize(
    ("function", "arguments", "status"),
    [(os.abort, (), -signal.SIGABRT), (ctypes.string_at, (0,), -signal.SIGSEGV), (os._exit, (7,), 7)],
)
def test_a_death_is_reported_with_its_status(function, arguments, status):
    with ChildProcess(function, *arguments) as child:
        kind, death = child.receive(LONG)
    assert kind == "died"
    assert death.status == status


def test_values_yielded_before_a_death_are_received():
    with ChildProcess(counted_until_dead, 2, 3) as child:
        assert [child.receive(LONG) for _ in range(3)] == [("yielded", 0), ("yielded", 1), ("died", Death(3, ""))]


def test_the_last_line_of_the_error_output_is_kept():
    with ChildProcess(print_error_and_abort) as child:
        assert child.receive(LONG) == ("died", Death(-signal.SIGABRT, "malloc(): corrupted"))


def test_a_result_that_cannot_be_pickled_is_reported_as_a_death():
    with ChildProcess(unpicklable) as child:
        kind, death = child.receive(LONG)
    assert (kind, death.status) == ("died", 1)
    assert "unpicklable.<locals>.<lambda>" in death.last_line  # the rest of it differs between versions of Python


def test_printed_output_does_not_corrupt_the_result():
    with ChildProcess(noisy) as child:
        assert child.receive(LONG) == ("returned", "quiet")


def test_a_hanging_child_times_out_and_is_killed_on_exit():
    with ChildProcess(hang_in_native_code) as child:
        with pytest.raises(TimeoutError):
            child.receive(3)
        # Other tests in this process may have started Ray.
        running = psutil.Process().children()
        [process] = [one for one in running if "featurize.execution.child_process" in " ".join(one.cmdline())]
        begun = time.monotonic()
    assert time.monotonic() - begun < LONG
    assert not process.is_running()
    assert child.receive(LONG).value.status == -signal.SIGKILL


PARENT = """
import os, signal, sys, time
from featurize.execution.child_process import ChildProcess
from featurize.execution.subprocess_task import SubprocessTask
if sys.argv[1] == "handled":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
with SubprocessTask() as task:
    task.submit("key", time.sleep, 600)
    print("begun", flush=True)
    task.result()
"""


@pytest.mark.parametrize(
    ("number", "handled"),
    [(signal.SIGINT, ""), (signal.SIGTERM, ""), (signal.SIGTERM, "handled"), (signal.SIGKILL, "")],
)
def test_the_end_of_the_parent_ends_the_child(number, handled):
    command = [sys.executable, "-c", PARENT, handled]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout.readline() == b"begun\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) == 1
        parent.send_signal(number)
        parent.wait(LONG)
        deadline = time.monotonic() + LONG
        while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_main_module_of_the_parent_is_not_loaded(tmp_path):
    script = tmp_path / "script.py"  # without `if __name__ == "__main__"`
    script.write_text(
        textwrap.dedent(
            """
            import sys
            print("loaded", flush=True)
            import jobs.cli, test_child_process
            from featurize.execution.child_process import ChildProcess
            with ChildProcess(test_child_process.modules) as child:
                print({"jobs", "tensorflow", "ray", "librosa"} & set(child.receive(120).value))
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "loaded\nset()\n"


def test_a_pool_of_one_process_yields_results_and_errors():
    with SubprocessTask[str]() as task:
        assert (len(task), task.full) == (0, False)
        for key, function, arguments, expected in [
            ("root", math.sqrt, (4.0,), 2.0),
            ("domain", math.sqrt, (-1.0,), ValueError),
            ("dead", print_error_and_abort, (), "its process ended with status -6: malloc(): corrupted"),
            ("gone", os._exit, (7,), "its process ended with status 7"),
        ]:
            task.submit(key, function, *arguments)
            assert (len(task), task.full) == (1, True)
            found = []
            while not found:
                found = list(task.finished())
            [(finished_key, outcome)] = found
            assert finished_key == key
            if expected is ValueError:
                assert type(outcome) is ValueError
            else:
                assert (str(outcome) if isinstance(expected, str) else outcome) == expected
            assert not task.full


def test_a_pool_of_one_process_returns_or_raises():
    with SubprocessTask[str]() as task:
        task.submit("root", math.sqrt, 4.0)
        assert task.result() == 2.0
        task.submit("reject", reject)
        with pytest.raises(Reject):
            task.result()
