"""Trained models, and their predictions for audio files."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from earmark.progress import CallbackReporter, OnTracks
from featurize.storage import StoragePath
from jobs.inference.predict import predict
from train.run import Run

if TYPE_CHECKING:
    from train.evaluation.inference import TrainedClassifier
    from train.score_records import Metrics

Place = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one file.

    Attributes:
        path: Path of the file.
        label: The most probable class.
        probability: Its probability.
        probabilities: Probability of each class, the mean over the segments.
        segments: Start of each segment in seconds, and the probability of each class there.
    """

    path: str
    label: str
    probability: float
    probabilities: dict[str, float]
    segments: list[tuple[float, dict[str, float]]]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions for some files.

    Attributes:
        tracks: Predictions, in the order of the files.
        rejects: Path and reason of each file that could not be read.
    """

    tracks: list[Prediction]
    rejects: list[tuple[str, str]]


class Model:
    """A trained model; it is loaded when it predicts for the first time."""

    def __init__(self, run: Place, trust_code: bool = False) -> None:
        """Open a run.

        Args:
            run: Folder of a finished run; a path or a URI.
            trust_code: Whether to execute the Python file in it that defines custom layers.

        Raises:
            TrainError: The folder holds no trained model.
        """
        self._run = Run(StoragePath.of(run))
        self._trust_code = trust_code
        self._info = self._run.trained()
        self._classifier: TrainedClassifier | None = None

    def __repr__(self) -> str:
        return f"<earmark.Model {self._run.folder} of {len(self.classes)} classes>"

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the logits."""
        return list(self._info.classes)

    @property
    def features(self) -> dict[str, Any]:
        """The feature settings that the model was trained with."""
        return dict(self._info.features)

    @property
    def metrics(self) -> "Metrics | None":
        """The metrics of the test fold; None if the run is not evaluated."""
        return self._run.metrics()

    @cached_property
    def keras(self) -> Any:
        """The `keras.Model`, from features, float32 [batch, features, frames], to logits [batch, classes]."""
        from train.evaluation.inference import load_model

        return load_model(self._run, self._trust_code)

    def predict(
        self,
        files: Place | Sequence[Place],
        *,
        workers: int | None = None,
        limits: Mapping[str, float] | None = None,
        on_tracks: OnTracks | None = None,
    ) -> Predictions:
        """Predict the classes of audio files.

        Args:
            files: A file or a folder, or several; paths or URIs.
            workers: Number of processes that featurize, if there are many files; None for one per core.
            limits: `max_seconds` and `track_timeout`, in seconds, if they are not those of the model.
            on_tracks: Called with (files done, all files).

        Raises:
            FeaturizeError: No audio files were found, or workers failed. A file that cannot be decoded is no
                error; it is in `rejects`.
        """
        places = [files] if isinstance(files, str | os.PathLike) else files
        found = predict(
            self._run.folder,
            [os.fspath(place) for place in places],
            workers,
            CallbackReporter(on_tracks=on_tracks),
            limits,
            self._trust_code,
            self._load,
        )
        return Predictions(
            [self._prediction(track.path, track.starts, track.segments) for track in found.tracks], found.rejects
        )

    def _load(self) -> "TrainedClassifier":
        """Return the loaded model, the same one for each prediction."""
        if self._classifier is None:
            from train.evaluation.inference import TrainedClassifier

            self._classifier = TrainedClassifier(self._run, self._trust_code)
        return self._classifier

    def _prediction(self, path: str, starts: Any, segments: Any) -> Prediction:
        mean = segments.mean(axis=0)
        best = int(mean.argmax())
        return Prediction(
            path,
            self.classes[best],
            float(mean[best]),
            self._named(mean),
            [(float(start), self._named(row)) for start, row in zip(starts, segments, strict=True)],
        )

    def _named(self, probabilities: Any) -> dict[str, float]:
        return dict(zip(self._info.classes, map(float, probabilities), strict=True))


def load(run: Place, *, trust_code: bool = False) -> Model:
    """Open the trained model of a run; see `Model`."""
    return Model(run, trust_code)
