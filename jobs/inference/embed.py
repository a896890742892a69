"""The command `earmark embed`: featurize files, apply the layers of a model, write a Parquet file."""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.config import FeaturizeConfig
from featurize.dataset_build.inference_features import Featurized, featurizing, list_files, supported_settings
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath
from featurize.uri import uri_without_secrets
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.native_output import quiet_tensorflow
from train.run import Run

if TYPE_CHECKING:
    from train.evaluation.embedder import Embedder

_ROWS_PER_GROUP = 4096

_log = logging.getLogger(__name__)


class _TrackOrder:
    """Releases tracks in the order of the files, although their features arrive in any order."""

    def __init__(self, names: Sequence[str]) -> None:
        self._position = {name: index for index, name in enumerate(names)}
        self._next = 0
        self._waiting: dict[int, tuple[str, NDArray[np.float64], NDArray[np.float32]] | None] = {}

    def add(
        self, result: Featurized, values: NDArray[np.float32]
    ) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float32]]]:
        """Add a result with its embeddings, and yield all tracks that no earlier one is missing for."""
        for track in zip(result.ids, result.starts, values, strict=True):
            self._waiting[self._position[track[0]]] = track
        self._waiting |= {self._position[name]: None for name, *_ in result.rejects}
        while self._next in self._waiting:
            track_or_reject = self._waiting.pop(self._next)
            self._next += 1
            if track_or_reject:
                yield track_or_reject


class _EmbeddingWriter:
    """Writer of a Parquet file with a row for each track, or for each segment."""

    def __init__(self, path: str, size: int, by_segment: bool, about: Mapping[str, str]) -> None:
        """Begin a file.

        Args:
            path: Path on this machine.
            size: Number of values of an embedding.
            by_segment: Whether to write a row for each segment.
            about: Metadata of the file.
        """
        segment = [("segment", pa.int32()), ("start", pa.float64())] if by_segment else []
        columns = [("track", pa.string()), *segment, ("embedding", pa.list_(pa.float32(), size))]
        self._schema = pa.schema(columns, metadata={"earmark": json.dumps(about)})
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", write_page_checksum=True)
        self._by_segment = by_segment
        self._tracks: list[tuple[str, NDArray[np.float64], NDArray[np.float32]]] = []
        self._rows = 0

    def add(self, track: str, starts: NDArray[np.float64], values: NDArray[np.float32]) -> None:
        """Add a track: the start of each segment in seconds, and float32 [segments, size]."""
        if not self._by_segment:
            values = values.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        self._tracks.append((track, starts, values))
        self._rows += len(values)
        if self._rows >= _ROWS_PER_GROUP:
            self._write()

    def close(self) -> None:
        """Write the remaining rows and the footer."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        if not self._tracks:
            return
        counts = [len(values) for _, _, values in self._tracks]
        names = np.array([name for name, *_ in self._tracks], object)
        columns: dict[str, pa.Array] = {
            "track": pa.array(np.repeat(names, counts), pa.string()),
            "segment": pa.array(np.concatenate([np.arange(count, dtype=np.int32) for count in counts])),
            "start": pa.array(np.concatenate([starts for _, starts, _ in self._tracks])),
            "embedding": pa.FixedSizeListArray.from_arrays(
                pa.array(np.concatenate([values.ravel() for *_, values in self._tracks])),
                self._schema.field("embedding").type.list_size,
            ),
        }
        table = pa.table({name: columns[name] for name in self._schema.names}, schema=self._schema)
        self._writer.write_table(table, row_group_size=self._rows)
        self._tracks, self._rows = [], 0


def embed(
    run: StoragePath,
    targets: Sequence[str],
    out: StoragePath,
    layer: str | None,
    by_segment: bool,
    workers: int | None,
    reporter: ConsoleReporter,
    limits: Mapping[str, float],
    trust_code: bool = False,
) -> tuple[int, str]:
    """Write the embeddings of files: the values of a hidden layer, in Parquet.

    The rows are in the order of the files, whatever the order in which they are featurized. What memory holds does
    not grow with their number.

    Args:
        run: Folder of a finished run.
        targets: Files and folders; paths or URIs.
        out: Output file; it appears when it is complete.
        layer: Name of the layer; None for the last hidden one.
        by_segment: Whether to write a row for each segment, and not the mean of each track.
        workers: Number of processes that featurize, as in `jobs.inference.predict.predict`.
        reporter: Shows progress.
        limits: `max_seconds` and `track_timeout`, from `jobs.inference.predict.prediction_limits`.
        trust_code: Whether code in the run may be executed, as in `train.evaluation.inference.load_model`.

    Returns:
        Number of tracks, and a description of the embeddings.

    Raises:
        TrainError: The run has no model, or the layer is unknown.
        FeaturizeError: No audio files were found, none could be read, or the model needs other features.
    """
    trained = Run(run)
    try:
        settings = supported_settings(trained.trained().features)
    except FeaturizeError as error:
        raise FeaturizeError(f"{run / 'model.json'}: {error}") from error
    limits = dict(limits)
    timeout = limits.pop("track_timeout", FeaturizeConfig().track_timeout)
    settings = settings.model_copy(update=limits)
    files = list_files(targets)
    if not files:
        if not targets:
            raise FeaturizeError("expected audio files or folders, got none.")
        given = one_line(", ".join(map(uri_without_secrets, targets)))
        raise FeaturizeError(f"expected audio files in {given}, found none. Give files or folders.")
    started, order = time.monotonic(), _TrackOrder([file.id for file in files])
    embedder: Embedder | None = None
    done = rejected = 0

    def on_wait() -> None:
        nonlocal embedder
        # TensorFlow takes seconds to load; the first files are featurized in other processes meanwhile.
        embedder = embedder or _load(trained, layer, trust_code)
        on_progress(done + rejected, rejected)

    with (
        tempfile.TemporaryDirectory() as scratch,
        featurizing(files, settings, workers, timeout, on_wait) as results,
        reporter.predicting(len(files)) as on_progress,
    ):
        path, writer = os.path.join(scratch, "embeddings.parquet"), None
        for result in results:
            assert embedder
            writer = writer or _EmbeddingWriter(path, embedder.size, by_segment, _describe(trained, embedder))
            for track, starts, values in order.add(result, embedder.embed(result.mfcc)):
                writer.add(track, starts, values)
            done += len(result.ids)
            rejected += len(result.rejects)
            for name, _, reason, message in result.rejects:
                _log.warning("%s: %s: %s", one_line(name), reason, one_line(message))
            for name, remark in result.remarks:
                _log.warning("%s: %s; what could be decoded is used.", one_line(name), one_line(remark))
            on_progress(done + rejected, rejected)
        if not done:
            raise FeaturizeError(f"none of the {len(files)} files could be read, so {out} was not written.")
        assert writer
        assert embedder
        writer.close()
        with pa.memory_map(path) as content:
            out.write(content.read_buffer())
    _log.info(f"Embedded {done} of {len(files)} files, {time.monotonic() - started:.1f} s.")
    return done, f"{embedder.size} values, {embedder.layer}"


def _describe(run: Run, embedder: "Embedder") -> dict[str, str]:
    """Return the metadata of the file: what the embeddings are, and of which model."""
    return {"layer": embedder.layer, "model_sha256": hashlib.sha256(run.model.read()).hexdigest()}


def _load(run: Run, layer: str | None, trust_code: bool) -> "Embedder":
    with quiet_tensorflow():
        from train.evaluation.embedder import Embedder

    return Embedder(run, layer, trust_code)
