"""The report of a run, `report.html`: one self-contained HTML file."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import read_row_group
from featurize.version import VERSION
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.prediction_parts import read_predictions
from train.evaluation.predictions import PREDICTIONS, Predictions, audio_link, most_notable
from train.folds import fold_roles
from train.input.class_counts import small_classes
from train.records import EpochRecord
from train.report.figures import Picture, draw_curves, draw_segment
from train.report.html import class_colors, environment, saved_on
from train.report.reliability import draw_reliability
from train.report.summary import summarize_run
from train.run import Run
from train.run_checks import metrics_of_model
from train.score_records import Metrics

_MAX_REJECTS = 200
_MAX_TRACKS = 2000
_MAX_PROBABILITIES = 1_000_000  # of all segments of the tracks shown; about four bytes each


@dataclasses.dataclass(frozen=True)
class Clip:
    """Audio that is embedded in the page.

    Attributes:
        uri: Data URI.
        start: Where it begins, in seconds from the beginning of the track, or of the excerpt.
    """

    uri: str
    start: float


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A misclassified track.

    Attributes:
        track: Its id.
        start: Start of its segment with the highest probability of the predicted class, in seconds.
    """

    track: str
    start: float


def surest_mistakes(run: Run, count: int) -> list[Mistake]:
    """Return the misclassified tracks of a run with the highest confidence, at most `count`.

    Raises:
        TrainError: The predictions cannot be read.
    """
    shown = most_notable(read_predictions(run), count)
    mistakes = []
    for track in shown.tracks() if shown else []:
        if track["actual"] != track["predicted"]:
            of_segments = [probabilities[track["predicted"]] for probabilities in track["segment_probabilities"]]
            mistakes.append(Mistake(track["track"], track["starts"][int(np.argmax(of_segments))]))
    return mistakes


def write_run_page(run: Run, dataset: Dataset, clips: Mapping[str, Clip] | None = None) -> None:
    """Write `report.html` from the `metrics.json`, `predictions.parquet` and `history.json` of a run.

    Args:
        run: The run.
        dataset: Dataset of the run.
        clips: Audio to embed in the page, by track.

    Raises:
        TrainError: The run is not evaluated, or its predictions cannot be read.
    """
    metrics = metrics_of_model(run)
    if not run.history():
        raise TrainError(
            f"{run.folder / 'history.json'} is missing or empty. Repeat its run or train command: it writes the "
            "file from the latest checkpoint."
        )
    predictions = _of_one_training(run, dataset, metrics)
    run.report.write(render(run, dataset, run.config(), metrics, predictions, clips or {}).encode())


def _of_one_training(run: Run, dataset: Dataset, metrics: Metrics) -> Iterator[Predictions]:
    """Yield the predictions of a run part by part, and check that they are those of the metrics and the dataset.

    Raises:
        TrainError: They are not, or cannot be read.
    """
    rows = 0
    same = metrics.classes == dataset.classes
    for part in read_predictions(run):
        rows += len(part.labels)
        same = same and part.classes == metrics.classes
        if not same:
            break
        yield part
    if not same or rows != metrics.segments.count:
        raise TrainError(
            f"metrics.json and {PREDICTIONS} in {run.folder} are not those of one training on "
            f"{dataset.folder}. Type: earmark evaluate {run.folder.quoted}"
        )


def render(
    run: Run,
    dataset: Dataset,
    config: TrainConfig,
    metrics: Metrics,
    predictions: Iterable[Predictions],
    clips: Mapping[str, Clip],
) -> str:
    """Render the report of a run as HTML.

    Args:
        run: The run; its history and its settings are shown.
        dataset: Dataset of the run; its counts, its rejects and one segment of each class are shown.
        config: Training settings, for the held-out folds.
        metrics: The content of `metrics.json`.
        predictions: Predictions for the test fold, in parts.
        clips: Audio to embed in the page, by track.

    Returns:
        A self-contained HTML page. Names of tracks, classes and groups are escaped.
    """
    history, rejects, music = run.history(), dataset.rejects(), dataset.music()
    folds = fold_roles(config, dataset.layout)
    roles = {fold: part for part, fold in folds.held_out.items()} | dict.fromkeys(folds.left_out, "unused")
    settings, members = dataset.info.settings, run.trained().members
    # The members of an ensemble have different epochs.
    selected = metrics.epoch if metrics.epoch != len(history) and not members else None
    probabilities_per_track = metrics.segments.count // metrics.tracks.count * len(dataset.classes)
    limit = min(_MAX_TRACKS, max(_MAX_PROBABILITIES // max(probabilities_per_track, 1), 1))
    shown = most_notable(predictions, limit)
    tracks = shown.tracks() if shown else []
    for track in tracks:
        track["audio"] = audio_link(track["track"], music, run.folder)
        if clip := clips.get(track["track"]):
            track["clip"] = dataclasses.asdict(clip)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            metrics=metrics,
            summary=summarize_run(metrics, config, len(history), small_classes(dataset)),
            colors=class_colors(len(dataset.classes)),
            tracks=tracks,
            clips=len(clips),
            predictions=PREDICTIONS,
            # Starts are relative to the excerpt, so the player can seek only if excerpts start where files do.
            seekable=settings.excerpt_seconds is None or settings.excerpt_position == "start",
            reliability=metrics.calibration and draw_reliability(metrics.calibration),
            temperature=run.trained().temperature,
            members=members,
            stops_early=config.patience is not None,
            selected=selected,
            curves=_curves(history, selected),
            examples=[
                (dataset.classes[label], draw_segment(segment, settings))
                for label, segment in _first_of_each_class(dataset)
            ],
            settings=settings,
            counts=_count_table(dataset),
            checked=[size for part, size in metrics.split.parts.items() if part != "unused"],
            held_out=roles,
            layout=dataset.layout,
            info=dataset.info,
            rejects=rejects.slice(0, _MAX_REJECTS).to_pylist(),
            rejected=rejects.num_rows,
            history=history,
            config_text=run.config_text(),
            version=VERSION,
            name=run.name,
            saved=_trained_on(run),
            music=music.name if music else None,
            again=_again(run, dataset),
        )
    )


def _trained_on(run: Run) -> str:
    """Return the date of the last start of training; of a run of an earlier version, that of the model's file."""
    info = run.info()
    starts = [start for start in (info.started, *info.resumed) if start] if info else []
    return starts[-1].date[:10] if starts else saved_on(run.model)


def _again(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Return the paths in the commands that repeat a run, and whether they are relative to its folder.

    Absolute paths of a machine mean nothing on another one, and may show the name of its user; a URI means the
    same everywhere.
    """
    features = _features(run, dataset)
    if run.folder.local:
        curves = os.path.relpath(run.tensorboard.path, run.folder.path)
        names = {"run": ".", "config": "config.yaml", "tensorboard": curves}
        return {**names, "features": features, "folder": True}
    paths = {"run": run.folder, "config": run.folder / "config.yaml", "tensorboard": run.tensorboard}
    return {**{name: path.stored for name, path in paths.items()}, "features": features, "folder": False}


def _features(run: Run, dataset: Dataset) -> str:
    ours, features = run.folder.local, dataset.folder.local
    if not features:
        return dataset.folder.stored
    return "features" if ours and features.resolve() == (ours / "features").resolve() else "FEATURES"


def _count_table(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the counts of each class in each fold, None for a fold without tracks of the class."""
    cells = {(count.label, count.fold): count for count in dataset.info.counts}
    folds = sorted({fold for _, fold in cells})
    return [
        {"label": label, "folds": [(fold, cells.get((label, fold))) for fold in folds]}
        for label in dataset.classes
    ]


def _curves(history: Sequence[EpochRecord], selected: int | None) -> list[tuple[str, Picture]]:
    """Plot the loss and the accuracy of segments over the epochs, with a mark at the selected epoch, if any."""
    return [
        (
            f"{figure.capitalize()} of segments",
            draw_curves(
                {
                    part: (
                        [entry.epoch for entry in history if part in entry.parts],
                        [getattr(entry.parts[part], figure) for entry in history if part in entry.parts],
                    )
                    for part in ("train", "validation", "test")
                    if any(part in entry.parts for entry in history)
                },
                figure,
                selected,
            ),
        )
        for figure in ("loss", "accuracy")
    ]


def _first_of_each_class(dataset: Dataset) -> list[tuple[int, NDArray[np.float32]]]:
    """Return class index and features, float32 [features, frames], of the first segment of each class."""
    first: dict[int, NDArray[np.float32]] = {}
    for shard in dataset.shards:
        for index in range(len(shard.row_groups)):
            mfcc, labels = read_row_group(shard, index)
            for label, row in zip(*np.unique(labels, return_index=True), strict=True):
                first.setdefault(int(label), mfcc[row].copy())
            if len(first) == len(dataset.classes):
                return sorted(first.items(), key=lambda item: item[0])
    return sorted(first.items(), key=lambda item: item[0])
