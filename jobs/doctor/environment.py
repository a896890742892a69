"""Versions, cores, memory and folders of this machine, compared with what Earmark needs."""

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from platform import python_version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from featurize.execution.ray_tasks import OBJECT_STORE_BYTES, WORKER_BYTES
from jobs.doctor.finding import Finding, in_one_line

_SHOWN = ("tensorflow", "keras", "ray", "librosa", "pyarrow", "numpy")
_TRAINING_BYTES = 2_500_000_000  # 1.9 GB for ten tones, the rest for windows of segments
_RAY_BYTES = 1_000_000_000  # Ray's own processes and the driver, beside the workers
_ROOM_BYTES = 2 << 30  # on a disk; the shards of twenty thousand tracks
_CGROUP = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")


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
    quota = read_small_file(_CGROUP / "cpu.max").split()
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
    of_machine = _figures(read_small_file(Path("/proc/meminfo")).replace(":", ""))
    if "MemAvailable" in of_machine:
        available = of_machine["MemAvailable"] << 10
    limit = read_small_file(_CGROUP / "memory.max").strip()
    if limit.isdigit():
        # What files have left in the cache goes when something else needs the room.
        cached = _figures(read_small_file(_CGROUP / "memory.stat")).get("inactive_file", 0)
        total = min(total, int(limit))
        available = min(available, int(limit) - int(read_small_file(_CGROUP / "memory.current") or 0) + cached)
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
    found = f"{SHARED_MEMORY} has {_gigabytes(free)}"
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


def read_small_file(path: Path) -> str:
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
