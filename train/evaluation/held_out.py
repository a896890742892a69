"""A held-out fold: its segments, and the scores of a model on them."""

import dataclasses

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import Shard, read_segments, read_track_ids
from featurize.dataset.row_group_reader import RowGroupReader
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.metrics import Float64, Int32, score_both
from train.evaluation.predictor import Predictor
from train.input.batches import SegmentStream
from train.input.sampler import SequentialSampler
from train.records import ProbabilityScores


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


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The segments of a held-out fold.

    Attributes:
        stream: Segments in stored order; the segments of a track are adjacent.
        shards: Shards of the fold.
        segment_mask: bool [segments per track], True for the segments of each track that the stream has.
        track_mask: bool [tracks], True for the tracks to evaluate. A track with an exact duplicate in another
            fold is excluded, because the model may have been trained on the duplicate, or selected by it.
        classes: Class names.
    """

    stream: SegmentStream
    shards: list[Shard]
    segment_mask: NDArray[np.bool_]
    track_mask: NDArray[np.bool_]
    classes: list[str]

    @property
    def per_track(self) -> int:
        """Number of evaluated segments of each track."""
        return int(self.segment_mask.sum())

    def score(self, predictor: Predictor) -> HeldOutScores:
        """Return the scores of a model."""
        return self.score_predicted(*self.predict(predictor))

    def predict(self, predictor: Predictor) -> tuple[Float64, Int32]:
        """Predict the evaluated segments.

        Returns:
            Probabilities, float64 [segments, classes], and labels, int32 [segments].
        """
        probabilities, labels = predictor(self.stream)
        rows = np.repeat(self.track_mask, self.per_track)
        return probabilities[rows], labels[rows]

    def score_predicted(self, probabilities: Float64, labels: Int32) -> HeldOutScores:
        """Return the scores of the probabilities and labels from `predict`."""
        segments, tracks = score_both(probabilities, labels, self.per_track, self.classes)
        return HeldOutScores(segments, tracks, int((~self.track_mask).sum()))

    def segments(self) -> pa.Table:
        """Return `track`, `label`, `segment` and `start` of the evaluated segments, in the order of `predict`."""
        return read_segments(self.shards).filter(pa.array(np.outer(self.track_mask, self.segment_mask).ravel()))


def held_out(dataset: Dataset, config: TrainConfig, fold: int, reader: RowGroupReader | None = None) -> HeldOut:
    """Return the segments of a fold on which a model is evaluated.

    Raises:
        TrainError: The fold has no tracks, or each of them has a copy in another fold.
    """
    shards = dataset.in_folds({fold})
    segments = _evaluated_segments(dataset, config)
    segment_mask = np.isin(np.arange(dataset.segments_per_track), segments)
    sizes = [rows for shard in shards for rows in shard.row_groups]
    sampler = SequentialSampler(sizes, dataset.segments_per_track, segments, config.batch_size)
    stream = SegmentStream(shards, sampler, reader=reader)
    copies = dataset.copies_across(fold)
    if copies:
        tracks = (track for shard in shards for track in read_track_ids(shard, dataset.segments_per_track))
        track_mask = np.array([track not in copies for track in tracks])
        if not track_mask.any():
            raise TrainError(
                f"every track of {dataset.layout.name_of(fold)} has a copy in another fold; "
                f"{dataset.folder / 'duplicates.parquet'} lists them. Remove the copies from the collection."
            )
    else:
        track_mask = np.ones(sampler.lanes.rows // len(segments), np.bool_)
    return HeldOut(stream, shards, segment_mask, track_mask, dataset.classes)


def _evaluated_segments(dataset: Dataset, config: TrainConfig) -> list[int]:
    """Return the indices of the segments of each held-out track that are evaluated."""
    last = dataset.segments_per_track - 1
    return sorted({0, last}) if config.test_segments == "first_last" else list(range(last + 1))
