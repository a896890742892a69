"""Two jobs in one folder of a bucket: the second learns of the first, and a dead one is forgotten."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from support.collection import two_classes
from support.command_line import earmark_here
from support.logs import logged

from featurize.errors import FeaturizeError
from featurize.execution.bucket_lease import Timing, lease_of
from featurize.execution.folder_lock import holder_of, only_run_in
from featurize.storage import StoragePath

FAST = Timing(renew=0.2, expire=1.5, settle=1.0)
SINCE = "2026-01-02T03:04:05Z"


@pytest.fixture
def folder(client, uri, request) -> StoragePath:
    return StoragePath.of(uri(f"music/{request.node.name.replace('[', '-').replace(']', '')}"))


def leases(folder: StoragePath) -> list[str]:
    return [name for name in folder.names() if name.startswith(".lease-")]


def put(folder: StoragePath, name: str, holds: bool, renewals: int = 0) -> None:
    """Write the lease of a job on another machine."""
    content = {"holder": "elsewhere-1-1", "who": "process 1 on elsewhere", "since": SINCE}
    (folder / name).write(json.dumps({**content, "holds": holds, "renewals": renewals}).encode().ljust(1000))


@contextmanager
def renewed_elsewhere(folder: StoragePath):
    """Renew the lease of a job on another machine until exit."""
    ended = threading.Event()

    def renew() -> None:
        count = 0
        while not ended.wait(0.1):
            put(folder, ".lease-elsewhere", holds=True, renewals=(count := count + 1))

    put(folder, ".lease-elsewhere", holds=True)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_lease_is_there_while_a_job_works_and_nothing_is_left(client, folder):
    with only_run_in(folder):
        assert len(leases(folder)) == 1
        assert holder_of(folder) is None
    assert client.list_objects_v2(Bucket="music", Prefix=folder.path.partition("/")[2])["KeyCount"] <= 1
    assert leases(folder) == []


def test_a_second_job_is_refused_and_the_first_is_named(folder):
    with renewed_elsewhere(folder), pytest.raises(FeaturizeError) as refused, lease_of(folder, FAST):
        pass
    assert str(refused.value) == (
        f"another run (process 1 on elsewhere, since 2026-01-02 03:04:05 UTC) is already running in {folder}. "
        "Wait for it, or give another --out."
    )
    assert leases(folder) == [".lease-elsewhere"]


def test_a_lease_is_renewed(folder):
    with lease_of(folder, FAST):
        (name,) = leases(folder)
        time.sleep(1)
        content = json.loads((folder / name).read())
        assert content["holds"]
        assert content["renewals"] >= 2
        assert content["who"].startswith(f"process {os.getpid()} on ")


def test_the_lease_of_a_dead_job_expires(folder):
    put(folder, ".lease-dead", holds=True, renewals=7)
    begun = time.monotonic()
    with logged("featurize") as messages, lease_of(folder, FAST):
        assert time.monotonic() - begun > FAST.expire
        assert ".lease-dead" not in leases(folder)
    assert messages == [
        f"Another run (process 1 on elsewhere, since 2026-01-02 03:04:05 UTC) has a lease on {folder}. Waiting "
        "whether it renews it: at most 1.5 seconds."
    ]


def test_jobs_that_died_while_they_started_are_forgotten(folder):
    dead = [".lease-0", ".lease-z"]  # before and after every other
    for name in dead:
        put(folder, name, holds=False)
    with lease_of(folder, FAST):
        (own,) = leases(folder)
        assert own not in dead


def test_the_lease_of_a_killed_process_of_this_machine_does_not_have_to_expire(folder):
    code = (
        "import sys; from featurize.execution.folder_lock import only_run_in\n"
        "from featurize.storage import StoragePath\n"
        "with only_run_in(StoragePath.of(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"\n"
        other.send_signal(signal.SIGKILL)
    assert len(leases(folder)) == 1
    begun = time.monotonic()
    with only_run_in(folder):
        assert time.monotonic() - begun < 20  # a lease expires after 120 s


def test_of_several_jobs_that_start_at_once_one_works(folder):
    together, working, most = threading.Barrier(4), [], []

    def job(_: int) -> str:
        together.wait()
        try:
            with lease_of(folder, FAST):
                working.append(1)
                most.append(len(working))
                time.sleep(2)  # several renewals
                working.pop()
        except FeaturizeError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as jobs:
        results = sorted(jobs.map(job, range(4)))
    assert max(most) == 1
    assert results[0] == ""
    assert all("is already running in" in result for result in results[1:])
    assert leases(folder) == []


def test_a_job_that_has_lost_its_lease_says_so_and_goes_on(folder):
    with logged("featurize") as messages, lease_of(folder, FAST):
        (own,) = leases(folder)
        (folder / own).remove()
        time.sleep(1)
        assert leases(folder) == [own]  # by a job that expected this one to be dead, and has ended
        put(folder, ".lease-elsewhere", holds=True)
        (folder / own).remove()
        time.sleep(1)
        assert leases(folder) == [".lease-elsewhere"]
    assert messages == [
        f"The lease of this job on {folder} has expired, and another run (process 1 on elsewhere, since "
        "2026-01-02 03:04:05 UTC) works there now. Their shards are the same, but they disturb each other's "
        "training: stop one of them."
    ]


def test_a_file_that_is_no_lease_is_ignored(folder):
    for number, content in enumerate((b"", b"\xff", b"{}", b'{"holder": ' + b"[" * 5000)):
        (folder / f".lease-{number}").write(content)
    with logged("featurize") as messages, lease_of(folder, FAST):
        assert len(leases(folder)) == 5
    assert messages == []


def test_a_store_without_leases_is_used_without_one(uri):
    missing = StoragePath.of(uri("no-such-bucket/run"))
    with logged("featurize") as messages, lease_of(missing, FAST):
        pass
    (message,) = messages
    assert message.startswith(f"{missing} has no lease (")


def test_a_command_in_a_folder_where_another_one_works_ends_with_the_sentence(folder, tmp_path):
    two_classes(tmp_path)
    with renewed_elsewhere(folder):
        done = earmark_here("featurize", tmp_path, "--out", f"s3://{folder.path}?{folder.query}")
    assert done.returncode == 1
    assert "earmark: another run (process 1 on elsewhere, since 2026-01-02 03:04:05 UTC) is already" in done.stderr
