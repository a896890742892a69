"""Packages that Earmark needs, checked before the first of them is imported; uses only the standard library.

A job on a cluster brings its code with it, and runs in the Python that is first on the node's PATH, which may have
none of them.
"""

import importlib.metadata
import importlib.util
import shlex
import sys

from featurize.execution.import_path import INSTALLATION, PACKAGES

# The dependencies of pyproject.toml, by the name under which they are imported.
REQUIREMENTS = {
    "av": "av>=14,<19",
    "filelock": "filelock>=3.30",
    "jinja2": "jinja2>=3.1",
    "librosa": "librosa>=0.11,<0.12",
    "matplotlib": "matplotlib>=3.10",
    "numpy": "numpy>=2.0",
    "packaging": "packaging>=24",
    "psutil": "psutil>=7",
    "pyarrow": "pyarrow>=21",
    "pydantic": "pydantic>=2.11",
    "yaml": "pyyaml>=6.0",
    "ray": "ray[default,train]>=2.55",
    "rich": "rich>=14",
    "sklearn": "scikit-learn>=1.7",
    "scipy": "scipy>=1.15",
    "soundfile": "soundfile>=0.13",
    "soxr": "soxr>=1.0",
    "tensorboard": "tensorboard>=2.19",
    "tensorflow": "tensorflow>=2.20",
    "typer": "typer>=0.16",
}


def refuse_missing_packages() -> None:
    """End this process with a sentence if packages are missing.

    Raises:
        SystemExit: At least one is missing; the message names the command that installs them.
    """
    missing = [name for name in REQUIREMENTS if importlib.util.find_spec(name) is None]
    if missing:
        command = shlex.join([sys.executable, "-m", "pip", "install", *(REQUIREMENTS[name] for name in missing)])
        sys.exit(
            f"earmark: {sys.executable} lacks {', '.join(missing)}. On a cluster this is the first python on the "
            "PATH of ray start, and every node needs them: start Ray from an environment that has them, or "
            f"type on each node: {command}"
        )


def refuse_overwritten_package(error: ModuleNotFoundError) -> None:
    """End this process with a sentence if a module of Earmark is missing.

    Another distribution that was installed into the same folder may have a package of the same name, such as
    `train`: installers overwrite files without a question.

    Raises:
        SystemExit: The module that was not found is one of Earmark's; the message names the other distributions.
    """
    package = (error.name or "").partition(".")[0]
    if package not in PACKAGES:
        return
    owners = importlib.metadata.packages_distributions().get(package, [])
    others = sorted({owner for owner in owners if owner.lower() != "earmark"})
    named = f" {' and '.join(others)} has files there, too." if others else ""
    sys.exit(
        f"earmark: {error.name} is missing in {INSTALLATION}, so its package {package} is not Earmark's, or "
        f"not all of it.{named} Install Earmark in a separate environment: {sys.executable} -m venv FOLDER"
    )
