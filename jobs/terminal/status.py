"""Progress of a dataset or a run, read from its files: on any machine, during a job and after it."""

import re

from featurize.dataset.output_folder import refuse_foreign_run_folder
from featurize.dataset_build.verify import read_status
from featurize.display import one_line
from featurize.errors import DatasetError, FeaturizeError
from featurize.execution.folder_lock import holder_of
from featurize.storage import StoragePath
from jobs.terminal.console import status_lines
from train.answers.check import AnswersStatus, read_answers_status
from train.run import Run

_FOLD = re.compile(r"fold=\d+")
_NAMES_SHOWN = 3
_LABELS_SHOWN = 20


def progress_lines(folder: StoragePath) -> str:
    """Return the lines of `earmark status`.

    Args:
        folder: Dataset folder, run folder, the folder of a cross-validation, or a folder of answers. For a run
            folder that contains its dataset, as `earmark run` makes it, the lines show both.

    Raises:
        DatasetError: The folder has none of these, not even an unfinished one.
    """
    if answers := read_answers_status(folder, _holder(folder)):
        return _answers_lines(answers)
    run, features = Run(folder), folder / "features"
    parts = []
    if (features / "tracks.parquet").is_file():
        parts.append(status_lines(read_status(features)))
    elif holder := _holder(features):
        parts.append(_listing_lines(holder))
    if info := run.info():
        parts.append(_training_lines(run, info.epochs))
    elif folds := _folds(folder):
        parts.append(_folds_lines(run, folds))
    if parts:
        return "\n".join(parts)
    if run.history() or (folder / "tracks.parquet").is_file():
        return status_lines(read_status(folder))
    if holder := _holder(folder):
        return _listing_lines(holder)
    raise DatasetError(_describe_other(folder))


def _answers_lines(status: AnswersStatus) -> str:
    lines = [status_lines(status, "predict")]
    by_count = sorted(status.labels.items(), key=lambda label: (-label[1], label[0]))
    lines += [f"predicted {count:6} {one_line(label)}" for label, count in by_count[:_LABELS_SHOWN]]
    if len(by_count) > _LABELS_SHOWN:
        lines.append(f"          and {len(by_count) - _LABELS_SHOWN} more classes")
    return "\n".join(lines)


def _holder(folder: StoragePath) -> str | None:
    return holder_of(folder) if folder.local else None


def _listing_lines(holder: str) -> str:
    return f"state     running: process {holder}\nshards    none yet: the job is listing its music"


def _folds(folder: StoragePath) -> list[StoragePath]:
    """Return the folders of a cross-validation in which training has begun, in the order of the folds."""
    names = sorted((name for name in folder.names() if _FOLD.fullmatch(name)), key=lambda name: int(name[5:]))
    return [folder / name for name in names if (folder / name / "run.json").is_file()]


def _folds_lines(run: Run, folds: list[StoragePath]) -> str:
    """Return the lines for a cross-validation: how many folds are finished, and the one at work."""
    summary = run.cross_validation()
    runs = [Run(fold) for fold in folds]
    evaluated = sum(fold.metrics() is not None for fold in runs)
    lines = [f"folds     {evaluated} evaluated, {len(runs)} begun"]
    for fold in runs:
        info, metrics = fold.info(), fold.metrics()
        done = f"epoch {len(fold.history())} of {info.epochs}" if info else "no epoch"
        if metrics:
            done = f"tracks accuracy {metrics.tracks.accuracy:.3f}, macro-F1 {metrics.tracks.macro_f1:.3f}"
        lines.append(f"          {fold.folder.name}: {done}")
    if summary:
        mean = summary.mean.tracks
        lines.append(f"mean      tracks accuracy {mean.accuracy:.3f}, macro-F1 {mean.macro_f1:.3f}")
    else:
        lines.append("state     unfinished: run the same crossval command to continue")
    return "\n".join(lines)


def _describe_other(folder: StoragePath) -> str:
    """Return the message for a folder with neither a dataset nor a run."""
    if folder.is_file():
        return f"{folder} is a file. Give the folder of a dataset or a run, as given to --out."
    names = sorted(name for name in folder.names() if not name.startswith("."))
    what = f"{folder} holds neither a dataset nor a run, not even an unfinished one"
    try:
        refuse_foreign_run_folder(folder)
    except FeaturizeError:
        shown = ", ".join(map(one_line, names[:_NAMES_SHOWN])) + (", ..." if len(names) > _NAMES_SHOWN else "")
        return f"{what}; it holds {shown}. Give the folder that a command had as --out."
    begin = f"To begin one, type: earmark run MUSIC --out {folder.quoted}"
    if not names:
        state = "is empty" if folder.is_folder() else "does not exist"
        return f"{what}: it {state}. A job that has just been started may not have begun yet. {begin}"
    return f"{what}. {begin}"


def _training_lines(run: Run, epochs: int) -> str:
    history, metrics = run.history(), run.metrics()
    trained = run.model.is_file()
    done = f"{len(history)} of {epochs} epoch{'' if epochs == 1 else 's'}"
    lines = [
        f"training  {'done' if trained else 'unfinished'}: {done}",
        f"saved     {'the model' if trained else f'a checkpoint after step {run.latest_step()}'}",
    ]
    if history:
        figures = history[-1].train
        lines.append(f"latest    train loss {figures.loss:.3f}, accuracy {figures.accuracy:.3f}")
    if metrics:
        tracks = f"tracks accuracy {metrics.tracks.accuracy:.3f}, macro-F1 {metrics.tracks.macro_f1:.3f}"
        lines.append(f"evaluated {tracks} on {metrics.test_set}")
    return "\n".join(lines)
