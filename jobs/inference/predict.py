"""From files to genres: featurize them as the model was trained, and ask it."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurize.config import FeaturizeConfig
from featurize.dataset_build.inference_features import featurizing, list_files, supported_settings
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.native_output import quiet_tensorflow
from train.run import Run

if TYPE_CHECKING:
    from train.evaluation.inference import TrainedClassifier


_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrackPrediction:
    """What a model hears in a track.

    Attributes:
        path: the track, as the user would write it.
        starts: float64 [segments], seconds from the beginning of what was read.
        segments: float64 [segments, classes], the probabilities of each segment.
    """

    path: str
    starts: NDArray[np.float64]
    segments: NDArray[np.float64]

    @property
    def track(self) -> NDArray[np.float64]:
        """The probabilities of the track, float64 [classes]: the mean over its segments."""
        mean: NDArray[np.float64] = self.segments.mean(axis=0)
        return mean


@dataclasses.dataclass(frozen=True)
class PredictionResults:
    """What became of all files, each in the order in which they were asked about.

    Attributes:
        classes: the class names.
        tracks: those that could be heard.
        rejects: path and reason of the others.
    """

    classes: list[str]
    tracks: list[TrackPrediction]
    rejects: list[tuple[str, str]]


def predict(
    run: StoragePath, targets: Sequence[str], workers: int | None, reporter: ConsoleReporter
) -> PredictionResults:
    """Ask the model of a run what it hears in files and folders.

    Args:
        run: a finished run.
        targets: files and folders; paths or URIs.
        workers: processes that featurize at once, where there are enough files for Ray.
        reporter: Prints progress and remarks.

    Raises:
        TrainError: the run has no model.
        FeaturizeError: there is nothing to listen to, the model needs other features than this Earmark makes, or
            workers failed.
    """
    trained = Run(run)
    settings = supported_settings(trained.trained().features)
    files = list_files(targets)
    if not files:
        raise FeaturizeError(f"expected audio files in {', '.join(targets)}, found none. Give files or folders.")
    began, order = time.monotonic(), {file.id: index for index, file in enumerate(files)}
    model: TrainedClassifier | None = None
    tracks: list[TrackPrediction] = []
    rejects: list[tuple[str, str]] = []
    timeout = FeaturizeConfig().track_timeout

    def on_wait() -> None:
        nonlocal model
        # TensorFlow takes as long to load as some tracks to featurize: the first of them are under way.
        model = model or _load(trained)
        on_progress(len(tracks) + len(rejects), len(rejects))

    with (
        featurizing(files, settings, workers, timeout, on_wait) as results,
        reporter.predicting(len(files)) as on_progress,
    ):
        for result in results:
            assert model
            heard = zip(result.ids, result.starts, model.probabilities(result.mfcc), strict=True)
            tracks += [TrackPrediction(name, starts, segments) for name, starts, segments in heard]
            rejects += [(name, f"{reason}: {message}") for name, _, reason, message in result.rejects]
            on_progress(len(tracks) + len(rejects), len(rejects))
    assert model
    tracks.sort(key=lambda track: order[track.path])
    rejects.sort(key=lambda reject: order[reject[0]])
    _log.info(f"Predicted {len(tracks)} of {len(files)} files, {time.monotonic() - began:.1f} s.")
    return PredictionResults(model.classes, tracks, rejects)


def _load(run: Run) -> "TrainedClassifier":
    with quiet_tensorflow():
        from train.evaluation.inference import TrainedClassifier

    return TrainedClassifier(run)
