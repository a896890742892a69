"""Where this process and its child processes find code: in the installation, never in the working directory.

The working directory may be a folder of downloaded music, and `soxr.py` or `json.py` in it would be imported in
place of the library. Python puts it first on `sys.path` for `-m` and `-c`, and so for the processes of
`multiprocessing`; Ray puts it first on the path of its workers.

The names of our packages are common words, so a folder in PYTHONPATH may have a `train.py`. A finder before all
others knows where ours are; importing this module installs it.
"""

import importlib.machinery
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import featurize

if TYPE_CHECKING:
    from ray.job_config import JobConfig

# Folder of the packages `featurize`, `train` and `jobs`.
INSTALLATION = str(Path(featurize.__file__).resolve().parent.parent)
PACKAGES = ("featurize", "train", "jobs", "configs")
# For the environment of child processes: Python leaves the working directory and the script's folder off the path.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


class _OwnPackages:
    """Finder of our packages in the installation."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the package of ours with this name; None for any other module."""
        return importlib.machinery.PathFinder.find_spec(name, [INSTALLATION]) if name in PACKAGES else None


def find_own_packages_first() -> None:
    """Make imports find our packages in the installation, whatever else has their names.

    Raises:
        SystemExit: Another module with such a name is imported already; the message names its file.
    """
    for name in PACKAGES:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        origin = spec.origin if spec else None
        if origin and os.path.dirname(os.path.dirname(os.path.realpath(origin))) != INSTALLATION:
            sys.exit(
                f"earmark: Python has imported {origin!r} under the name {name}, which is a package of Earmark in "
                f"{INSTALLATION!r}. Rename that file, remove its folder from PYTHONPATH, or install Earmark in a "
                "separate environment."
            )
    if not any(isinstance(finder, type) and finder.__name__ == "_OwnPackages" for finder in sys.meta_path):
        sys.meta_path.insert(0, _OwnPackages)


def own_path() -> dict[str, str]:
    """Return PYTHONPATH for processes that start without our finder, such as Ray's workers.

    The installation goes before folders that have modules with the names of our packages. Without such a folder,
    nothing is changed: modules of `site-packages` should not come before the standard library.
    """
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    others = [entry for entry in entries if os.path.realpath(entry) != INSTALLATION]
    if not any(importlib.machinery.PathFinder.find_spec(name, [entry]) for entry in others for name in PACKAGES):
        return {}
    return {"PYTHONPATH": os.pathsep.join([INSTALLATION, *others])}


find_own_packages_first()


def job_config() -> "JobConfig":
    """Return a config for `ray.init`: workers import nothing from the working directory of the driver."""
    from ray.job_config import JobConfig

    class InstalledCode(JobConfig):
        """Config of a job whose workers find the code themselves, as those of a job with a working_dir do."""

        def _runtime_env_has_working_dir(self) -> bool:
            # Ray asks this to decide whether the folder of the script and the working directory go first on the
            # workers' path. The working directory may, if the installation is there: it may be nowhere else.
            try:
                elsewhere = os.path.realpath(os.curdir) != INSTALLATION
            except FileNotFoundError:  # it has been removed
                elsewhere = True
            return elsewhere or bool(super()._runtime_env_has_working_dir())

    return InstalledCode()
