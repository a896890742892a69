"""Small and read-only disks, mounted for one test."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount on a folder until exit; skip the test where that is not permitted."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", *options, folder], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted on this machine")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def small_disk(folder: Path, size: str):
    """Mount an empty disk of a size, such as `1m`, on a folder."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "none")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Make a folder, which may be there already, one on a read-only disk."""
    with mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield folder
