"""What this machine can do, found out by doing it: each finding says ok, or what to type.

What may crash, hang or be missing is imported late or runs in a process apart: it must not be the end of the rest.
"""

import dataclasses
import http.client
import json
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from platform import python_version
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from featurize.errors import FeaturizeError
from featurize.execution.ray_tasks import OBJECT_STORE_BYTES, WORKER_BYTES, on_cluster, ray_workers, refuse_silent
from featurize.execution.subprocess_task import SubprocessTask

_SHOWN = ("tensorflow", "keras", "ray", "librosa", "pyarrow", "numpy")
_TRAINING_BYTES = 2_500_000_000  # 1.9 GB for ten tones, the rest for windows of segments
_RAY_BYTES = 1_000_000_000  # its own processes and the driver, beside the workers
_ROOM_BYTES = 2 << 30  # on a disk; the shards of twenty thousand tracks
_ATTACH_SECONDS = 30.0
_DASHBOARD_SECONDS = 5.0
_CGROUP = Path("/sys/fs/cgroup")
_SHARED_MEMORY = Path("/dev/shm")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check has found.

    Attributes:
        name: of the check.
        state: `ok`; `remark` where everything runs, and something is better known; `broken`.
        found: in words.
        advice: what to do, and what to type; empty where it is ok.
    """

    name: str
    state: Literal["ok", "remark", "broken"]
    found: str
    advice: str = ""

    def __str__(self) -> str:
        return (
            f"{self.state:<7} {self.name:<10} {self.found.rstrip('.')}{'. ' if self.advice else ''}{self.advice}"
        )


def check_all() -> Iterator[Finding]:
    """Run every check and yield each finding as it comes; the last, a run of everything, takes a while."""
    yield check_versions("earmark")
    yield check_cores()
    yield check_memory(*read_memory())
    if _SHARED_MEMORY.is_dir():
        yield check_shared_memory(shutil.disk_usage(_SHARED_MEMORY).free)
    yield check_folder("temporary", tempfile.gettempdir, "Name another folder: export TMPDIR=FOLDER")
    yield check_folder("folder", os.getcwd, "Go to another one, or give --out a folder that you may write to")
    yield check_cluster()
    if address := os.environ.get("RAY_API_SERVER_ADDRESS"):
        yield check_dashboard(address, _token())
    try:
        from jobs.doctor.smoke_test import try_all
    except (ImportError, OSError) as error:  # the second is soundfile's, where there is no libsndfile
        yield Finding("decoders", "broken", in_one_line(error), "Type: pip install --force-reinstall earmark")
        return
    yield from try_all()


def check_versions(package: str) -> Finding:
    """Compare what is installed with what a package says that it needs, extras left out."""
    try:
        needed = metadata(package)
    except PackageNotFoundError:
        return Finding("versions", "broken", f"{package} is not installed", f"Type: pip install {package}")
    problems = []
    python = SpecifierSet(needed["Requires-Python"] or "")
    if not python.contains(python_version(), prereleases=True):
        problems.append(f"Python {python_version()}, expected {python}")
    for requirement in map(Requirement, needed.get_all("Requires-Dist") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if not found:
            problems.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(found, prereleases=True):
            problems.append(f"{requirement.name} {found}, expected {requirement.specifier}")
    if problems:
        return Finding("versions", "broken", "; ".join(problems), f"Type: pip install --upgrade {package}")
    shown = [f"{name} {_version(name)}" for name in _SHOWN]
    return Finding("versions", "ok", ", ".join([f"Python {python_version()}", *shown]))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def check_cores() -> Finding:
    """Compare the cores that this process may use with those that Ray counts, which overlooks its affinity."""
    counted = os.cpu_count() or 1
    quota = _read(_CGROUP / "cpu.max").split()
    if quota and quota[0].isdigit():
        counted = min(counted, max(1, int(quota[0]) // int(quota[1])))
    usable = min(counted, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else counted)
    if usable < counted:
        advice = f"So that they do not fight over them, give --workers {usable}"
        return Finding(
            "cores", "remark", f"{usable}, though Ray counts {counted} and starts as many workers", advice
        )
    return Finding("cores", "ok", str(usable))


def read_memory() -> tuple[int, int]:
    """Return the bytes of memory that this machine or its container has, and those of them that are available."""
    total = available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    of_machine = _figures(_read(Path("/proc/meminfo")).replace(":", ""))
    if "MemAvailable" in of_machine:
        available = of_machine["MemAvailable"] << 10
    limit = _read(_CGROUP / "memory.max").strip()
    if limit.isdigit():
        # What files have left in the cache goes when something else needs the room.
        cached = _figures(_read(_CGROUP / "memory.stat")).get("inactive_file", 0)
        total = min(total, int(limit))
        available = min(available, int(limit) - int(_read(_CGROUP / "memory.current") or 0) + cached)
    return total, available


def check_memory(total: int, available: int) -> Finding:
    """Compare the available memory, in bytes, with what training takes, and featurizing on all cores."""
    found = f"{_gigabytes(available)} of {_gigabytes(total)} are available"
    workers = max(1, (available - _RAY_BYTES) // WORKER_BYTES)
    if available < _TRAINING_BYTES:
        return Finding("memory", "remark", f"{found}; training takes {_gigabytes(_TRAINING_BYTES)}", "Make room")
    if workers < (cores := os.cpu_count() or 1):
        advice = f"Give --workers {workers}"
        return Finding("memory", "remark", f"{found}; workers on all {cores} cores may take more", advice)
    return Finding("memory", "ok", found)


def check_shared_memory(free: int) -> Finding:
    """Compare the free bytes of /dev/shm with what Ray wants of it."""
    found = f"{_SHARED_MEMORY} has {_gigabytes(free)}"
    if free >= OBJECT_STORE_BYTES:
        return Finding("shared", "ok", found)
    found += f"; Ray wants {_gigabytes(OBJECT_STORE_BYTES)} and takes slower memory on disk instead"
    return Finding("shared", "remark", found, "In Docker: docker run --shm-size=256m ...")


def check_folder(name: str, find: Callable[[], str], advice: str) -> Finding:
    """Write a file to a folder, remove it, and look how much room there is.

    Args:
        name: of the check.
        find: returns the folder.
        advice: what to do where that fails.
    """
    try:
        folder = find()
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(name, "broken", f"cannot be written to: {in_one_line(error)}", advice)
    found = f"{folder} can be written to, {_gigabytes(free)} free"
    if free < _ROOM_BYTES:
        return Finding(name, "remark", found, "Make room: a thousand tracks take 0.1 GB of shards")
    return Finding(name, "ok", found)


def check_cluster() -> Finding:
    """Attach to the Ray cluster that RAY_ADDRESS names, if it names one."""
    try:
        if not on_cluster():
            return Finding("cluster", "ok", "none named; this machine alone")
    except FeaturizeError as error:  # submit has another variable
        return Finding("cluster", "remark", str(error))
    address = os.environ["RAY_ADDRESS"]
    try:
        refuse_silent(address)
    except FeaturizeError as error:
        return Finding("cluster", "broken", str(error))
    with SubprocessTask[str]() as apart:
        apart.submit("cluster", _cluster_in_words)
        outcome = wait_for(apart, _ATTACH_SECONDS)
    if isinstance(outcome, FeaturizeError):
        return Finding("cluster", "broken", str(outcome))
    if isinstance(outcome, Exception):
        found = f"Ray cannot attach to RAY_ADDRESS = {address}: {in_one_line(outcome)}"
        return Finding("cluster", "broken", found, "Does ray status work? This machine alone: unset RAY_ADDRESS")
    return Finding("cluster", "ok", f"{address} answers: {outcome}")


def _cluster_in_words() -> str:
    with ray_workers(None):
        from train.cluster.progress_channel import cluster_in_words

        return cluster_in_words()


def check_dashboard(address: str, token: str) -> Finding:
    """Ask the dashboard that `earmark submit` sends to for its version.

    Args:
        address: as in http://HEAD:8265.
        token: of the cluster; empty where there is none.
    """
    unset = "No cluster: unset RAY_API_SERVER_ADDRESS"
    try:
        request = urllib.request.Request(f"{address.rstrip('/')}/api/version")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=_DASHBOARD_SECONDS) as answer:
            there = json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        found = f"{address} answers with {error.code} {error.reason}"
        if error.code in (401, 403):
            found += f": it {'does not know the token that was sent' if token else 'asks for a token'}"
        advice = (
            f"Put the cluster's token into ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH. {unset}"
        )
    except OSError as error:
        found = f"{address} does not answer: {getattr(error, 'reason', error)}"
        advice = f"Is the cluster up, and does ray dashboard cluster.yaml run? {unset}"
    except (http.client.HTTPException, ValueError, KeyError, TypeError):
        found = f"{address} is no dashboard of Ray's"
        advice = f"Expected http://HEAD:8265. {unset}"
    else:
        return Finding("dashboard", "ok", f"{address} answers: Ray {there}")
    return Finding("dashboard", "broken", found, advice)


def _token() -> str:
    """Return the token that `earmark submit` would send: the first one that is there."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return os.environ.get("RAY_AUTH_TOKEN") or _read(Path(named or Path.home() / ".ray" / "auth_token")).strip()


def wait_for(apart: SubprocessTask[str], seconds: float) -> Any:
    """Return what a function apart returned or raised; a TimeoutError where it is at work for too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _, outcome in apart.finished():
            return outcome
    return TimeoutError(f"no answer after {seconds:.0f} s")


def in_one_line(error: Exception) -> str:
    """Return the words of an error, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _read(path: Path) -> str:
    """Return the text of a small file, empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _figures(text: str) -> dict[str, int]:
    """Read lines of a name and a number."""
    lines = (line.split() for line in text.splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
