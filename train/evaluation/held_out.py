"""A fold that a model is judged on and never learns from."""

import dataclasses

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import Shard, read_segments, read_track_ids
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
        stream: in the order in which they are stored, the segments of a track side by side.
        shards: where they are stored.
        kept: bool [segments of a track], which of them the stream has.
        judged: bool [tracks], False for a track whose very rows are also in another fold: a model that has
            heard a copy of it, or was chosen by one, is not judged on it.
        classes: the class names.
    """

    stream: SegmentStream
    shards: list[Shard]
    kept: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    classes: list[str]

    @property
    def per_track(self) -> int:
        """How many segments of each track are judged."""
        return int(self.kept.sum())

    def score(self, predictor: Predictor) -> HeldOutScores:
        """Evaluate a model."""
        return self.score_predicted(*self.predict(predictor))

    def predict(self, predictor: Predictor) -> tuple[Float64, Int32]:
        """Ask a model about the judged segments.

        Returns:
            float64 [segments, classes], the probabilities; and int32 [segments], the labels.
        """
        probabilities, labels = predictor(self.stream)
        rows = np.repeat(self.judged, self.per_track)
        return probabilities[rows], labels[rows]

    def score_predicted(self, probabilities: Float64, labels: Int32) -> HeldOutScores:
        """Return the scores of what `predict` returned."""
        segments, tracks = score_both(probabilities, labels, self.per_track, self.classes)
        return HeldOutScores(segments, tracks, int((~self.judged).sum()))

    def segments(self) -> pa.Table:
        """Return `track`, `label`, `segment` and `start` of the judged segments, in the order of `predict`."""
        return read_segments(self.shards).filter(pa.array(np.outer(self.judged, self.kept).ravel()))


def held_out(dataset: Dataset, config: TrainConfig, fold: int) -> HeldOut:
    """Return those segments of a fold that a model is judged on.

    Raises:
        TrainError: there are none, or each of its tracks has a copy in another fold.
    """
    shards = dataset.in_folds({fold})
    segments = _judged_segments(dataset, config)
    kept = np.isin(np.arange(dataset.segments_per_track), segments)
    sizes = [rows for shard in shards for rows in shard.row_groups]
    sampler = SequentialSampler(sizes, dataset.segments_per_track, segments)
    stream = SegmentStream(shards, sampler, config.batch_size)
    copies = dataset.copies_across(fold)
    if copies:
        tracks = (track for shard in shards for track in read_track_ids(shard, dataset.segments_per_track))
        judged = np.array([track not in copies for track in tracks])
        if not judged.any():
            raise TrainError(
                f"every track of fold {fold} has a copy in another fold; {dataset.folder / 'duplicates.parquet'} "
                "names them. Remove the copies from the collection."
            )
    else:
        judged = np.ones(sampler.rows // len(segments), np.bool_)
    return HeldOut(stream, shards, kept, judged, dataset.classes)


def _judged_segments(dataset: Dataset, config: TrainConfig) -> list[int]:
    """Return which segments of a held-out track are judged."""
    last = dataset.segments_per_track - 1
    return sorted({0, last}) if config.test_segments == "first_last" else list(range(last + 1))
