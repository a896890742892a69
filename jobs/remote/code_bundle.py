"""The files that a job uploads to a cluster: Earmark's code, the settings of the job, and a user's model.

Files are selected by an allowlist of packages and suffixes, so `.git`, data, `.env` or keys are never included.
The commit of a checkout is uploaded as a file, so that run.json has it.
The setting `train.model` may name one more file, and `earmark tune` sends its space.
"""

import importlib.resources
import shutil
from collections.abc import Mapping
from pathlib import Path

from featurize.errors import FeaturizeError
from featurize.execution.import_path import INSTALLATION
from jobs.provenance import REVISION, revision

PACKAGES = ("featurize", "train", "jobs", "earmark", "configs")
SETTINGS = "settings.yaml"
SPACE = "space.yaml"
_SUFFIXES = {".py", ".yaml", ".j2", ".css", ".js"}
_MAX_BYTES = 50 * 10**6
_LISTED_FILES = 5  # in the error about _MAX_BYTES


def code_files() -> dict[str, Path]:
    """Return the installed files of Earmark's packages, keyed by their path in the job's working directory."""
    files = {}
    for package in PACKAGES:
        root = Path(str(importlib.resources.files(package)))
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
            if path.suffix in _SUFFIXES and path.is_file() and not path.is_symlink() and not hidden:
                files[f"{package}/{relative.as_posix()}"] = path
    return files


def revision_file() -> dict[str, bytes]:
    """Return the commit of the checkout that Earmark runs from, as a file by its path; none if installed."""
    found = revision(Path(INSTALLATION))
    return {} if found is None else {REVISION: found.encode("ascii")}


def sizes(files: Mapping[str, Path], settings: str, code: Mapping[str, bytes]) -> dict[str, int]:
    """Return the size in bytes of each file to upload, including the settings.

    Args:
        files: Files by their path in the job's working directory, from `code_files`.
        settings: Settings of the job as YAML.
        code: Further files by their path in the job's working directory, such as that of a user's model.

    Raises:
        FeaturizeError: The total is larger than `_MAX_BYTES`; the message lists the largest files.
    """
    bytes_by_name = {name: path.stat().st_size for name, path in files.items()}
    bytes_by_name |= {name: len(content) for name, content in code.items()}
    bytes_by_name[SETTINGS] = len(settings.encode())
    total = sum(bytes_by_name.values())
    if total > _MAX_BYTES:
        largest = sorted(bytes_by_name, key=bytes_by_name.__getitem__, reverse=True)[:_LISTED_FILES]
        raise FeaturizeError(
            f"{total:,} bytes would be uploaded, expected at most {_MAX_BYTES:,}. The largest files:\n"
            + "\n".join(f"  {bytes_by_name[name]:>12,}  {files.get(name, name)}" for name in largest)
            + "\nMove them out of the packages; put music and datasets into a bucket or on a shared disk."
        )
    return bytes_by_name


def pack(files: Mapping[str, Path], settings: str, code: Mapping[str, bytes], folder: Path) -> None:
    """Copy the files and write the settings into a folder.

    Args:
        files: Files by their path in the folder, from `code_files`.
        settings: Settings of the job as YAML.
        code: The files of users' models, the space of a search, and the commit, by their paths in the folder.
        folder: Output folder.
    """
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    for name, content in code.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / SETTINGS).write_text(settings, encoding="utf-8")
