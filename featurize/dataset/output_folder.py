"""Refuse an output folder that holds other people's files, before anything is written there."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

import pyarrow.parquet as pq

from featurize.dataset.json_text import read_json
from featurize.dataset.reader import UNREADABLE, list_shards
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, refuse_undecodable

PLAN_KEY = b"earmark"  # of the metadata of tracks.parquet
_SYSTEM = frozenset({"lost+found", "System Volume Information", "desktop.ini", "Thumbs.db"})
_RUN = re.compile(r"(fold|seed|trial)=\d+")
# Without crossval.json they are those of a cross-validation that was interrupted at its end.
_OF_RUNS = ("features", "model_code", "svm_predictions.parquet", "crossval.html")
_OF_DEMO = ("music", "run")
_OF_EVALUATION = ("answers", "metrics.json", "report.html")
_NAMES_SHOWN = 3
_INFO_KEYS = frozenset({"format", "id", "settings"})  # of dataset.json


def refuse_foreign_dataset_folder(folder: StoragePath) -> None:
    """Refuse the output folder of a dataset if it holds other files, maybe a run, and no dataset.

    Raises:
        FeaturizeError: It does, or it is a file.
    """

    def is_ours(name: str) -> bool:
        if name == "shards":  # empty, or with temporary files of a killed run
            return all(path.rpartition("/")[2].startswith(".") for path, _ in (folder / name).files())
        return name in ("music.json", "groups.parquet")

    _refuse(folder, is_ours, _holds_dataset, "no dataset")


def refuse_foreign_run_folder(folder: StoragePath) -> None:
    """Refuse the output folder of runs if it holds other files, maybe a dataset, and no run.

    The dataset may be in its subfolder `features`, and the code of a user's model in `model_code`.

    Raises:
        FeaturizeError: It does, or it is a file.
    """
    _refuse(folder, lambda name: name in _OF_RUNS or bool(_RUN.fullmatch(name)), _holds_run, "no run")


def refuse_foreign_answers_folder(folder: StoragePath) -> None:
    """Refuse the output folder of predictions if it holds other files and no answers of Earmark.

    Raises:
        FeaturizeError: It does, or it is a file.
    """
    _refuse(folder, lambda name: False, _holds_answers, "no answers")


def refuse_foreign_evaluation_folder(folder: StoragePath) -> None:
    """Refuse the output folder of an external evaluation if it holds other files.

    Raises:
        FeaturizeError: It does, or it is a file.
    """
    _refuse(folder, lambda name: name in _OF_EVALUATION, lambda folder: False, "no evaluation")


def refuse_foreign_demo_folder(folder: StoragePath, styles: Sequence[str]) -> None:
    """Refuse the output folder of the demo if it holds other files.

    Args:
        folder: Output folder.
        styles: Names of the class folders of the demo's music.

    Raises:
        FeaturizeError: It does, or it is a file.
    """
    _refuse(folder, lambda name: name in _OF_DEMO, lambda folder: False, "no demo")
    _refuse(folder / "music", lambda name: name in styles, lambda folder: False, "no demo")


def folder_of_progress(folder: StoragePath) -> StoragePath:
    """Return the run in the folder of a demo, the answers in that of an evaluation; other folders themselves."""
    names = {name for name in folder.names() if not name.startswith(".") and name not in _SYSTEM}
    for inner, others in (("run", _OF_DEMO), ("answers", _OF_EVALUATION)):
        if inner in names and names.issubset(others):
            return folder / inner
    return folder


def _refuse(
    folder: StoragePath,
    is_ours: Callable[[str], bool],
    holds_ours: Callable[[StoragePath], bool],
    what: str,
) -> None:
    refuse_undecodable(folder)
    if folder.is_file():
        raise FeaturizeError(f"{folder} is a file. Give --out a folder, new or empty.")
    names = sorted(name for name in folder.names() if not name.startswith(".") and name not in _SYSTEM)
    foreign = [name for name in names if not is_ours(name)]
    if not foreign or holds_ours(folder):
        return
    shown = ", ".join(map(one_line, foreign[:_NAMES_SHOWN])) + (", ..." if len(foreign) > _NAMES_SHOWN else "")
    free = next(place for name in _free_names() if not (place := folder / name).names() and not place.is_file())
    raise FeaturizeError(
        f"{folder} holds {shown} and {what} of Earmark, so nothing is written there. Give "
        f"--out a new or an empty folder, such as {free.quoted}"
    )


def _free_names() -> Iterator[str]:
    yield "earmark"
    yield from (f"earmark-{number}" for number in itertools.count(2))


def _holds_run(folder: StoragePath) -> bool:
    begun = (f"{name}/run.json" for name in folder.names() if _RUN.fullmatch(name))
    return any((folder / name).is_file() for name in ("run.json", "crossval.json", "tune.json", *begun))


def _holds_dataset(folder: StoragePath) -> bool:
    if list_shards(folder):
        return True
    try:
        if read_json(folder / "dataset.json").keys() >= _INFO_KEYS:
            return True
    except (AttributeError, OSError, ValueError):
        pass  # missing, or not of Earmark
    return _has_key(folder / "tracks.parquet")


def _holds_answers(folder: StoragePath) -> bool:
    return _has_key(folder / "plan.parquet")


def _has_key(plan: StoragePath) -> bool:
    try:
        return plan.is_file() and PLAN_KEY in (pq.read_schema(plan.path, **plan.arrow).metadata or {})
    except UNREADABLE:
        return False
