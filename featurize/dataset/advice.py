"""The command that makes a dataset or repairs it, for messages about a folder that holds none or a broken one."""

from featurize.dataset.output_folder import refuse_foreign_dataset_folder
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath


def how_to_featurize(folder: StoragePath) -> str:
    """Return what to type for a folder that was expected to hold a dataset.

    `earmark featurize` refuses a file, and a folder of other people's files, as `--out`: for these, the sentence
    names another folder.
    """
    if (folder / "features" / "dataset.json").is_file():
        return f"Its dataset is in the subfolder: give {(folder / 'features').quoted}"
    try:
        refuse_foreign_dataset_folder(folder)
    except FeaturizeError:
        return (
            "Give the folder of a dataset. To make one from music, type: earmark featurize MUSIC --out FEATURES, "
            "with a new folder as FEATURES"
        )
    return f"Type: earmark featurize MUSIC --out {folder.quoted}"
