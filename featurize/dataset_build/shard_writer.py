"""Write a shard: rows one row group at a time; tracks, rejects and sums in the footer."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.dataset.footer import FeatureSums, KeptTracks, RejectedTrack, ShardFooter, TrackRemark
from featurize.dataset.schema import TRACKS_PER_ROW_GROUP
from featurize.dataset.shard_table import ShardRecord
from featurize.errors import Reject
from featurize.planning.shard_plan import ShardPlan, Track
from featurize.storage import StoragePath

_PAGE_BYTES = 1 << 26


class ShardWriter:
    """Writer that takes the tracks of a plan in order and writes the file at the end, atomically.

    Memory holds the features of one row group and the compressed bytes of finished row groups.
    """

    def __init__(self, plan: ShardPlan) -> None:
        """Create a writer for an empty shard."""
        self._plan = plan
        segments, self._format = plan.settings.segments_per_track, plan.settings.format
        self._features = np.empty((TRACKS_PER_ROW_GROUP, segments, *self._format.shape), np.float32)
        self._starts = np.empty((TRACKS_PER_ROW_GROUP, segments), np.float64)
        self._buffered: list[Track] = []
        self._kept: list[Track] = []
        self._digests: list[str] = []
        self._rejects: list[RejectedTrack] = []
        self._remarks: list[TrackRemark] = []
        self._row_groups: list[int] = []
        # float64, added in track order: the sums are bit-identical on every worker.
        count = plan.settings.features
        self._sum, self._sum_of_squares = np.zeros(count), np.zeros(count)
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            self._format.schema,
            # Overlapping segments repeat the bytes of the frames that they share. Even the fastest level of ZSTD
            # finds these repetitions if a row group is a single page.
            compression="zstd",
            compression_level=1,
            data_page_size=_PAGE_BYTES,
            use_dictionary=["track"],
            write_statistics=["track", "label", "segment"],
            # CRC-32 of each page: without it, Arrow noticed one flipped bit in sixty. 4 bytes of 300 kB.
            write_page_checksum=True,
        )

    @property
    def rejects(self) -> int:
        """Number of rejected tracks."""
        return len(self._rejects)

    def add(self, track: Track, features: NDArray[np.float32], starts: NDArray[np.float64]) -> None:
        """Add the rows of a track, as they will be read: rounded, if the features are stored as float16.

        Args:
            track: Track of the plan.
            features: float32 [segments, features, frames].
            starts: float64 [segments], start of each segment in seconds.
        """
        position = len(self._buffered)
        features = self._format.rounded(features)
        self._features[position], self._starts[position] = features, starts
        self._buffered.append(track)
        self._kept.append(track)
        self._digests.append(digest(self._features[position]))
        self._sum += features.sum(axis=(0, 2), dtype=np.float64)
        self._sum_of_squares += np.square(features, dtype=np.float64).sum(axis=(0, 2))
        if len(self._buffered) == TRACKS_PER_ROW_GROUP:
            self._write_row_group()

    def reject(self, track: Track, reject: Reject) -> None:
        """Add a rejected track."""
        self._rejects.append(
            RejectedTrack(
                path=track.id,
                stage=reject.stage,
                reason=reject.reason,
                message=reject.message,
                size=track.size,
            )
        )

    def remark(self, track: Track, message: str) -> None:
        """Add a remark on a track with rows."""
        self._remarks.append(TrackRemark(path=track.id, message=message))

    def finish(self, folder: StoragePath) -> ShardRecord:
        """Write the shard to a dataset folder, and return what the manifest has about it."""
        self._write_row_group()
        kept = KeptTracks(
            track=[track.id for track in self._kept],
            size=[track.size for track in self._kept],
            digest=self._digests,
        )
        sums = FeatureSums(
            frames=len(self._kept) * self._starts.shape[1] * self._plan.settings.frames,
            sum=self._sum.tolist(),
            sum_of_squares=self._sum_of_squares.tolist(),
        )
        footer = ShardFooter(
            settings=self._plan.settings.model_dump(),
            tracks=kept,
            rejects=self._rejects,
            statistics=sums,
            remarks=self._remarks,
        )
        self._writer.add_key_value_metadata(footer.to_metadata())
        self._writer.close()
        content = self._sink.getvalue()
        (folder / "shards" / self._plan.name).write(content)
        return ShardRecord.of(footer, self._row_groups, content.size)

    def _write_row_group(self) -> None:
        tracks = len(self._buffered)
        if not tracks:
            return
        segments = self._starts.shape[1]
        labels = np.array([track.label for track in self._buffered], np.int32)
        columns = [
            pa.array([track.id for track in self._buffered for _ in range(segments)], pa.string()),
            pa.array(np.repeat(labels, segments)),
            pa.array(np.tile(np.arange(segments, dtype=np.int32), tracks)),
            pa.array(self._starts[:tracks].reshape(-1)),
            self._format.column_of(self._features[:tracks].reshape(-1, *self._format.shape)),
        ]
        self._row_groups.append(tracks * segments)
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._format.schema))
        self._buffered.clear()


def digest(features: NDArray[np.float32]) -> str:
    """Return 32 hexadecimal digits that identify the features of a track; exact duplicates have equal digests."""
    return hashlib.sha256(np.ascontiguousarray(features).data).hexdigest()[:32]
