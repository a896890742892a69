"""The dataset of a run, which may have moved since the training."""

from featurize.dataset.dataset import Dataset, open_dataset
from featurize.dataset.info import read_info
from featurize.storage import StoragePath
from train.errors import TrainError
from train.run import Run


def open_dataset_of(run: Run, features: StoragePath | None) -> Dataset:
    """Open the dataset that a run was trained on.

    Args:
        run: The run.
        features: Where its dataset is now, from `--features`; None for the folder that the run records.

    Raises:
        TrainError: The folder holds no run, or its dataset is no longer in the recorded folder.
        DatasetError: The dataset is incomplete.
    """
    folder = features or run.features()
    if not features and read_info(folder) is None and not (folder / "tracks.parquet").is_file():
        raise TrainError(
            f"the dataset that {run.folder} was trained on is no longer at {folder}. Give its folder: --features "
            "FEATURES"
        )
    return open_dataset(folder)
