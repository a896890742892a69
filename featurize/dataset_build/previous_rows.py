"""Find and read rows in finished shards that are not in the plan, so that they are copied and not computed again.

Such shards remain from the plan before: a shard lost a track, or small shards are merged. After a kill they are
still there, because only `finalize.finish` deletes them.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.footer import parse_footer, read_footer
from featurize.dataset.reader import UNREADABLE, in_threads
from featurize.dataset.tables import refuse_other_schema
from featurize.dataset_build.shard_writer import digest
from featurize.display import one_line
from featurize.errors import Reject
from featurize.planning.shard_plan import ShardPlan
from featurize.storage import StoragePath

_TRACKS_SHOWN = 5


@dataclasses.dataclass(frozen=True, slots=True)
class CopiedTrack:
    """Rows of a track in a finished shard.

    Attributes:
        features: float32 [segments, features, frames].
        starts: float64 [segments], start of each segment in seconds.
        remarks: Remarks on the track.
    """

    features: NDArray[np.float32]
    starts: NDArray[np.float64]
    remarks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PreviousRows:
    """What finished shards have of the tracks of a plan.

    Attributes:
        rows: Rows by id and file size, without those that differ from what was written.
        rejects: Rejects by id, of files whose size is still the same; none if the plan has `retry_rejects`.
        damaged: Ids of the tracks whose rows differ from what was written or cannot be read.
    """

    rows: dict[tuple[str, int], CopiedTrack]
    rejects: dict[str, Reject]
    damaged: list[str]


class RowSources:
    """Index of the tracks in some finished shards: 12 bytes a track, because there may be ten million."""

    def __init__(self, folder: StoragePath, names: Iterable[str], settings: FeatureSettings) -> None:
        """Read the footers of shards; those that are broken or have other settings are left out.

        Args:
            folder: Dataset folder.
            names: Names of shards.
            settings: Feature settings that the rows must have.
        """
        self._names = sorted(names)
        stored = settings.model_dump()

        def read(name: str) -> NDArray[np.int64]:
            footer = read_footer(folder, name)
            if footer is None or footer.settings != stored:
                return np.zeros(0, np.int64)
            return _hashes([*footer.tracks.track, *(reject.path for reject in footer.rejects)])

        hashes = list(in_threads(read, self._names))
        owners = np.repeat(np.arange(len(hashes), dtype=np.int32), [len(some) for some in hashes])
        found = np.concatenate([*hashes, np.zeros(0, np.int64)])
        order = np.argsort(found, kind="stable")
        self._hashes, self._owners = found[order], owners[order]

    def of(self, tracks: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the shards that have some tracks, given by their ids, in ascending order."""
        wanted = _hashes(tracks)
        first, stop = (np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))
        owners = {owner for a, b in zip(first, stop, strict=True) for owner in self._owners[a:b].tolist()}
        return tuple(self._names[owner] for owner in sorted(owners))


def read_previous(plan: ShardPlan, folder: StoragePath, keep_unsized: bool = True) -> PreviousRows:
    """Read what the shards `plan.previous` have of the tracks of a plan.

    Args:
        plan: The shard to be made.
        folder: Dataset folder.
        keep_unsized: Whether rejects without a size, of earlier versions, count as those of files of this size.
    """
    wanted = {(track.id, track.size) for track in plan.tracks}
    sizes = {track.id: track.size for track in plan.tracks}
    rows: dict[tuple[str, int], CopiedTrack] = {}
    rejects: dict[str, Reject] = {}
    differ: set[tuple[str, int]] = set()
    for name in plan.previous:
        path = folder / "shards" / name
        try:
            file = pq.ParquetFile(path.path, page_checksum_verification=True, **path.arrow)
            footer = parse_footer(file.metadata)
        except UNREADABLE:
            continue  # broken or missing: its tracks are computed again
        if footer.settings != plan.settings.model_dump():
            continue
        written = {key: i for i, key in enumerate(zip(footer.tracks.track, footer.tracks.size, strict=True))}
        try:
            form, segments = plan.settings.format, plan.settings.segments_per_track
            refuse_other_schema(file.schema_arrow, form.schema)
            table = file.read(["start", form.column], use_threads=False)
            features = form.array(table[form.column]).reshape(len(written), segments, *form.shape)
            starts = table["start"].to_numpy().reshape(len(features), segments)
        except UNREADABLE:
            differ |= written.keys() & wanted
            continue
        remarks: dict[str, list[str]] = {}
        for remark in footer.remarks:
            remarks.setdefault(remark.path, []).append(remark.message)
        for key, i in written.items():
            if key not in wanted or key in rows:
                continue
            if digest(features[i]) == footer.tracks.digest[i]:
                rows[key] = CopiedTrack(features[i], starts[i], tuple(remarks.get(key[0], ())))
            else:  # a disk has damaged them; a copy would get a new digest, and look whole
                differ.add(key)
        if not plan.retry_rejects:
            for reject in footer.rejects:
                if reject.path not in sizes:
                    continue
                if reject.size == sizes[reject.path] or (reject.size is None and keep_unsized):
                    rejects.setdefault(reject.path, Reject(reject.stage, reject.reason, reject.message))
    return PreviousRows(rows, rejects, sorted(track for track, _ in differ - rows.keys()))


def describe_damaged(folder: StoragePath, tracks: Sequence[str]) -> str:
    """Return the message about tracks whose rows in a dataset were damaged."""
    shown = ", ".join(repr(one_line(track)) for track in tracks[:_TRACKS_SHOWN])
    more = ", ..." if len(tracks) > _TRACKS_SHOWN else ""
    return (
        f"The stored rows of {len(tracks)} tracks in {folder} were damaged and are computed again: {shown}{more}. "
        f"The disk may be failing. To compare all others with what was written: earmark verify {folder.quoted}"
    )


def _hashes(tracks: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each id; two ids with one number cost a shard that is read in vain."""
    return np.fromiter(map(hash, tracks), np.int64, len(tracks))
