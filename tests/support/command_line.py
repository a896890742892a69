"""Run the command line in a child process, and read its output files."""

import subprocess
import sys
from pathlib import Path

from featurize.storage import StoragePath


def earmark(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a child process."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def contents(folder: Path | str) -> dict[str, bytes]:
    """Return the content of every file below a folder by relative path, without hidden files and `music.json`."""
    path = StoragePath.of(folder)
    names = sorted(name for name, _ in path.files())
    shown = [name for name in names if not name.split("/")[-1].startswith(".") and name != "music.json"]
    return {name: (path / name).read() for name in shown}
