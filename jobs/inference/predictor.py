"""The process with the model: it predicts the features of a shard and writes the answers.

Its answers depend on the shard only: a shard is predicted alone, in batches of one size, and on a CPU with one
thread, because the order in which threads add changes the last bits.
"""

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurize.dataset.footer import RejectedTrack, TrackRemark, parse_footer
from featurize.dataset.reader import UNREADABLE, Shard, read_row_group, read_segments, unreadable_shard
from featurize.errors import CollectionLostError
from featurize.storage import StoragePath
from jobs.inference.answer_plan import AnswerPlan
from jobs.terminal.native_output import quiet_tensorflow
from train.answers.folder import ShardAnswers
from train.answers.shard import PredictedTracks, encode_shard
from train.errors import TrainError
from train.run import Run

if TYPE_CHECKING:
    from featurize.dataset_build.inference_features import Featurized
    from train.evaluation.inference import TrainedClassifier


@dataclasses.dataclass(frozen=True)
class StoredShard:
    """A shard of a dataset to predict.

    Attributes:
        name: Name of the shard of answers.
        shard: Shard of the dataset.
        classes: Class names of the dataset.
        segments: Segments per track.
    """

    name: str
    shard: Shard
    classes: list[str]
    segments: int


class ShardPredictor:
    """Predicts shards with the model of a run; the model is loaded for the first one."""

    def __init__(
        self,
        run: StoragePath,
        model: str,
        folder: StoragePath,
        by_segment: bool,
        on_gpu: bool,
        trust_code: bool = False,
    ) -> None:
        """Remember what to do; nothing is loaded yet.

        Args:
            run: Run folder.
            model: SHA-256 of the model that the answers are planned for.
            folder: Folder of the answers.
            by_segment: Whether each segment is a row.
            on_gpu: Whether this process has a GPU.
            trust_code: Whether code in the run may be executed, as in `train.evaluation.inference.load_model`.
        """
        self._run = run
        self._model = model
        self._folder = folder
        self._by_segment = by_segment
        self._on_gpu = on_gpu
        self._trust_code = trust_code
        self._classifier: TrainedClassifier | None = None

    def prepare(self) -> None:
        """Load the model; raises what `work` raises."""
        self._loaded()

    def work(self, plan: "AnswerPlan | StoredShard", featurized: "Featurized | None" = None) -> ShardAnswers:
        """Predict a shard and write its answers.

        Args:
            plan: Plan of the shard of answers, or a shard of a dataset.
            featurized: Features of the tracks of the plan.

        Raises:
            TrainError: The run has no model, another one, or one of other features.
            DatasetError: The shard of the dataset is damaged.
            CollectionLostError: The folder of the answers is not on this node.
            OSError: The answers cannot be written.
        """
        if self._folder.local and not self._folder.is_folder():
            raise CollectionLostError(f"{self._folder} does not exist on this node. Mount it on every node.")
        if featurized is None:
            assert isinstance(plan, StoredShard)
            return self._write(plan.name, *self._stored(plan))
        assert isinstance(plan, AnswerPlan)
        rows = {track.id: row for row, track in enumerate(plan.tracks)}
        kept = pa.array([rows[track] for track in featurized.ids], pa.int64())
        columns = {name: pa.array(values, pa.string()).take(kept) for name, values in plan.carried.items()}
        predicted = PredictedTracks(
            featurized.ids, featurized.starts, self._predict(featurized.mfcc), pa.table(columns)
        )
        rejects = [
            RejectedTrack(path=track, stage=stage, reason=reason, message=message)
            for track, stage, reason, message in featurized.rejects
        ]
        remarks = [TrackRemark(path=track, message=message) for track, message in featurized.remarks]
        return self._write(plan.name, predicted, rejects, remarks)

    def _stored(self, plan: StoredShard) -> tuple[PredictedTracks, list[RejectedTrack], list[TrackRemark]]:
        """Predict a shard of a dataset, one row group at a time."""
        shard = plan.shard
        try:
            footer = parse_footer(pq.read_metadata(shard.path.path, **shard.path.arrow))
        except UNREADABLE as error:
            raise unreadable_shard(shard, error) from error
        parts = []
        for index in range(len(shard.row_groups)):
            mfcc, _ = read_row_group(shard, index)
            parts.append(self._predict(mfcc.reshape(-1, plan.segments, *mfcc.shape[1:])))
        rows = read_segments([shard])
        first = pa.array(np.arange(0, len(rows), plan.segments))
        labels = pa.array(plan.classes, pa.string()).take(rows["label"].combine_chunks().take(first))
        folds = pa.array(np.full(len(first), shard.fold, np.int32))
        predicted = PredictedTracks(
            rows["track"].take(first).to_pylist(),
            rows["start"].to_numpy().reshape(-1, plan.segments),
            np.concatenate(parts) if parts else np.empty((0, plan.segments, len(self._loaded().classes))),
            pa.table({"label": labels, "fold": folds}),
        )
        return predicted, footer.rejects, footer.remarks

    def _predict(self, mfcc: Any) -> Any:
        return self._loaded().probabilities(mfcc)

    def _write(
        self, name: str, predicted: PredictedTracks, rejects: list[RejectedTrack], remarks: list[TrackRemark]
    ) -> ShardAnswers:
        classes = self._loaded().classes
        content, footer = encode_shard(predicted, classes, self._by_segment, rejects, remarks)
        (self._folder / "shards" / name).write(content)
        return ShardAnswers(name, content.size, hashlib.sha256(content).hexdigest(), footer)

    def _loaded(self) -> "TrainedClassifier":
        if self._classifier is None:
            run = Run(self._run)
            if model_digest(run) != self._model:
                raise TrainError(
                    f"{run.model} was replaced while its answers were made, or is another file on this node. Run "
                    "the same command again."
                )
            with quiet_tensorflow():
                import tensorflow as tf

                if not self._on_gpu:
                    tf.config.set_visible_devices([], "GPU")
                    tf.config.threading.set_intra_op_parallelism_threads(1)
                    tf.config.threading.set_inter_op_parallelism_threads(1)
                from train.evaluation.inference import TrainedClassifier

                self._classifier = TrainedClassifier(run, self._trust_code)
        return self._classifier


def model_digest(run: Run) -> str:
    """Return the SHA-256 of the model of a run, in hexadecimal."""
    return hashlib.sha256(run.model.read()).hexdigest()
