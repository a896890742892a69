"""What travels to a cluster: Earmark's own code and the settings of one job, and nothing else.

Files are named by what they are, not by what they are not: no `.git`, data, `.env` or key can slip in.
"""

import importlib.resources
import shutil
from collections.abc import Mapping
from pathlib import Path

from featurize.errors import FeaturizeError

PACKAGES = ("featurize", "train", "jobs", "configs")
SETTINGS = "settings.yaml"
_SUFFIXES = {".py", ".yaml", ".j2", ".css", ".js"}
_MOST_BYTES = 50 * 10**6
_NAMED = 5


def code_files() -> dict[str, Path]:
    """Return the files of Earmark's packages, wherever they are installed, by their path in the job's folder."""
    files = {}
    for package in PACKAGES:
        root = Path(str(importlib.resources.files(package)))
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
            if path.suffix in _SUFFIXES and path.is_file() and not path.is_symlink() and not hidden:
                files[f"{package}/{inside.as_posix()}"] = path
    return files


def sizes(files: Mapping[str, Path], settings: str) -> dict[str, int]:
    """Return the bytes of each file that travels, the settings among them.

    Raises:
        FeaturizeError: together they are more than a cluster should be sent for a job.
    """
    found = {name: path.stat().st_size for name, path in files.items()}
    found[SETTINGS] = len(settings.encode())
    total = sum(found.values())
    if total > _MOST_BYTES:
        largest = sorted(found, key=found.__getitem__, reverse=True)[:_NAMED]
        raise FeaturizeError(
            f"{total:,} bytes would travel, more than {_MOST_BYTES:,}: code has no such size. The largest files:\n"
            + "\n".join(f"  {found[name]:>12,}  {files.get(name, name)}" for name in largest)
            + "\nMove them out of the packages; music and datasets belong into a bucket or onto a shared disk."
        )
    return found


def pack(files: Mapping[str, Path], settings: str, folder: Path) -> None:
    """Lay the files out below a folder."""
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    (folder / SETTINGS).write_text(settings, encoding="utf-8")
