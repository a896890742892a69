"""How far a dataset or a run is, told from its files alone: from anywhere, while a job is at work and after it."""

from featurize.dataset_build.verify import read_status
from featurize.storage import StoragePath
from jobs.terminal.console import status_lines
from train.run import Run


def progress_lines(folder: StoragePath) -> str:
    """Say in a few lines how far the work in a folder is.

    Args:
        folder: a dataset's, or a run's; of a run whose dataset lies inside, both are told.

    Raises:
        DatasetError: no run was ever begun there.
    """
    run, inside = Run(folder), folder / "features"
    parts = []
    if (inside / "tracks.parquet").is_file():
        parts.append(status_lines(read_status(inside)))
    if info := run.info():
        parts.append(_training_lines(run, info.epochs))
    return "\n".join(parts) if parts else status_lines(read_status(folder))


def _training_lines(run: Run, epochs: int) -> str:
    history, metrics = run.history(), run.metrics()
    trained = run.model.is_file()
    lines = [
        f"training {'done' if trained else 'unfinished'}: {len(history)} of {epochs} epochs",
        f"saved    {'the model' if trained else f'a checkpoint after step {run.latest_step()}'}",
    ]
    if history:
        figures = history[-1].train
        lines.append(f"latest   train loss {figures.loss:.3f}, accuracy {figures.accuracy:.3f}")
    if metrics:
        tracks = metrics.tracks
        lines.append(f"judged   tracks accuracy {tracks.accuracy:.3f}, macro-F1 {tracks.macro_f1:.3f}")
    return "\n".join(lines)
