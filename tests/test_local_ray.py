"""Ray on this machine: on loopback only, with a token, in a private folder that is removed at the end."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from support.disks import small_disk

DRIVER = """
import json, os, psutil, sys
from pathlib import Path
from featurize.execution.ray_tasks import ray_workers, run_all

def pid(number):
    import os
    return os.getpid()

with ray_workers(2):
    workers = [found for _, found in run_all(pid, [(number,) for number in range(4)])]
    me = psutil.Process()
    listening = [
        connection.laddr.ip
        for process in [me, *me.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == "LISTEN"
    ]
    commands = " ".join(word for process in me.children(recursive=True) for word in process.cmdline())
    [folder] = Path(os.environ["RAY_TMPDIR"]).iterdir()
    if "die" in sys.argv:
        print(folder, flush=True)
        os.kill(os.getpid(), 9)
    print(json.dumps({"listening": listening, "mode": folder.stat().st_mode & 0o777, "workers": workers,
                      "commands": commands, "statistics": os.environ["RAY_USAGE_STATS_ENABLED"]}))
"""


def drive(place, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": str(place), **more}
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="em", dir="/tmp") as short:
        yield Path(short)


def test_ray_listens_on_loopback_only_and_leaves_nothing(place):
    killed = drive(place, "die")
    assert killed.returncode == -9, killed.stderr
    [abandoned] = place.iterdir()
    assert str(abandoned) == killed.stdout.strip()
    done = drive(place)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {ip.removeprefix("::ffff:") for ip in found["listening"]} == {"127.0.0.1"}
    assert len(found["listening"]) > 4
    assert found["mode"] == 0o700
    assert "raylet" in found["commands"]
    for unneeded in ("monitor.py", "dashboard.py"):  # of a cluster; `log_monitor.py` is another
        assert unneeded not in found["commands"]
    assert found["statistics"] == "0"
    assert list(place.iterdir()) == []  # that of the killed run is gone, too
    deadline = time.monotonic() + 5  # the time in which nothing of a command remains, on a busy machine as well
    while (left := [pid for pid in found["workers"] if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_folders_in_use_and_of_other_programs_stay(place):
    from featurize.execution.local_ray import _private_folder

    other = place / "earmark-ray-other"
    other.mkdir()  # without our file in it
    os.environ["RAY_TMPDIR"], before = str(place), os.environ.get("RAY_TMPDIR")
    try:
        with _private_folder() as first, _private_folder() as second:
            assert first.parent.is_dir()
            assert second.parent.is_dir()
            assert first != second
    finally:
        os.environ.pop("RAY_TMPDIR") if before is None else os.environ.update(RAY_TMPDIR=before)
    assert list(place.iterdir()) == [other]


def test_a_folder_that_ray_cannot_use_is_named(place):
    # A longer path would be replaced by /tmp.
    for folder, reason in ((place / "a", "No such file or directory"), (Path("/proc"), "")):
        done = drive(folder)
        assert f"featurize.errors.FeaturizeError: Ray cannot start on this machine: {reason}" in done.stderr
        assert f"are in {folder}" in done.stderr
        assert "export RAY_TMPDIR=FOLDER" in done.stderr


def test_a_busy_machine_is_not_mistaken_for_a_folder_that_cannot_be_used(place):
    from featurize.execution.local_ray import _cannot_start

    message = str(_cannot_start(place, Exception("The current node timed out during startup. This could ...")))
    assert "its processes were not ready within 30 s" in message
    assert message.endswith("run again when the machine is less busy.")


@pytest.mark.slow
def test_a_full_folder_of_ray_is_named_and_left_empty(place):
    with small_disk(place, "1m"):
        filler = place / "filler"
        filler.write_bytes(bytes(1000 << 10))
        done = drive(place)
        assert "featurize.errors.FeaturizeError: Ray cannot start on this machine: " in done.stderr
        assert f"Its sockets and logs are in {place}, where 0.0 MB are free." in done.stderr
        assert list(place.iterdir()) == [filler]
