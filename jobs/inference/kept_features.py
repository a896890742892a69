"""Features of a predicted collection, kept as a dataset: a new model then predicts it without the music.

The dataset has one class, `unlabeled`, and one fold; its shards have the tracks of the shards of answers.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from featurize.audio.filters import Filters
from featurize.dataset.info import DEFAULT_LAYOUT
from featurize.dataset.music_root import write_music
from featurize.dataset.reader import list_shards
from featurize.dataset.schema import shard_name
from featurize.dataset_build.finalize import finish
from featurize.dataset_build.inference_features import Featurized, featurize_batch
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.errors import Reject
from featurize.planning.plan import Plan
from featurize.planning.shard_plan import fingerprint
from featurize.storage import StoragePath
from jobs.inference.answer_plan import AnswerPlan, MusicPlan

LABEL = "unlabeled"


class KeptFeatures:
    """The dataset of a prediction with `--keep-features`."""

    def __init__(self, folder: StoragePath, plan: MusicPlan) -> None:
        """Plan the dataset; nothing is written yet.

        Args:
            folder: Dataset folder.
            plan: Plan of the answers.
        """
        self.folder = folder
        tracks = plan.found.tracks
        count = len(tracks)
        zeros = pa.array(np.zeros(count, np.int32))
        self._plan = Plan(
            root=plan.found.root,
            settings=plan.settings,
            classes=[LABEL],
            grouping="none",
            tracks=pa.table(
                {
                    "track": tracks["track"],
                    "path": tracks["path"],
                    "label": zeros,
                    "group": tracks["track"],
                    "fold": zeros,
                    "size": tracks["size"],
                }
            ),
            names=[name_of(plan.shard(position), position) for position in range(len(plan.names))],
            bounds=plan.bounds,
            by_track=np.arange(count, dtype=np.int32),
            layout=DEFAULT_LAYOUT,
            remarks=(),
            unreachable=plan.found.unreachable,
        )

    def missing(self) -> set[int]:
        """Return the positions of the shards that are not there."""
        finished = list_shards(self.folder)
        return {position for position, name in enumerate(self._plan.names) if name not in finished}

    @property
    def complete(self) -> bool:
        """Whether the dataset is complete; its shards may still be those of another plan."""
        return (self.folder / "dataset.json").is_file()

    def begin(self) -> None:
        """Write the plan, before the first shard."""
        (self.folder / "dataset.json").remove()
        write_music(self.folder, self._plan.root)
        self._plan.save(self.folder)

    def finish(self) -> None:
        """Complete the dataset, whose shards are all there."""
        finish(self.folder, self._plan, {})


def name_of(plan: AnswerPlan, position: int) -> str:
    """Return the name of the shard of features for a shard of answers."""
    rows = [[track.id, LABEL, 0, track.size] for track in plan.tracks]
    return shard_name(0, position, fingerprint(plan.settings, rows))


def featurize_and_keep(
    plan: AnswerPlan,
    filters: Filters,
    folder: StoragePath,
    track_timeout: float,
    excluded: Mapping[str, Reject],
) -> tuple[int, Featurized]:
    """Featurize as `featurize_batch` does, and write the features as a shard of a dataset.

    Raises:
        CollectionLostError: Files that existed when the run was planned can no longer be reached.
        OSError: The shard cannot be written.
    """
    result, batch = featurize_batch(plan, filters, track_timeout, excluded)
    rows = {track: row for row, track in enumerate(batch.ids)}
    rejects = {track: Reject(stage, reason, message) for track, stage, reason, message in batch.rejects}
    labeled = [dataclasses.replace(track, label=0) for track in plan.tracks]
    position = int(plan.name.split("-")[1])
    writer = ShardWriter(dataclasses.replace(plan, name=name_of(plan, position), tracks=labeled))
    for track in labeled:
        if track.id in rejects:
            writer.reject(track, rejects[track.id])
            continue
        row = rows[track.id]
        writer.add(track, batch.mfcc[row], batch.starts[row])
    for track_id, message in batch.remarks:
        writer.remark(labeled[[track.id for track in labeled].index(track_id)], message)
    writer.finish(folder)
    return result, batch
