"""Progress of a dataset or a run, read from its files: on any machine, during a job and after it."""

from featurize.dataset_build.verify import read_status
from featurize.errors import DatasetError
from featurize.storage import StoragePath
from jobs.terminal.console import status_lines
from train.run import Run


def progress_lines(folder: StoragePath) -> str:
    """Return the lines of `earmark status`.

    Args:
        folder: Dataset folder or run folder. For a run folder that contains its dataset, as `earmark run` makes
            it, the lines show both.

    Raises:
        DatasetError: The folder has neither a dataset nor a run, not even an unfinished one.
    """
    run, features = Run(folder), folder / "features"
    parts = []
    if (features / "tracks.parquet").is_file():
        parts.append(status_lines(read_status(features)))
    if info := run.info():
        parts.append(_training_lines(run, info.epochs))
    if parts:
        return "\n".join(parts)
    if not run.history() and not (folder / "tracks.parquet").is_file():
        raise DatasetError(
            f"{folder} holds neither a dataset nor a run, not even an unfinished one. To begin one, type: earmark "
            f"run MUSIC --out {folder}"
        )
    return status_lines(read_status(folder))


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
