"""The driver of `featurize` is killed at random moments, many times: the bytes are those of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from support.command_line import contents
from support.matrix import SETTINGS
from support.processes import MARK, handles, processes

from featurize.storage import StoragePath

pytestmark = pytest.mark.matrix

KILLS = 50


def start(music: str, out: str, mark: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "jobs.cli", "featurize", music, "--out", out, *SETTINGS]
    running = subprocess.Popen(
        command, env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while running.poll() is None and not handles(running.pid, signal.SIGTERM):
        time.sleep(0.005)
    return running


@pytest.fixture(params=["folder", "bucket"])
def places(request, music, tmp_path) -> tuple[str, str]:
    """Return a collection, and a folder for its dataset, on a disk or in a bucket."""
    if request.param == "folder":
        return str(music), str(tmp_path / "features")
    client, uri = (request.getfixturevalue(name) for name in ("client", "uri"))
    for path in music.rglob("*.*"):
        client.upload_file(str(path), "music", f"killed/{path.relative_to(music)}")
    return uri("music/killed"), uri("music/features")


def check_dataset(out: str, features: Path) -> None:
    found = contents(out)
    assert found.pop("config.yaml")
    assert found == contents(features)
    names = {name.split("/")[-1] for name, _ in StoragePath.of(out).files()}
    assert {name for name in names if name.startswith(".")} <= {".lock"}


def state_of(folder: StoragePath) -> str:
    shards = sum(name.endswith(".parquet") for name, _ in (folder / "shards").files())
    if (folder / "dataset.json").is_file():
        return "complete"
    if shards:
        return f"{shards:2} shards"
    return "a plan" if (folder / "tracks.parquet").is_file() else "no plan"


def test_a_driver_that_is_killed_at_many_moments_writes_the_same_bytes(places, features):
    music, out = places
    folder, moments, mark = StoragePath.of(out), random.Random("kills"), uuid.uuid4().hex
    begun = time.monotonic()
    running = start(music, out, mark)
    _, stderr = running.communicate(timeout=300)
    assert running.returncode == 0, stderr
    seconds = time.monotonic() - begun
    killed, completed = 0, 0
    states: Counter[str] = Counter()
    while killed < KILLS or running.returncode:
        if running.returncode == 0:
            check_dataset(out, features)
            completed += 1
            folder.remove_folder()
        # The workers of the last run may still be at work, as on a cluster.
        running = start(music, out, mark)
        if killed < KILLS:
            time.sleep(moments.uniform(0, seconds))
            running.kill()
        _, stderr = running.communicate(timeout=300)
        assert running.returncode in (0, -signal.SIGKILL), stderr
        if running.returncode:
            killed += 1
            states[state_of(folder)] += 1
    check_dataset(out, features)
    print(f"{killed} kills in {time.monotonic() - begun:.0f} s, {completed + 1} datasets; killed with:")
    print(", ".join(f"{state}: {count}" for state, count in sorted(states.items())))
    deadline = time.monotonic() + 60
    while (left := processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left
