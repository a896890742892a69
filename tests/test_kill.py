"""After a driver, worker or disk is lost, the next run writes the same dataset and leaves no temporary files."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.command_line import contents, earmark
from support.disks import small_disk

from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import list_shards
from featurize.dataset_build.driver import featurize
from featurize.errors import FeaturizeError

SETTINGS = ["--set", "featurize.tracks_per_shard=2", "--set", "featurize.segments_per_track=4"]
SETTINGS += ["--set", "featurize.group_by=none", "--set", "featurize.track_timeout=4"]
CONFIG = FeaturizeConfig(tracks_per_shard=2, segments_per_track=4, group_by="none")


@pytest.fixture(scope="module")
def large_music(music, tmp_path_factory) -> Path:
    """Return a collection with six links to each piece: enough shards to kill a run between two of them."""
    root = tmp_path_factory.mktemp("large")
    for path in sorted(music.rglob("*.*")):
        for copy in range(6):
            link = root / path.relative_to(music).with_stem(f"{path.stem}-{copy}")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return root


@pytest.fixture(scope="module")
def uninterrupted(large_music, ray_here, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    featurize(str(large_music), folder, CONFIG)
    return folder


@contextlib.contextmanager
def _running(music, folder, environment=None):
    """Run `earmark featurize` in a child process, which is killed at the end of the block."""
    command = [sys.executable, "-m", "jobs.cli", "featurize", str(music), "--out", str(folder), *SETTINGS]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, **(environment or {})}, **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


def _descendants(pid: int) -> dict[int, str]:
    """Return the command lines of all descendants of a process, by process ID."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[number] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {number: names[number] for number in found - {pid}}


def _kill_runs(music, folder, kills: int, seed: int) -> int:
    """Kill the drivers of several runs at random moments; return how many were still running."""
    chance = random.Random(seed)
    killed = 0
    for _ in range(kills):
        with _running(music, folder) as running:
            wanted = len(list_shards(folder)) + chance.randint(0, 6)
            while running.poll() is None and len(list_shards(folder)) < wanted:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.03))
            workers = _workers(running.pid)
            if running.poll() is None:
                killed += 1
            running.send_signal(signal.SIGKILL)
            running.wait()
            _await_end(workers)
    return killed


def _workers(driver: int) -> list[int]:
    return sorted(p for p, name in _descendants(driver).items() if name.startswith("ray::write_features"))


def _await_end(workers) -> None:
    """Wait until all workers of a killed driver have ended. (Two Ray helper processes take up to a minute.)"""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _kill_workers(music, folder, kills: int, seed: int) -> tuple[int, int, str]:
    """Kill workers of one run at random moments; return the number of kills, the exit status and stderr."""
    chance = random.Random(seed)
    killed = 0
    with _running(music, folder) as running:
        while running.poll() is None and killed < kills:
            time.sleep(chance.uniform(0.0, 0.3))
            workers = _workers(running.pid)
            if workers and list_shards(folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    killed += 1
        _, stderr = running.communicate(timeout=300)
        return killed, running.returncode, stderr


def _assert_equal_contents(folder, uninterrupted) -> None:
    found = contents(folder)
    found.pop("config.yaml", None)
    assert found == contents(uninterrupted)
    assert {path.name for path in folder.rglob(".*")} <= {".lock"}


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, pytest.param(10, marks=pytest.mark.matrix)])
def test_a_run_that_is_killed_many_times_writes_the_same_bytes(kills, large_music, uninterrupted, tmp_path):
    drivers = _kill_runs(large_music, tmp_path, kills, seed=2)
    done_before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").rglob("*.parquet")}
    workers, status, stderr = _kill_workers(large_music, tmp_path, kills, seed=2)
    assert status == 0, stderr
    _assert_equal_contents(tmp_path, uninterrupted)
    assert {path: path.stat().st_mtime_ns for path in done_before} == done_before
    shards = len(list_shards(tmp_path))
    print(f"{drivers} drivers and {workers} workers killed; {shards} shards, all bytes equal")


FAULTY = textwrap.dedent(
    """
    # Wraps the real soundfile; native code crashes on files that begin with BOOM, and hangs on LOOP.
    import ctypes, importlib.machinery, importlib.util, os, sys

    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [path for path in sys.path if os.path.abspath(path) != here]
    spec = importlib.machinery.PathFinder.find_spec("soundfile", elsewhere)
    real = importlib.util.module_from_spec(spec)
    sys.modules["soundfile"] = real
    spec.loader.exec_module(real)
    opened = real.SoundFile.__init__

    def __init__(self, file, *arguments, **keywords):
        head = file.read(4)
        file.seek(0)
        if head == b"BOOM":
            ctypes.string_at(0)
        if head == b"LOOP":
            ctypes.PyDLL(None).pause()  # blocks without releasing the GIL
        opened(self, file, *arguments, **keywords)

    real.SoundFile.__init__ = __init__
    """
)


@pytest.mark.slow
def test_only_files_that_crash_or_hang_the_decoder_are_rejected(music, tmp_path):
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / "soundfile.py").write_text(FAULTY)
    root, folder = tmp_path / "music", tmp_path / "features"
    shutil.copytree(music, root)
    (root / "bells" / "boom.mp3").write_bytes(b"BOOM" * 100)
    (root / "reeds" / "loop.mp3").write_bytes(b"LOOP" * 100)
    with _running(root, folder, {"PYTHONPATH": str(tmp_path / "faulty")}) as running:
        _, stderr = running.communicate(timeout=200)
    assert running.returncode == 0, stderr
    rejects = open_dataset(folder).rejects().to_pylist()
    allow_more = "allow more with --set featurize.track_timeout=SECONDS --retry-rejects"
    assert [(r["path"], r["stage"], r["reason"], r["message"]) for r in rejects] == [
        ("bells/boom.mp3", "decode", "crashed the decoder", "its process ended with SIGSEGV"),
        ("reeds/loop.mp3", "decode", "timed out", f"still at work after 4 s; {allow_more}"),
    ]
    assert open_dataset(folder).info.segments == 30 * 4


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_next_run_continues(large_music, uninterrupted, tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, "3m"):
        done = earmark("featurize", large_music, "--out", disk / "features", *SETTINGS)
        assert done.returncode == 1
        full = done.stderr.rpartition("device (")[2].partition(")")[0]
        assert full.startswith(f"{disk / 'features'}/")
        assert done.stderr.splitlines()[-1] == (
            f"earmark: cannot write to {disk / 'features'}: No space left on device ({full}). Finished shards are "
            "kept; fix the problem and run the same command again to continue."
        )
        finished = sorted(list_shards(disk / "features"))
        assert finished
        assert all(pq.ParquetFile(disk / "features" / "shards" / name).read().num_rows for name in finished)
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        before = {name: os.stat(disk / "features" / "shards" / name).st_mtime_ns for name in finished}
        done = earmark("featurize", large_music, "--out", disk / "features", *SETTINGS)
        assert done.returncode == 0, done.stderr
        assert {name: os.stat(disk / "features" / "shards" / name).st_mtime_ns for name in finished} == before
        _assert_equal_contents(disk / "features", uninterrupted)


def test_a_lost_mount_is_reported_and_rejects_no_track(music, features, ray_here, tmp_path):
    root, folder = tmp_path / "music", tmp_path / "features"
    shutil.copytree(music, root)
    config = FeaturizeConfig(tracks_per_shard=3, segments_per_track=4)
    with pytest.raises(FeaturizeError, match=r"was there when the run began .* Is its disk still mounted\?"):
        featurize(
            str(root), folder, config, on_progress=lambda _: root.exists() and root.rename(tmp_path / "away")
        )
    assert not (folder / "dataset.json").exists()
    (tmp_path / "away").rename(root)
    assert featurize(str(root), folder, config).rejected == 0
    assert contents(folder) == contents(features)


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(large_music, uninterrupted, tmp_path):
    with _running(large_music, tmp_path) as first:
        while first.poll() is None and not (tmp_path / "tracks.parquet").exists():
            time.sleep(0.01)
        second = earmark("featurize", large_music, "--out", tmp_path, *SETTINGS)
        assert second.returncode == 1
        assert f"another run (process {first.pid}) is already running in {tmp_path}" in second.stderr
        _, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stderr
    _assert_equal_contents(tmp_path, uninterrupted)
