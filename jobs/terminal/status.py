"""Progress of a dataset, of runs or of answers, read from the files: on any machine, during a job and after it."""

import dataclasses
import re
from typing import Any

from featurize.dataset.output_folder import folder_of_progress, refuse_foreign_run_folder
from featurize.dataset_build.verify import Status, read_status
from featurize.display import one_line
from featurize.errors import DatasetError, FeaturizeError
from featurize.execution.folder_lock import holder_of
from featurize.storage import StoragePath
from jobs.terminal.console import status_lines
from train.answers.check import AnswersStatus, read_answers_status
from train.run import Run
from train.summary_records import CrossValidationSummary, TuneSummary

_FOLD = re.compile(r"fold=(\d+)")
_SEED = re.compile(r"seed=(\d+)")
_TRIAL = re.compile(r"trial=(\d+)")
_NAMES_SHOWN = 3
_LABELS_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a folder holds; each attribute is None, or empty, for what it does not hold.

    Attributes:
        dataset: Status of the dataset, also of one inside of a run.
        listing: Id of a process that lists its music and has not planned a dataset yet.
        run: The run, with its number of epochs to train.
        cross_validation: The folder of a cross-validation, and the runs of the folds that have begun.
        search: The folder of a search, and the runs of the trials that have begun.
        answers: Status of answers.
    """

    dataset: Status | None = None
    listing: str | None = None
    run: tuple[Run, int] | None = None
    cross_validation: tuple[Run, list[StoragePath]] | None = None
    search: tuple[Run, list[StoragePath]] | None = None
    answers: AnswersStatus | None = None


def read_progress(folder: StoragePath) -> Progress:
    """Return what is done in a folder.

    Args:
        folder: Dataset folder, run folder, the folder of a cross-validation or a search, or a folder of answers. A
            run folder may contain its dataset, as `earmark run` makes it; the folder of a demo contains a run, and
            that of an evaluation on an external test set answers.

    Raises:
        DatasetError: The folder has none of these, not even an unfinished one.
    """
    folder = folder_of_progress(folder)
    if answers := read_answers_status(folder, _holder(folder)):
        return Progress(answers=answers)
    run, features = Run(folder), folder / "features"
    dataset = listing = None
    if (features / "tracks.parquet").is_file():
        dataset = read_status(features)
    else:
        listing = _holder(features)
    if info := run.info():
        return Progress(dataset, listing, run=(run, info.epochs))
    if folds := _folds(folder):
        return Progress(dataset, listing, cross_validation=(run, folds))
    if trials := _begun(folder, _TRIAL):
        return Progress(dataset, listing, search=(run, trials))
    if dataset or listing:
        return Progress(dataset, listing)
    if run.history() or (folder / "tracks.parquet").is_file():
        return Progress(read_status(folder))
    if holder := _holder(folder):
        return Progress(listing=holder)
    raise DatasetError(_describe_other(folder))


def progress_lines(folder: StoragePath) -> str:
    """Return the lines of `earmark status`; arguments and errors as in `read_progress`."""
    progress = read_progress(folder)
    parts = []
    if progress.answers:
        parts.append(_answers_lines(progress.answers))
    if progress.dataset:
        parts.append(status_lines(progress.dataset))
    if progress.listing:
        parts.append(_listing_lines(progress.listing))
    if progress.run:
        parts.append(_training_lines(*progress.run))
    if progress.cross_validation:
        parts.append(_folds_lines(*progress.cross_validation))
    if progress.search:
        parts.append(_search_lines(*progress.search))
    return "\n".join(parts)


def progress_record(folder: StoragePath) -> dict[str, Any]:
    """Return the document of `earmark status --json`; arguments and errors as in `read_progress`.

    `dataset`, `listing`, `run`, `cross_validation`, `search` and `answers` are null for what the folder does not
    hold.
    """
    progress = read_progress(folder)
    folds = None
    if progress.cross_validation:
        run, begun = progress.cross_validation
        summary = _finished_cross_validation(run, begun)
        folds = {
            "complete": summary is not None,
            "folds": [{"folder": str(fold), **_run_record(Run(fold))} for fold in begun],
            "mean": summary.mean.tracks.to_json() if summary else None,
        }
    trials = None
    if progress.search:
        run, begun = progress.search
        found = _finished_search(run, begun)
        trials = {
            "complete": found is not None,
            "trials": [{"folder": str(trial), **_run_record(Run(trial))} for trial in begun],
            "best": found.best if found else None,
        }
    return {
        "folder": str(folder),
        "dataset": _status_record(progress.dataset),
        "listing": progress.listing,
        "run": _run_record(progress.run[0]) if progress.run else None,
        "cross_validation": folds,
        "search": trials,
        "answers": _status_record(progress.answers),
    }


def _status_record(status: Status | AnswersStatus | None) -> dict[str, Any] | None:
    if status is None:
        return None
    rejects = [count.model_dump() for count in status.rejects]
    return {**dataclasses.asdict(status), "rejects": rejects}


def _run_record(run: Run) -> dict[str, Any]:
    info, history, metrics = run.info(), run.history(), run.metrics()
    tracks = metrics.tracks if metrics else None
    return {
        "trained": run.model.is_file(),
        "epochs": info.epochs if info else None,
        "epochs_done": len(history),
        "step": run.latest_step(),
        **({"members": [_run_record(member) for member in members]} if (members := run.member_runs()) else {}),
        "latest": history[-1].to_json() if history else None,
        "evaluated": {"accuracy": tracks.accuracy, "macro_f1": tracks.macro_f1} if tracks else None,
    }


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
    """Return the folders of a cross-validation in which training has begun, in the order of seeds and folds."""
    return [run for seed in [folder, *_numbered(folder, _SEED)] for run in _begun(seed, _FOLD)]


def _begun(folder: StoragePath, pattern: re.Pattern[str]) -> list[StoragePath]:
    """Return the folders of folds or trials in which training has begun, in the order of their numbers."""
    return [run for run in _numbered(folder, pattern) if (run / "run.json").is_file()]


def _numbered(folder: StoragePath, pattern: re.Pattern[str]) -> list[StoragePath]:
    """Return the subfolders whose names are of a pattern, in the order of the numbers in them."""
    found = {name: match for name in folder.names() if (match := pattern.fullmatch(name))}
    return [folder / name for name in sorted(found, key=lambda name: int(found[name][1]))]


def _finished_cross_validation(run: Run, folds: list[StoragePath]) -> CrossValidationSummary | None:
    """Return crossval.json; None while some of the runs that have begun, maybe of more seeds, are not finished."""
    summary = run.cross_validation()
    if not summary or len(folds) < len(summary.folds) * len(summary.seeds):
        return None
    return summary if all(Run(fold).metrics() for fold in folds) else None


def _finished_search(run: Run, trials: list[StoragePath]) -> TuneSummary | None:
    """Return tune.json, None if it is not of all trials that have begun: more were asked for later."""
    summary = run.search()
    if not summary or [trial.name for trial in trials] != [f"trial={each.trial}" for each in summary.trials]:
        return None
    pairs = zip(trials, summary.trials, strict=True)
    return summary if all(each.state != "trained" or Run(trial).model.is_file() for trial, each in pairs) else None


def _folds_lines(run: Run, folds: list[StoragePath]) -> str:
    """Return the lines for a cross-validation: how many folds are finished, and the one at work."""
    summary = _finished_cross_validation(run, folds)
    runs = [Run(fold) for fold in folds]
    evaluated = sum(fold.metrics() is not None for fold in runs)
    lines = [f"folds     {evaluated} evaluated, {len(runs)} begun"]
    for fold in runs:
        metrics = fold.metrics()
        done = _epochs_of(fold)
        if metrics:
            done = f"tracks accuracy {metrics.tracks.accuracy:.3f}, macro-F1 {metrics.tracks.macro_f1:.3f}"
        seed = fold.folder.parent.name
        name = f"{seed} {fold.folder.name}" if _SEED.fullmatch(seed) else fold.folder.name
        lines.append(f"          {name}: {done}")
    if summary:
        mean = summary.mean.tracks
        lines.append(f"mean      tracks accuracy {mean.accuracy:.3f}, macro-F1 {mean.macro_f1:.3f}")
    else:
        lines.append("state     unfinished: run the same crossval command to continue")
    return "\n".join(lines)


def _epochs_of(run: Run) -> str:
    """Return the epoch that a run has reached; for an unfinished ensemble that of the member at work."""
    if at_work := _member_at_work(run):
        finished, member = at_work
        return f"{finished} of {len(run.member_runs())} members trained, {_epochs_of(member)}"
    info = run.info()
    return f"epoch {len(run.history())} of {info.epochs}" if info else "no epoch"


def _member_at_work(run: Run) -> tuple[int, Run] | None:
    """Return the number of trained members of an unfinished ensemble, and the first one that is not trained."""
    members = run.member_runs()
    if not members or run.model.is_file():
        return None
    finished = sum(member.model.is_file() for member in members)
    return finished, members[min(finished, len(members) - 1)]


def _search_lines(run: Run, trials: list[StoragePath]) -> str:
    """Return the lines for a search: how many trials have begun and are trained, and the best at the end."""
    runs = [Run(trial) for trial in trials]
    trained, summary = sum(trial.model.is_file() for trial in runs), _finished_search(run, trials)
    lines = [f"trials    {len(runs)} begun, {trained} of them trained to the end"]
    if summary:
        lines.append(f"best      {summary.best_name} of {len(summary.trials)} trials")
    else:
        lines.append("state     unfinished: run the same tune command to continue")
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
    if at_work := _member_at_work(run):
        finished, member = at_work
        return f"members   {finished} of {len(run.member_runs())} trained\n{_training_lines(member, epochs)}"
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
