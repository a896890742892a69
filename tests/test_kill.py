"""Killed at any moment, by anyone: nothing is lost, doubled, half-written or left behind."""

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
    """Each piece of the collection under six names: enough shards to be killed in between."""
    root = tmp_path_factory.mktemp("large")
    for path in sorted(music.rglob("*.*")):
        for copy in range(6):
            link = root / path.relative_to(music).with_stem(f"{path.stem}-{copy}")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return root


@pytest.fixture(scope="module")
def undisturbed(large_music, ray_here, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    featurize(str(large_music), folder, CONFIG)
    return folder


@contextlib.contextmanager
def _running(music, folder, environment=None):
    """The command line at work in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "jobs.cli", "featurize", str(music), "--out", str(folder), *SETTINGS]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, **(environment or {})}, **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


def _descendants(pid: int) -> dict[int, str]:
    """The processes below a process, by id, with their command lines."""
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
    """Kill as many drivers at random moments, each in a run of its own; return how many were really at work."""
    chance = random.Random(seed)
    killed = 0
    for _ in range(kills):
        with _running(music, folder) as running:
            beginning = len(list_shards(folder))
            wanted = beginning + chance.randint(0, 6)
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
    """No worker goes on without its driver. (Two of Ray's own helpers look for it once a minute only.)"""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _kill_workers(music, folder, kills: int, seed: int) -> tuple[int, int, str]:
    """Kill as many workers of one run at random moments; return kills, exit status and what was said."""
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
        _, said = running.communicate(timeout=300)
        return killed, running.returncode, said


def _assert_the_same(folder, undisturbed) -> None:
    found = contents(folder)
    found.pop("config.yaml", None)
    assert found == contents(undisturbed)
    assert {path.name for path in folder.rglob(".*")} <= {".lock"}


@pytest.mark.slow
def test_killed_many_times_it_leaves_the_same_bytes(large_music, undisturbed, tmp_path):
    drivers = _kill_runs(large_music, tmp_path, 10, seed=2)
    done_before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").rglob("*.parquet")}
    workers, status, said = _kill_workers(large_music, tmp_path, 8, seed=2)
    assert status == 0, said
    _assert_the_same(tmp_path, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in done_before} == done_before
    shards = len(list_shards(tmp_path))
    print(f"{drivers} drivers and {workers} workers killed; {shards} shards, all bytes equal")


FAULTY = textwrap.dedent(
    """
    # Stands in front of the real soundfile, and makes native code crash or hang on files that begin so.
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
            ctypes.PyDLL(None).pause()  # and it never lets go of the interpreter
        opened(self, file, *arguments, **keywords)

    real.SoundFile.__init__ = __init__
    """
)


@pytest.mark.slow
def test_a_file_that_crashes_or_hangs_the_decoder_costs_itself_alone(music, tmp_path):
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / "soundfile.py").write_text(FAULTY)
    root, folder = tmp_path / "music", tmp_path / "features"
    shutil.copytree(music, root)
    (root / "bells" / "boom.mp3").write_bytes(b"BOOM" * 100)
    (root / "reeds" / "loop.mp3").write_bytes(b"LOOP" * 100)
    with _running(root, folder, {"PYTHONPATH": str(tmp_path / "faulty")}) as running:
        _, said = running.communicate(timeout=200)
    assert running.returncode == 0, said
    rejects = open_dataset(folder).rejects().to_pylist()
    assert [(r["path"], r["stage"], r["reason"], r["message"]) for r in rejects] == [
        ("bells/boom.mp3", "decode", "crashed the decoder", "its process ended with SIGSEGV"),
        ("reeds/loop.mp3", "decode", "timed out", "still at work after 4 s"),
    ]
    assert open_dataset(folder).info.segments == 30 * 4


@contextlib.contextmanager
def _small_disk(folder: Path, size: str):
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here: " + done.stderr.decode().strip())
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_a_sentence_and_the_next_run_goes_on(large_music, undisturbed, tmp_path):
    disk = tmp_path / "disk"
    with _small_disk(disk, "3m"):
        done = earmark("featurize", large_music, "--out", disk / "features", *SETTINGS)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            f"earmark: cannot write to {disk / 'features'}: No space left on device. Finished shards are kept; "
            "fix the problem and run the same command again to continue."
        )
        finished = sorted(list_shards(disk / "features"))
        assert finished
        assert all(pq.ParquetFile(disk / "features" / "shards" / name).read().num_rows for name in finished)
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        before = {name: os.stat(disk / "features" / "shards" / name).st_mtime_ns for name in finished}
        done = earmark("featurize", large_music, "--out", disk / "features", *SETTINGS)
        assert done.returncode == 0, done.stderr
        assert {name: os.stat(disk / "features" / "shards" / name).st_mtime_ns for name in finished} == before
        _assert_the_same(disk / "features", undisturbed)


def test_a_lost_mount_is_a_sentence_and_no_reject(music, features, ray_here, tmp_path):
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
def test_two_runs_at_once_end_well(large_music, undisturbed, tmp_path):
    with _running(large_music, tmp_path) as first:
        while first.poll() is None and not (tmp_path / "tracks.parquet").exists():
            time.sleep(0.01)
        second = earmark("featurize", large_music, "--out", tmp_path, *SETTINGS)
        assert second.returncode == 1
        assert f"another run (process {first.pid}) is already running in {tmp_path}" in second.stderr
        _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    _assert_the_same(tmp_path, undisturbed)
