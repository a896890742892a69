"""One run at a time in a folder, also after the process that holds the lock has crashed."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from featurize.errors import FeaturizeError
from featurize.execution import folder_lock
from featurize.execution.folder_lock import holder_of, only_run_in
from featurize.storage import StoragePath

HOLD = """
import sys
from featurize.execution import folder_lock
from featurize.execution.folder_lock import only_run_in
from featurize.storage import StoragePath
with only_run_in(StoragePath.of(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(folder: Path):
    """Lock a folder in another process until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            yield other
        finally:
            other.kill()


def test_another_process_is_refused_and_the_holder_is_named(tmp_path):
    folder = StoragePath.of(tmp_path)
    with held(tmp_path) as other:
        with pytest.raises(FeaturizeError) as refused, only_run_in(folder):
            pass
        assert str(refused.value) == (
            f"another run (process {other.pid}) is already running in {tmp_path}. "
            "Wait for it, or give another --out."
        )
        assert holder_of(folder) == str(other.pid)
        assert (tmp_path / ".lock").read_text() == str(other.pid)
        other.stdin.close()
        assert other.wait(30) == 0
        assert holder_of(folder) is None
        with only_run_in(folder):
            assert holder_of(folder) == str(os.getpid())


def test_a_query_does_not_disturb_the_holder(tmp_path):
    folder = StoragePath.of(tmp_path)
    with only_run_in(folder):
        assert {holder_of(folder) for _ in range(3)} == {str(os.getpid())}
        with pytest.raises(FeaturizeError, match="another run"), only_run_in(folder):
            pass
        assert holder_of(folder) == str(os.getpid())


def test_a_killed_process_releases_the_lock(tmp_path):
    with held(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait(30)
    folder = StoragePath.of(tmp_path)
    assert holder_of(folder) is None
    with only_run_in(folder):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_an_error_releases_the_lock(tmp_path):
    folder = StoragePath.of(tmp_path)
    with pytest.raises(ZeroDivisionError), only_run_in(folder):
        raise ZeroDivisionError
    with only_run_in(folder):
        pass


def test_the_folder_is_created_and_the_lock_file_is_kept(tmp_path):
    folder = tmp_path / "a" / "b"
    assert holder_of(StoragePath.of(folder)) is None
    assert not folder.exists()
    with only_run_in(StoragePath.of(folder)):
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_shorter_process_id_replaces_a_longer_one(tmp_path):
    (tmp_path / ".lock").write_text("9" * 30)
    with only_run_in(StoragePath.of(tmp_path)):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


QUERY = """
import os, sys
from featurize.execution.folder_lock import holder_of
from featurize.storage import StoragePath
folder = StoragePath.of(sys.argv[1])
print("ready", flush=True)
while os.getppid() == int(sys.argv[2]):
    holder_of(folder)
"""


@pytest.mark.parametrize("left", ["", "2147483647"])
def test_a_run_begins_beside_endless_queries(left, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_RUN_TIMEOUT", 0.01)
    (tmp_path / ".lock").write_text(left)  # of a run that was killed
    command = [sys.executable, "-c", QUERY, str(tmp_path), str(os.getpid())]
    queries = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for query in queries:
            assert query.stdout.readline() == b"ready\n"
        for _ in range(200):
            with only_run_in(StoragePath.of(tmp_path)):
                assert holder_of(StoragePath.of(tmp_path)) == str(os.getpid())
    finally:
        for query in queries:
            query.kill()
            query.communicate()


def test_a_query_does_not_take_the_lock(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(fcntl, "flock", lambda *call: calls.append(call))
    for content, holder in ("", None), (str(os.getpid()), str(os.getpid())):
        (tmp_path / ".lock").write_text(content)
        assert holder_of(StoragePath.of(tmp_path)) == holder
    assert not calls


def test_a_query_that_shares_the_lock_for_a_moment_does_not_end_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_RUN_TIMEOUT", 0.01)
    (tmp_path / ".lock").write_text("2147483647")
    query = FileLock(tmp_path / ".lock", thread_local=False)
    query.acquire()
    release = threading.Timer(0.3, query.release)
    release.start()
    with only_run_in(StoragePath.of(tmp_path)):
        pass
    release.join()


def test_a_run_on_another_machine_is_a_holder_as_long_as_it_holds_the_lock(tmp_path):
    with held(tmp_path):
        (tmp_path / ".lock").write_text("2147483647")  # no process of this machine
        assert holder_of(StoragePath.of(tmp_path)) == "2147483647"
    assert holder_of(StoragePath.of(tmp_path)) is None


def test_another_process_with_the_number_of_one_that_was_killed_is_no_holder(tmp_path):
    (tmp_path / ".lock").write_text(str(os.getpid()))
    os.utime(tmp_path / ".lock", (0, 0))  # before this process started
    assert holder_of(StoragePath.of(tmp_path)) is None


@pytest.mark.parametrize("content", [b"\xff\n\x1b]0;x\x07", b"0", b"-1", b"9" * 1000, b"1 2"])
def test_a_lock_that_holds_no_process_id_names_no_holder(content, tmp_path):
    (tmp_path / ".lock").write_bytes(content)
    assert holder_of(StoragePath.of(tmp_path)) is None


def test_a_folder_that_is_not_writable_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FeaturizeError) as refused, only_run_in(StoragePath.of(tmp_path / "file" / "run")):
        pass
    assert str(refused.value) == (
        f"cannot write to {tmp_path / 'file' / 'run'}: Not a directory. Give --out a folder that you may write to."
    )


def test_a_lock_that_cannot_be_opened_is_refused(tmp_path):
    (tmp_path / ".lock").mkdir()
    folder = StoragePath.of(tmp_path)
    with (
        pytest.raises(FeaturizeError, match=r"cannot write to .*: Is a directory\. Give --out"),
        only_run_in(folder),
    ):
        pass
    assert holder_of(folder) is None


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_place_of_the_lock_is_refused_and_its_target_is_untouched(link, tmp_path):
    target, folder = tmp_path / "precious", tmp_path / "out"
    folder.mkdir()
    for content in ("keep me", "12345"):
        target.write_text(content)
        link(target, folder / ".lock")
        with pytest.raises(FeaturizeError, match=r"is not the lock of a run"), only_run_in(StoragePath.of(folder)):
            pass
        assert holder_of(StoragePath.of(folder)) is None
        assert target.read_text() == content
        (folder / ".lock").unlink()


def test_a_file_of_another_program_and_a_pipe_are_not_overwritten(tmp_path):
    (tmp_path / ".lock").write_text("locked by someone else")
    with pytest.raises(FeaturizeError, match=r"is not the lock of a run"), only_run_in(StoragePath.of(tmp_path)):
        pass
    assert (tmp_path / ".lock").read_text() == "locked by someone else"
    (tmp_path / ".lock").unlink()
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(FeaturizeError, match=r"is not the lock of a run"), only_run_in(StoragePath.of(tmp_path)):
        pass
