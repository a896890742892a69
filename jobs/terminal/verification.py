"""Verify the folder of a dataset or of answers, whichever it is."""

import dataclasses

from featurize.dataset.dataset import open_dataset
from featurize.dataset_build.verify import verify
from featurize.storage import StoragePath
from jobs.terminal.console import ConsoleReporter
from train.answers.check import verify_answers
from train.answers.folder import INFO, PLAN


@dataclasses.dataclass(frozen=True)
class Verified:
    """Result of a verification.

    Attributes:
        problems: What is wrong, each with the name of a shard; empty if nothing is.
        shards: Number of shards.
        rows: Number of what the shards hold, and its name in `unit`.
        unit: `segments` of a dataset, `tracks` of answers.
        repair: Command that makes damaged shards again after they have been deleted.
    """

    problems: list[str]
    shards: int
    rows: int
    unit: str
    repair: str


def verify_folder(folder: StoragePath, reporter: ConsoleReporter) -> Verified:
    """Read all shards of a dataset or of answers and compare them with what was written.

    Raises:
        DatasetError: The folder holds neither, or an incomplete dataset.
        TrainError: The answers are incomplete.
    """
    if any((folder / name).is_file() for name in (INFO, PLAN)):
        tracks, shards, results = verify_answers(folder)
        problems = reporter.verifying(results, shards)
        repair = f"earmark predict RUN MUSIC --out {folder.quoted}"
        return Verified(problems, shards, tracks, "tracks", repair)
    dataset = open_dataset(folder)
    named = ((shard.name, problems) for shard, problems in verify(dataset))
    problems = reporter.verifying(named, len(dataset.shards))
    repair = f"earmark featurize MUSIC --out {folder.quoted}"
    return Verified(problems, len(dataset.shards), sum(shard.rows for shard in dataset.shards), "segments", repair)
