"""A held-out fold: its segments, and the scores of a model on them."""

import contextlib
import dataclasses
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import Shard, read_segments, read_track_ids
from featurize.dataset.row_group_reader import RowGroupReader
from train.config import TrainConfig
from train.errors import NotFiniteError, TrainError
from train.evaluation.metrics import Float64, Int32
from train.evaluation.predictor import Predictor
from train.evaluation.totals import FoldTotals
from train.input.stored_order import EvaluationStream
from train.records import HeldOutFigures
from train.score_records import ProbabilityScores


@dataclasses.dataclass(frozen=True)
class HeldOutScores:
    """Scores of a model on a held-out fold.

    Attributes:
        segments: Scores of single segments.
        tracks: Scores of whole tracks.
        copies_left_out: Tracks that were not evaluated because another fold has a copy.
    """

    segments: ProbabilityScores
    tracks: ProbabilityScores
    copies_left_out: int

    @property
    def figures(self) -> HeldOutFigures:
        """The scores that the history records."""
        return HeldOutFigures(
            loss=self.segments.loss,
            accuracy=self.segments.accuracy,
            track_accuracy=self.tracks.accuracy,
            track_macro_f1=self.tracks.macro_f1,
        )


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The segments of a held-out fold.

    Attributes:
        stream: Segments in stored order; the segments of a track are adjacent.
        shards: Shards of the fold.
        segment_mask: bool [segments per track], True for the segments of each track that the stream has.
        track_mask: bool [tracks], True for the tracks to evaluate; None if these are all. A track with an exact
            duplicate in another fold is excluded, because the model may have been trained on the duplicate, or
            selected by it.
        classes: Class names.
    """

    stream: EvaluationStream
    shards: list[Shard]
    segment_mask: NDArray[np.bool_]
    track_mask: NDArray[np.bool_] | None
    classes: list[str]

    @property
    def per_track(self) -> int:
        """Number of evaluated segments of each track."""
        return int(self.segment_mask.sum())

    def score(
        self, predictor: Predictor, receive: Callable[[Float64, Int32], None] = lambda probabilities, labels: None
    ) -> HeldOutScores:
        """Return the scores of a model, which are the same for any number of workers. All of them must call it.

        Args:
            predictor: Predicts with the model.
            receive: Called with the probabilities, float64 [rows, classes], and the labels, int32 [rows], of the
                evaluated segments, in stored order. With several workers, each receives its share.

        Raises:
            NotFiniteError: Probabilities of this worker's share are not finite.
        """
        totals = FoldTotals(len(self.classes), self.per_track, self.stream.batches.lanes)
        with contextlib.closing(predictor.predict(self.stream)) as batches:
            for place, probabilities, labels in batches:
                if not np.isfinite(probabilities).all():
                    raise NotFiniteError(
                        "the model computes probabilities that are not finite: its training diverged, or the "
                        "features are not finite, which earmark verify FEATURES tests. Train with a lower "
                        "train.learning_rate, or with another train.precision if it is mixed_float16, and another "
                        "--out."
                    )
                if self.track_mask is not None:
                    rows = self.track_mask[np.arange(place.start, place.stop) // self.per_track]
                    probabilities, labels = probabilities[rows], labels[rows]
                totals.add(place.lane, probabilities, labels)
                receive(probabilities, labels)
        totals.set_numbers(predictor.add_over_workers(totals.to_numbers()))
        copies = 0 if self.track_mask is None else int((~self.track_mask).sum())
        return HeldOutScores(*totals.scores(self.classes), copies)

    def evaluated_rows(self) -> list[int]:
        """Return the number of evaluated segments of each shard."""
        tracks = [shard.rows // len(self.segment_mask) for shard in self.shards]
        if self.track_mask is not None:
            tracks = [int(part.sum()) for part in np.split(self.track_mask, np.cumsum(tracks)[:-1])]
        return [count * self.per_track for count in tracks]

    def segments(self, first: int = 0, last: int | None = None) -> pa.Table:
        """Return `track`, `label`, `segment` and `start` of the evaluated segments of the shards [first, last)."""
        shards = self.shards[first:last]
        tracks = np.ones(sum(shard.rows for shard in shards) // len(self.segment_mask), np.bool_)
        if self.track_mask is not None:
            start = sum(shard.rows for shard in self.shards[:first]) // len(self.segment_mask)
            tracks = self.track_mask[start : start + len(tracks)]
        return read_segments(shards).filter(pa.array(np.outer(tracks, self.segment_mask).ravel()))


def held_out(dataset: Dataset, config: TrainConfig, fold: int, reader: RowGroupReader | None = None) -> HeldOut:
    """Return the segments of a fold on which a model is evaluated.

    Raises:
        TrainError: The fold has no tracks, or each of them has a copy in another fold.
    """
    shards = dataset.in_folds({fold})
    segments = _evaluated_segments(dataset, config)
    segment_mask = np.isin(np.arange(dataset.segments_per_track), segments)
    stream = EvaluationStream(shards, dataset.segments_per_track, segments, config.batch_size, reader)
    track_mask = None
    copies = dataset.copies_across(fold)
    if copies:
        tracks = (track for shard in shards for track in read_track_ids(shard, dataset.segments_per_track))
        track_mask = np.fromiter((track not in copies for track in tracks), np.bool_)
        if not track_mask.any():
            raise TrainError(
                f"every track of {dataset.layout.name_of(fold)} has a copy in another fold; "
                f"{dataset.folder / 'duplicates.parquet'} lists them. Remove the copies from the collection."
            )
    return HeldOut(stream, shards, segment_mask, track_mask, dataset.classes)


def _evaluated_segments(dataset: Dataset, config: TrainConfig) -> list[int]:
    """Return the indices of the segments of each held-out track that are evaluated."""
    last = dataset.segments_per_track - 1
    return sorted({0, last}) if config.test_segments == "first_last" else list(range(last + 1))
