"""Where child processes find code: where this process found it, and never in the working directory.

The working directory may be a folder of downloaded music, and `soxr.py` or `json.py` in it would be imported in
place of the library. Python puts it first on `sys.path` for `-m` and `-c`, and so for the processes of
`multiprocessing`; Ray puts it first on the path of its workers.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import featurize

if TYPE_CHECKING:
    from ray.job_config import JobConfig

# Folder of the packages `featurize`, `train` and `jobs`.
INSTALLATION = str(Path(featurize.__file__).resolve().parent.parent)
# For the environment of child processes: Python leaves the working directory and the script's folder off the path.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


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
