"""One shard on its way to the disk: rows gathered a row group at a time, rejects and statistics in the footer."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.dataset.footer import FeatureSums, KeptTracks, RejectedTrack, ShardFooter
from featurize.dataset.schema import MFCC_SHAPE, SHARD_SCHEMA, TRACKS_PER_ROW_GROUP, mfcc_column
from featurize.errors import Reject
from featurize.planning.shard_plan import ShardPlan, Track
from featurize.storage import StoragePath

_PAGE_BYTES = 1 << 26


class ShardWriter:
    """Takes the tracks of a plan in their order and writes the file at the end, whole.

    Memory holds the floats of one row group, and of the finished ones what they have been compressed to.
    """

    def __init__(self, plan: ShardPlan) -> None:
        """Begin with no tracks."""
        self._plan = plan
        segments = plan.settings.segments_per_track
        self._mfcc = np.empty((TRACKS_PER_ROW_GROUP, segments, *MFCC_SHAPE), np.float32)
        self._starts = np.empty((TRACKS_PER_ROW_GROUP, segments), np.float64)
        self._gathered: list[Track] = []
        self._kept: list[Track] = []
        self._digests: list[str] = []
        self._rejects: list[RejectedTrack] = []
        # In float64 and in the order of the tracks, so that the sums are the same wherever they are made.
        self._sum, self._sum_of_squares = np.zeros(MFCC_SHAPE[0]), np.zeros(MFCC_SHAPE[0])
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            SHARD_SCHEMA,
            # The frames that overlapping segments share repeat byte for byte, and ZSTD's fastest level finds
            # them where a row group is one page.
            compression="zstd",
            compression_level=1,
            data_page_size=_PAGE_BYTES,
            use_dictionary=["track"],
            write_statistics=["track", "label", "segment"],
        )

    @property
    def rejects(self) -> int:
        """How many tracks have no rows."""
        return len(self._rejects)

    def add(self, track: Track, mfcc: NDArray[np.float32], starts: NDArray[np.float64]) -> None:
        """Add a track's rows: float32 [segments, 40, 217] and float64 [segments], the starts in seconds."""
        place = len(self._gathered)
        self._mfcc[place], self._starts[place] = mfcc, starts
        self._gathered.append(track)
        self._kept.append(track)
        self._digests.append(digest(self._mfcc[place]))
        self._sum += mfcc.sum(axis=(0, 2), dtype=np.float64)
        self._sum_of_squares += np.square(mfcc, dtype=np.float64).sum(axis=(0, 2))
        if len(self._gathered) == TRACKS_PER_ROW_GROUP:
            self._write_row_group()

    def reject(self, track: Track, reject: Reject) -> None:
        """Add a track without rows."""
        self._rejects.append(
            RejectedTrack(path=track.id, stage=reject.stage, reason=reject.reason, message=reject.message)
        )

    def finish(self, folder: StoragePath) -> None:
        """Write the shard below the dataset's folder."""
        self._write_row_group()
        kept = KeptTracks(
            track=[track.id for track in self._kept],
            size=[track.size for track in self._kept],
            digest=self._digests,
        )
        sums = FeatureSums(
            frames=len(self._kept) * self._starts.shape[1] * MFCC_SHAPE[1],
            sum=self._sum.tolist(),
            sum_of_squares=self._sum_of_squares.tolist(),
        )
        footer = ShardFooter(
            settings=self._plan.settings.model_dump(), tracks=kept, rejects=self._rejects, statistics=sums
        )
        self._writer.add_key_value_metadata(footer.to_metadata())
        self._writer.close()
        (folder / "shards" / self._plan.name).write(self._sink.getvalue())

    def _write_row_group(self) -> None:
        tracks = len(self._gathered)
        if not tracks:
            return
        segments = self._starts.shape[1]
        labels = np.array([track.label for track in self._gathered], np.int32)
        columns = [
            pa.array([track.id for track in self._gathered for _ in range(segments)], pa.string()),
            pa.array(np.repeat(labels, segments)),
            pa.array(np.tile(np.arange(segments, dtype=np.int32), tracks)),
            pa.array(self._starts[:tracks].reshape(-1)),
            mfcc_column(self._mfcc[:tracks].reshape(-1, *MFCC_SHAPE)),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=SHARD_SCHEMA))
        self._gathered.clear()


def digest(mfcc: NDArray[np.float32]) -> str:
    """Return 32 hexadecimal digits that name a track's rows: equal audio has equal ones, whatever its tags say."""
    return hashlib.sha256(np.ascontiguousarray(mfcc).data).hexdigest()[:32]
