"""Checks of the versions, cores, memory and folders of this machine."""

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from platform import python_version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from featurize.display import one_line
from featurize.execution.local_ray import OBJECT_STORE_BYTES
from featurize.execution.ray_tasks import WORKER_BYTES
from jobs.doctor.finding import Finding, in_one_line

_SHOWN = ("tensorflow", "keras", "ray", "librosa", "pyarrow", "numpy")
_TRAINING_BYTES = 2_500_000_000  # 1.9 GB measured on ten tones, the rest for windows of segments
_RAY_BYTES = 1_000_000_000  # Ray's processes and the driver, without workers
_DISK_BYTES = 2 << 30  # shards of 20,000 tracks
_LEAST_BYTES = 10_000_000  # a checkpoint of a small model, or Ray's logs of a short run
_TEMPORARY_ADVICE = "Free some space, or choose another folder: export TMPDIR=FOLDER"
_CGROUP = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")


def check_versions(package: str) -> Finding:
    """Compare installed versions with the requirements of a package, without its extras."""
    try:
        about = metadata(package)
    except PackageNotFoundError:
        return Finding("versions", "broken", f"{package} is not installed", f"Type: pip install {package}")
    problems = []
    python = SpecifierSet(about["Requires-Python"] or "")
    if not python.contains(python_version(), prereleases=True):
        problems.append(f"Python {python_version()}, expected {python}")
    for requirement in map(Requirement, about.get_all("Requires-Dist") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _version(requirement.name)
        if not installed:
            problems.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(installed, prereleases=True):
            problems.append(f"{requirement.name} {installed}, expected {requirement.specifier}")
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
    """Compare the cores that this process may use with the count of Ray, which ignores CPU affinity."""
    counted = os.cpu_count() or 1
    quota = read_small_file(_CGROUP / "cpu.max").split()
    if quota and quota[0].isdigit():
        counted = min(counted, max(1, int(quota[0]) // int(quota[1])))
    usable = min(counted, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else counted)
    if usable < counted:
        found = f"{usable} usable, but Ray counts {counted} and starts one worker for each"
        return Finding("cores", "remark", found, f"Use --workers {usable}")
    return Finding("cores", "ok", str(usable))


def read_memory() -> tuple[int, int]:
    """Return the total and the available memory of this machine or its container, in bytes."""
    total = available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = _numbers(read_small_file(Path("/proc/meminfo")).replace(":", ""))
    if "MemAvailable" in meminfo:
        available = meminfo["MemAvailable"] << 10
    limit = read_small_file(_CGROUP / "memory.max").strip()
    if limit.isdigit():
        # The kernel frees cached file pages when memory is needed.
        cached = _numbers(read_small_file(_CGROUP / "memory.stat")).get("inactive_file", 0)
        total = min(total, int(limit))
        available = min(available, int(limit) - int(read_small_file(_CGROUP / "memory.current") or 0) + cached)
    return total, available


def check_memory(total: int, available: int) -> Finding:
    """Compare the available memory with the needs of training, and of featurizing on all cores.

    Args:
        total: Memory of the machine or container, in bytes.
        available: Available memory, in bytes.
    """
    found = f"{_gigabytes(available)} of {_gigabytes(total)} available"
    workers = max(1, (available - _RAY_BYTES) // WORKER_BYTES)
    if available < _TRAINING_BYTES:
        return Finding(
            "memory", "remark", f"{found}; training needs {_gigabytes(_TRAINING_BYTES)}", "Free some memory"
        )
    if workers < (cores := os.cpu_count() or 1):
        advice = f"Use --workers {workers}"
        return Finding("memory", "remark", f"{found}; workers on all {cores} cores may need more", advice)
    return Finding("memory", "ok", found)


def check_shared_memory(free: int) -> Finding:
    """Compare the free bytes of /dev/shm with the size of Ray's object store."""
    found = f"{SHARED_MEMORY} has {_gigabytes(free)} free"
    if free >= OBJECT_STORE_BYTES:
        return Finding("shared", "ok", found)
    found += f"; Ray needs {_gigabytes(OBJECT_STORE_BYTES)}, and uses the slower disk instead"
    return Finding("shared", "remark", found, "In Docker: docker run --shm-size=256m ...")


def check_temporary() -> Finding:
    """Check the folder for temporary files; Python takes another one without a word if TMPDIR cannot be used."""
    finding = check_folder("temporary", tempfile.gettempdir, _TEMPORARY_ADVICE)
    wanted = os.environ.get("TMPDIR")
    if finding.state == "broken" or not wanted or os.path.abspath(wanted) == tempfile.gettempdir():
        return finding
    found = f"TMPDIR = {one_line(wanted)} is full or not writable; {tempfile.gettempdir()} is used instead"
    return Finding("temporary", "remark", found, _TEMPORARY_ADVICE)


def check_folder(name: str, find: Callable[[], str], advice: str) -> Finding:
    """Check that a folder is writable, by writing a temporary file, and how much disk space is free.

    Args:
        name: Name of the check.
        find: Function that returns the folder; may raise OSError.
        advice: Advice if the folder is not writable.
    """
    try:
        folder = find()
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(name, "broken", f"not writable: {in_one_line(error)}", advice)
    if free < _LEAST_BYTES:
        return Finding(name, "broken", f"{folder} has {free / 1e6:.1f} MB free", advice)
    found = f"{folder} is writable, {_gigabytes(free)} free"
    if free < _DISK_BYTES:
        return Finding(name, "remark", found, "Free some disk space: shards of 1,000 tracks take 0.1 GB")
    return Finding(name, "ok", found)


def read_small_file(path: Path) -> str:
    """Return the text of a file, or an empty string if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _numbers(text: str) -> dict[str, int]:
    """Parse lines of a name and a number; other lines are skipped."""
    lines = (line.split() for line in text.splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
