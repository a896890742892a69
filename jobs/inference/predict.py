"""Predict genres of files: featurize them with the settings of the model, then apply the model."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from featurize.collection.table_file import is_table_name
from featurize.config import FeaturizeConfig
from featurize.dataset_build.inference_features import featurizing, list_files, supported_settings
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath
from featurize.uri import uri_without_secrets
from jobs.config import load_config
from jobs.errors import ConfigError
from jobs.terminal.native_output import quiet_tensorflow
from train.run import Run

if TYPE_CHECKING:
    from train.evaluation.inference import TrainedClassifier


_LIMITS = ("featurize.max_seconds", "featurize.track_timeout")
_LIMITS_OF_ANSWERS = (*_LIMITS, "featurize.tracks_per_shard")

_log = logging.getLogger(__name__)


class PredictionReporter(Protocol):
    """Shows the progress of a prediction."""

    def predicting(self, total: int) -> AbstractContextManager[Callable[[int, int], None]]:
        """Return a context whose value is called with the numbers of files done and of rejects."""


@dataclasses.dataclass(frozen=True)
class TrackPrediction:
    """Prediction of a model for one track.

    Attributes:
        path: Path or URI of the track, as a user would type it.
        starts: float64 [segments], start of each segment in seconds from the beginning of the excerpt.
        segments: float64 [segments, classes], probabilities of each segment.
    """

    path: str
    starts: NDArray[np.float64]
    segments: NDArray[np.float64]

    @property
    def track(self) -> NDArray[np.float64]:
        """Probabilities of the track, float64 [classes]: the mean over its segments."""
        mean: NDArray[np.float64] = self.segments.mean(axis=0)
        return mean


@dataclasses.dataclass(frozen=True)
class PredictionResults:
    """Predictions of all files, in the order in which the files were given.

    Attributes:
        classes: Class names.
        tracks: Predictions of the tracks that could be read.
        rejects: Path and reason of each file that could not be read.
    """

    classes: list[str]
    tracks: list[TrackPrediction]
    rejects: list[tuple[str, str]]


def prediction_limits(overrides: Sequence[str], into_folder: bool = False) -> dict[str, float]:
    """Return the values of `--set` for a prediction, by name without section; all other settings are the model's.

    Args:
        overrides: Values of `--set`.
        into_folder: Whether answers are written to a folder, in shards.

    Raises:
        ConfigError: A value is out of range, or its setting is not one of `featurize.max_seconds`,
            `featurize.track_timeout` and, for a folder, `featurize.tracks_per_shard`.
    """
    allowed = _LIMITS_OF_ANSWERS if into_folder else _LIMITS
    settings = load_config(None, overrides).featurize
    names = [override.partition("=")[0].strip() for override in overrides]
    if others := [one_line(name) for name in names if name not in allowed]:
        raise ConfigError(
            f"--set {', '.join(others)}: a prediction has the settings that its model was trained with. Only "
            f"{', '.join(allowed[:-1])} and {allowed[-1]} may be set."
        )
    values = {key: getattr(settings, key) for _, _, key in (name.partition(".") for name in names)}
    return {key: value for key, value in values.items() if value != "auto"}


def predict(
    run: StoragePath,
    targets: Sequence[str],
    workers: int | None,
    reporter: PredictionReporter,
    limits: Mapping[str, float] | None = None,
    trust_code: bool = False,
    load: "Callable[[], TrainedClassifier] | None" = None,
) -> PredictionResults:
    """Predict the genres of files and folders with the model of a run.

    Args:
        run: Folder of a finished run.
        targets: Files and folders; paths or URIs.
        workers: Number of processes that featurize, if there are enough files to use Ray; None for one per core.
        reporter: Shows progress.
        limits: `max_seconds` instead of the model's, and `track_timeout` instead of the default, from
            `prediction_limits`.
        trust_code: Whether code in the run may be executed, as in `train.evaluation.inference.load_model`.
        load: Returns the model of the run, if the caller keeps it; None to load it.

    Raises:
        TrainError: The run has no model.
        FeaturizeError: No audio files were found, the model needs features that this Earmark does not compute, or
            workers failed.
    """
    trained = Run(run)
    try:
        settings = supported_settings(trained.trained().features)
    except FeaturizeError as error:
        raise FeaturizeError(f"{run / 'model.json'}: {error}") from error
    limits = dict(limits or {})
    if unknown := limits.keys() - {name.partition(".")[2] for name in _LIMITS}:
        raise ConfigError(f"limits: {', '.join(sorted(unknown))}: only max_seconds and track_timeout may be set.")
    timeout = limits.pop("track_timeout", FeaturizeConfig().track_timeout)
    settings = settings.model_copy(update=limits)
    _refuse_collections(targets)
    files = list_files(targets)
    if not files:
        if not targets:
            raise FeaturizeError("expected audio files or folders, got none.")
        given = one_line(", ".join(map(uri_without_secrets, targets)))
        raise FeaturizeError(f"expected audio files in {given}, found none. Give files or folders.")
    started, order = time.monotonic(), {file.id: index for index, file in enumerate(files)}
    model: TrainedClassifier | None = None
    tracks: list[TrackPrediction] = []
    rejects: list[tuple[str, str]] = []

    def on_wait() -> None:
        nonlocal model
        # TensorFlow takes seconds to load; the first files are featurized in other processes meanwhile.
        model = model or (load() if load else _load(trained, trust_code))
        on_progress(len(tracks) + len(rejects), len(rejects))

    with (
        featurizing(files, settings, workers, timeout, on_wait) as results,
        reporter.predicting(len(files)) as on_progress,
    ):
        for result in results:
            assert model
            predicted = zip(result.ids, result.starts, model.probabilities(result.mfcc), strict=True)
            tracks += [TrackPrediction(name, starts, segments) for name, starts, segments in predicted]
            rejects += [(name, f"{reason}: {message}") for name, _, reason, message in result.rejects]
            for name, remark in result.remarks:
                _log.warning(f"{one_line(name)}: {one_line(remark)}; what could be decoded is used.")
            on_progress(len(tracks) + len(rejects), len(rejects))
    assert model
    tracks.sort(key=lambda track: order[track.path])
    rejects.sort(key=lambda reject: order[reject[0]])
    _log.info(f"Predicted {len(tracks)} of {len(files)} files, {time.monotonic() - started:.1f} s.")
    return PredictionResults(model.classes, tracks, rejects)


def _refuse_collections(targets: Sequence[str]) -> None:
    """Raise a FeaturizeError for tables and datasets, which only a prediction into a folder reads."""
    for target in targets:
        place = StoragePath.of(target)
        # Text may be anything, and becomes a reject.
        table = is_table_name(place.name) and not place.name.lower().endswith(".txt") and place.is_file()
        if table or (place / "dataset.json").is_file():
            raise FeaturizeError(
                f"{place} is a {'table' if table else 'dataset'}, not audio. To predict its tracks, add: "
                "--out ANSWERS"
            )


def _load(run: Run, trust_code: bool) -> "TrainedClassifier":
    with quiet_tensorflow():
        from train.evaluation.inference import TrainedClassifier

    return TrainedClassifier(run, trust_code)
