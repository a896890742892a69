"""The SVM's predictions in a cross-validation, as a Parquet file, and the network compared with them."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.tables import read_table, write_table
from featurize.storage import StoragePath, describe
from train.errors import TrainError
from train.evaluation.bootstrap import Difference, GroupCounts, paired_differences
from train.evaluation.intervals import first_rows
from train.evaluation.metrics import pool_tracks
from train.evaluation.predictions import Predictions
from train.evaluation.svm_baseline import Tracks

SVM_PREDICTIONS = "svm_predictions.parquet"  # in the folder of a cross-validation

_SCHEMA = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("fold", pa.int64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("predicted", pa.string(), nullable=False),
    ]
)


@dataclasses.dataclass(frozen=True)
class SvmPredictions:
    """The class that the SVM predicts for each evaluated track of a cross-validation.

    Attributes:
        table: `track`, `group`, `fold` (in which it was the test set), `label` and `predicted`, a row each.
    """

    table: pa.Table

    @classmethod
    def of(
        cls, tracks: Tracks, folds: Iterable[tuple[NDArray[np.int64], NDArray[np.int32]]], dataset: Dataset
    ) -> "SvmPredictions":
        """Describe the results of `predict_svm` for each fold."""
        found = [*folds]
        rows = np.concatenate([test for test, _ in found])
        predicted = np.concatenate([classes for _, classes in found])
        names = pa.array(tracks.classes, pa.string())
        ids = pa.array(tracks.ids[rows].tolist(), pa.string())
        known = dataset.tracks().select(["track", "group"])
        groups = known["group"].combine_chunks().take(pc.index_in(ids, value_set=known["track"].combine_chunks()))
        columns = [ids, groups, pa.array(tracks.folds[rows]), names.take(pa.array(tracks.labels[rows]))]
        return cls(pa.Table.from_arrays([*columns, names.take(pa.array(predicted))], schema=_SCHEMA))

    def write(self, folder: StoragePath) -> None:
        """Write the table into the folder of a cross-validation."""
        write_table(folder / SVM_PREDICTIONS, self.table)

    @classmethod
    def read(cls, folder: StoragePath) -> "SvmPredictions | None":
        """Read the table; None if an earlier version of Earmark made the cross-validation.

        Raises:
            TrainError: The file is broken.
        """
        path = folder / SVM_PREDICTIONS
        try:
            return cls(read_table(path, schema=_SCHEMA))
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            reason = describe(error) if isinstance(error, OSError) else str(error).rstrip(".")
            raise TrainError(
                f"cannot read {path}: {reason}. Repeat the crossval command: finished folds are kept."
            ) from error


def network_minus_svm(
    parts: Iterable[Predictions], svm: SvmPredictions, classes: Sequence[str]
) -> dict[str, Difference] | None:
    """Return how the scores of the network differ from those of the SVM on the same tracks.

    Args:
        parts: Predictions of the network for all folds, and for all seeds: the SVM, which has no seed, counts once
            for each.
        svm: Predictions of the SVM.
        classes: Class names.

    Returns:
        Differences of `accuracy` and `macro_f1` with their confidence intervals, by a bootstrap over groups; None
        if all tracks are of one group, or if the SVM did not predict the same tracks.
    """
    tracks, groups = svm.table["track"].combine_chunks(), svm.table["group"].combine_chunks().dictionary_encode()
    predicted = pc.index_in(svm.table["predicted"].combine_chunks(), value_set=pa.array(classes, pa.string()))
    ours, theirs = (GroupCounts(len(groups.dictionary), len(classes)) for _ in range(2))
    for part in parts:
        pooled, labels = pool_tracks(part.probabilities, part.labels, part.per_track)
        rows = pc.index_in(first_rows(part), value_set=tracks)
        of_svm = predicted.take(rows)
        if of_svm.null_count:
            return None
        group = groups.indices.take(rows).to_numpy()
        ours.add(group, labels, pooled.argmax(axis=1))
        theirs.add(group, labels, of_svm.to_numpy())
    return paired_differences(ours, theirs)
