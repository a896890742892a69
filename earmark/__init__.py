"""Earmark from Python: the same work as the command line, and its datasets and models as objects.

    import earmark

    dataset = earmark.featurize("music", "features")
    run = earmark.train("features", "run", on_epoch=lambda record, epochs: print(record.train.loss))
    for prediction in earmark.load("run").predict(["new.mp3"]).tracks:
        print(prediction.path, prediction.label, prediction.probability)

Importing the package imports none of the libraries behind it; each name does when it is first used.

The code is in the packages `featurize`, `train` and `jobs`. These are common words: a folder of someone's project
may have a `train.py`. This package alone is found by its name; it finds the others beside itself. The command line
starts under its name, too: `earmark`, or `python -m earmark`.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earmark.build import featurize, train
    from earmark.dataset import Dataset, open
    from earmark.model import Model, Prediction, Predictions, load
    from featurize.config import FeaturizeConfig
    from featurize.errors import DatasetError, EarmarkError, FeaturizeError
    from train.config import TrainConfig
    from train.errors import TrainError

_MODULE_OF = {
    "Dataset": "earmark.dataset",
    "DatasetError": "featurize.errors",
    "EarmarkError": "featurize.errors",
    "FeaturizeConfig": "featurize.config",
    "FeaturizeError": "featurize.errors",
    "Model": "earmark.model",
    "Prediction": "earmark.model",
    "Predictions": "earmark.model",
    "TrainConfig": "train.config",
    "TrainError": "train.errors",
    "featurize": "earmark.build",
    "load": "earmark.model",
    "open": "earmark.dataset",
    "train": "earmark.build",
}

__all__ = [
    "Dataset",
    "DatasetError",
    "EarmarkError",
    "FeaturizeConfig",
    "FeaturizeError",
    "Model",
    "Prediction",
    "Predictions",
    "TrainConfig",
    "TrainError",
    "__version__",
    "featurize",
    "load",
    "open",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF and name != "__version__":
        raise AttributeError(f"module 'earmark' has no attribute {name!r}; it has {', '.join(__all__)}")
    _find_own_packages()
    if name == "__version__":
        return importlib.import_module("featurize.version").VERSION
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__


def _find_own_packages() -> None:
    """Let the other packages of Earmark be found beside this one, whatever else has their names.

    Raises:
        ImportError: Another module with such a name is imported already, or this is Windows.
    """
    installation = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    sys.path.insert(0, installation)
    try:
        importlib.import_module("featurize.execution.import_path").find_own_packages_first()
    except (SystemExit, ModuleNotFoundError) as error:
        raise ImportError(
            f"Python has imported other modules under the names of Earmark's packages in {installation!r} "
            f"({error}). Rename them, or import earmark before them."
        ) from error
    finally:
        sys.path.remove(installation)
    try:
        importlib.import_module("jobs.supported_system")
    except SystemExit as refused:  # on Windows, before modules that it lacks are imported
        raise ImportError(str(refused)) from None
