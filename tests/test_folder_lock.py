"""One run at a time in a folder, also after the process that holds the lock has crashed."""

import contextlib
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


def test_a_momentary_query_neither_blocks_a_run_nor_counts_as_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_RUN_TIMEOUT", 60)
    monkeypatch.setattr(folder_lock, "_QUERY_TIMEOUT", 60)
    (tmp_path / ".lock").write_text("12345")  # of a run that has ended
    query = FileLock(tmp_path / ".lock", thread_local=False)
    for attempt in (only_run_in, lambda folder: contextlib.nullcontext(holder_of(folder))):
        query.acquire()
        release = threading.Timer(0.1, query.release)
        release.start()
        with attempt(StoragePath.of(tmp_path)) as holder:
            assert holder is None
        release.join()


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


def test_a_bucket_has_no_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bucket = StoragePath.of("s3://bucket/run?endpoint_override=http://127.0.0.1:9")
    with only_run_in(bucket), only_run_in(bucket):
        assert holder_of(bucket) is None
    assert list(tmp_path.iterdir()) == []


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
