"""The command line in a child process, and the files that it leaves."""

import subprocess
import sys
from pathlib import Path

from featurize.storage import StoragePath


def earmark(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def contents(folder: Path | str) -> dict[str, bytes]:
    """Every file below a folder by its relative path; no hidden ones, not where the music lies."""
    place = StoragePath.of(folder)
    names = sorted(name for name, _ in place.files())
    shown = [name for name in names if not name.split("/")[-1].startswith(".") and name != "music.json"]
    return {name: (place / name).read() for name in shown}
