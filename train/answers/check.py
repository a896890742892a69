"""The status of a folder of answers, and whether its shards are those that were written."""

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurize.dataset.footer import count_rejects
from featurize.dataset.info import RejectCount
from featurize.dataset.reader import UNREADABLE, in_threads
from featurize.display import one_line
from featurize.storage import StoragePath, describe
from train.answers.folder import (
    list_answers,
    read_answer_footer,
    read_answer_plan,
    read_answers_info,
    read_manifest,
)
from train.errors import TrainError

_ROUNDING = 1e-3  # of the sum of a row of float32 probabilities, for ten thousand classes


@dataclasses.dataclass(frozen=True)
class AnswersStatus:
    """Status of a prediction into a folder.

    Attributes:
        complete: Whether `answers.json`, the last file to be written, exists.
        holder: Id of the process that holds the lock of the folder; None if unlocked or remote.
        shards, shards_done: Number of planned shards, and of finished shards.
        tracks, tracks_done: Number of tracks in planned shards, and in finished shards.
        labels: Number of tracks of each predicted class, if the answers are complete.
        rejects: Reject counts of the finished shards, most frequent first.
        broken: Names of finished shards whose footers cannot be read.
    """

    complete: bool
    holder: str | None
    shards: int
    shards_done: int
    tracks: int
    tracks_done: int
    labels: dict[str, int]
    rejects: list[RejectCount]
    broken: list[str]


def read_answers_status(folder: StoragePath, holder: str | None) -> AnswersStatus | None:
    """Return the status of a folder of answers; None if it holds none. Changes nothing, so a run may be active.

    Args:
        folder: The folder.
        holder: As in `AnswersStatus`.

    Raises:
        TrainError: A file is broken.
    """
    planned = read_answer_plan(folder)
    if planned is None:
        return None
    done = sorted(planned.keys() & list_answers(folder).keys())
    footers = dict(zip(done, in_threads(lambda name: read_answer_footer(folder, name), done), strict=True))
    info = read_answers_info(folder)
    return AnswersStatus(
        complete=info is not None,
        holder=holder,
        shards=len(planned),
        shards_done=len(done),
        tracks=sum(planned.values()),
        tracks_done=sum(planned[name] for name in done),
        labels=info.predicted if info else {},
        rejects=count_rejects([reject for footer in footers.values() if footer for reject in footer.rejects]),
        broken=[name for name, footer in footers.items() if footer is None],
    )


def verify_answers(folder: StoragePath) -> tuple[int, int, Iterator[tuple[str, list[str]]]]:
    """Read all shards and compare them with the manifest.

    Returns:
        The number of predicted tracks, the number of shards, and each shard with the problems found, an empty list
        if there are none.

    Raises:
        TrainError: The folder holds no complete answers.
    """
    info = read_answers_info(folder)
    if info is None:
        raise TrainError(
            f"{folder} holds no complete answers: answers.json is missing. Type the same earmark predict again."
        )
    manifest = read_manifest(folder)
    listed = {row["name"]: row for row in manifest.to_pylist()}
    names = sorted(listed.keys() | list_answers(folder).keys())

    def check(name: str) -> list[str]:
        if name not in listed:
            return ["does not belong to these answers"]
        return list(_problems(folder / "shards" / name, listed[name]["sha256"], len(info.classes)))

    tracks = sum(info.predicted.values())
    return tracks, len(names), zip(names, in_threads(check, names), strict=True)


def _problems(path: StoragePath, sha256: str, classes: int) -> Iterator[str]:
    try:
        content = path.read()
        if hashlib.sha256(content).hexdigest() != sha256:
            yield "has other bytes than were written"
            return
        table = pq.read_table(pa.BufferReader(content))
        rows = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(-1, classes)
        if not (np.isfinite(rows).all() and (np.abs(rows.sum(axis=1) - 1) < _ROUNDING).all()):
            yield "has probabilities whose sum is not 1"
        elif pc.any(pc.is_null(table["label"])).as_py():
            yield "has rows without a label"
    except UNREADABLE as error:
        yield f"cannot be read: {describe(error) if isinstance(error, OSError) else one_line(error)}"
