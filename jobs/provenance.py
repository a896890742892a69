"""What run.json records of a start: the command, versions, the machine and the revision of Earmark."""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from featurize.execution.import_path import INSTALLATION
from featurize.version import VERSION
from train.provenance import Host, Start

# Distributions by the name that is recorded; the nodes of a cluster may have another one of the same package.
_PACKAGES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "keras": ("keras",),
    "ray": ("ray",),
    "librosa": ("librosa",),
    "numpy": ("numpy",),
    "pyarrow": ("pyarrow",),
}
_GIT_SECONDS = 10.0
REVISION = "revision.txt"  # of the code that a job has uploaded, which is no checkout


def describe_start(command: Sequence[str] | None) -> Start:
    """Return the record of a start that happens now.

    Args:
        command: From `recorded_command`; None if training was not started from the command line.
    """
    start = Start(
        date=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        versions=versions(),
        host=Host(system=_system(), machine=platform.machine(), cores=usable_cores()),
    )
    optional = {"command": None if command is None else list(command), "revision": revision(Path(INSTALLATION))}
    return start.model_copy(update={name: value for name, value in optional.items() if value is not None})


def versions() -> dict[str, str]:
    """Return the versions of Earmark, Python and the installed libraries that results depend on."""
    found = {"earmark": VERSION, "python": platform.python_version()}
    for name, distributions in _PACKAGES.items():
        for distribution in distributions:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(distribution)
                break
    return found


def revision(folder: Path) -> str | None:
    """Return the commit of a checkout, with `-dirty` if tracked files differ from it; None if it is none.

    A folder inside a checkout, such as an environment in someone's repository, is not one. The working directory
    of a job has the commit of the checkout that it was submitted from.
    """
    if not (folder / ".git").exists():
        return _submitted_revision(folder)
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # Variables of a git hook would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, env=environment, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # there is no git, or it refuses the checkout of another user
    return done.stdout.strip() or None


def _submitted_revision(folder: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = (folder / REVISION).read_text("ascii").strip()
        return found if re.fullmatch(r"[0-9a-f]{40}(-dirty)?", found) else None
    return None


def _system() -> str:
    """Return the operating system and its version; the release of a kernel may have a name given by hand."""
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    with contextlib.suppress(OSError):
        found = platform.freedesktop_os_release()
        return " ".join(filter(None, (found.get("NAME"), found.get("VERSION_ID"))))
    return platform.system()


def usable_cores() -> int:
    """Return the number of cores that this process may use; on macOS, the number of all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
