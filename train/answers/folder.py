"""A folder of answers: what a run knows of its shards, and the last step, which completes the answers.

plan.parquet, written first, has the shards and how many tracks each has. The rows are in
shards/part-NNNNN-<fingerprint>.parquet. shards.parquet has bytes, SHA-256 and counts of each shard,
rejects.parquet the tracks that could not be read, and remarks.parquet, if there are any, tracks that were read
past damage or a wrong header. answers.json is written last: it marks the answers as complete.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.footer import RejectedTrack, TrackRemark, count_rejects
from featurize.dataset.info import Count, RejectCount
from featurize.dataset.json_text import read_json
from featurize.dataset.reader import UNREADABLE, in_threads
from featurize.dataset.schema import FOOTER_KEY, REJECTS_SCHEMA, REMARKS_SCHEMA
from featurize.dataset.stored_model import StoredModel, describe_invalid
from featurize.dataset.tables import read_table, write_table
from featurize.display import one_line
from featurize.storage import StoragePath, describe
from train.answers.shard import NAME, AnswerFooter, parse_answer_footer
from train.errors import TrainError

FORMAT_VERSION = 1
INFO, PLAN, MANIFEST = "answers.json", "plan.parquet", "shards.parquet"
_PLAN_SCHEMA = pa.schema(
    [pa.field("name", pa.string(), nullable=False), pa.field("tracks", pa.int32(), nullable=False)]
)
_MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("tracks", pa.int32(), nullable=False),
        pa.field("predicted", pa.int32(), nullable=False),
        pa.field("rejects", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)


class AnswersInfo(StoredModel):
    """Content of `answers.json`. The order of the fields is the order of the keys in the file.

    Attributes:
        format: FORMAT_VERSION of the version that wrote the file.
        id: Fingerprint of the answers; it changes with the tracks, the model and the settings.
        model: SHA-256 of the model.
        classes: Class names, in the order of `probabilities`.
        settings: Feature settings.
        by_segment: Whether each segment is a row.
        columns: Names of the columns that were carried along, as they are in the answers.
        tracks: Number of tracks, rejects included.
        predicted: Number of tracks of each predicted class; classes without any are left out.
        rejects: Reject counts, most frequent first.
        versions: Versions of the libraries that affect the answers.
    """

    format: int
    id: str
    model: str
    classes: Annotated[list[str], Field(min_length=1)]
    settings: FeatureSettings
    by_segment: bool
    columns: list[str]
    tracks: Count
    predicted: dict[str, Count]
    rejects: list[RejectCount]
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class ShardAnswers:
    """A finished shard.

    Attributes:
        name: Name of the file.
        size: Its size in bytes.
        sha256: SHA-256 of its content, in hexadecimal.
        footer: Its footer.
    """

    name: str
    size: int
    sha256: str
    footer: AnswerFooter


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a run has found out about the shards of its plan.

    Attributes:
        tracks: Number of tracks, rejects included.
        labels: Number of tracks of each predicted class.
        rejects: Reject counts, most frequent first.
    """

    tracks: int
    labels: Mapping[str, int]
    rejects: list[RejectCount]

    @property
    def rejected(self) -> int:
        """Number of rejected tracks."""
        return sum(count.tracks for count in self.rejects)


def save_plan(folder: StoragePath, names: Sequence[str], tracks: Sequence[int]) -> None:
    """Write `plan.parquet`: the shards, and how many tracks each has, rejects included."""
    schema = _PLAN_SCHEMA.with_metadata({FOOTER_KEY: b"answers"})
    write_table(folder / PLAN, pa.table([names, pa.array(tracks, pa.int32())], schema=schema))


def read_answer_plan(folder: StoragePath) -> dict[str, int] | None:
    """Return the number of tracks of each planned shard; None if the folder holds no answers.

    Raises:
        TrainError: The file is broken.
    """
    path = folder / PLAN
    if not path.is_file():
        return None
    try:
        table = read_table(path, schema=_PLAN_SCHEMA)
        return dict(zip(table["name"].to_pylist(), table["tracks"].to_pylist(), strict=True))
    except UNREADABLE as error:
        raise broken(path, error) from error


def list_answers(folder: StoragePath) -> dict[str, int]:
    """Return the size in bytes of each finished shard, by name."""
    return {name: size for name, size in (folder / "shards").files() if NAME.fullmatch(name)}


def read_answers_info(folder: StoragePath) -> AnswersInfo | None:
    """Return the content of `answers.json`; None if it does not exist.

    Raises:
        TrainError: It is broken, or of another version.
    """
    path = folder / INFO
    try:
        info = read_json(path)
        found = info.get("format") if isinstance(info, dict) else None
        if found != FORMAT_VERSION:
            raise ValueError(f"has format {found!r}, expected {FORMAT_VERSION}")
        return AnswersInfo.model_validate(info)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        raise broken(path, ValueError(describe_invalid(error))) from error
    except (OSError, ValueError) as error:
        raise broken(path, error) from error


def read_shard_answers(folder: StoragePath, name: str) -> ShardAnswers | None:
    """Read a finished shard; None if it is missing or broken."""
    path = folder / "shards" / name
    try:
        content = path.read()
        return ShardAnswers(
            name,
            len(content),
            hashlib.sha256(content).hexdigest(),
            parse_answer_footer(pq.read_metadata(pa.BufferReader(content))),
        )
    except UNREADABLE:
        return None


def read_answer_footer(folder: StoragePath, name: str) -> AnswerFooter | None:
    """Return the footer of a shard without reading its rows; None if it is missing or broken."""
    path = folder / "shards" / name
    try:
        return parse_answer_footer(pq.read_metadata(path.path, **path.arrow))
    except UNREADABLE:
        return None


def finish_answers(
    folder: StoragePath,
    planned: Mapping[str, int],
    made: Mapping[str, ShardAnswers],
    about: Mapping[str, Any],
) -> Answers:
    """Remove shards of other plans, write the tables and, last, `answers.json`.

    Args:
        folder: Folder of the answers.
        planned: Number of tracks of each shard.
        made: Shards that this run made; the others are read.
        about: Fields of `AnswersInfo` that the shards do not have.

    Raises:
        TrainError: Shards are missing or broken.
    """
    for stale in list_answers(folder).keys() - planned.keys():
        (folder / "shards" / stale).remove()
    unread = [name for name in planned if name not in made]
    others = dict(zip(unread, in_threads(lambda name: read_shard_answers(folder, name), unread), strict=True))
    if lost := [name for name, shard in others.items() if shard is None]:
        raise TrainError(
            f"{len(lost)} shards of {folder} are missing or broken, the first {lost[0]}. Delete them, then run "
            "the same command again."
        )
    columns: dict[str, list[Any]] = {name: [] for name in _MANIFEST_SCHEMA.names}
    rejects: list[RejectedTrack] = []
    remarks: list[TrackRemark] = []
    counts = [0] * len(about["classes"])
    for name, tracks in planned.items():
        shard = made.get(name) or others[name]
        assert shard
        footer = shard.footer
        values = (name, tracks, footer.predicted, len(footer.rejects), shard.size, shard.sha256)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        rejects += footer.rejects
        remarks += footer.remarks
        counts = [sum(pair) for pair in zip(counts, footer.labels, strict=True)]
    _write_records(folder / "rejects.parquet", rejects, REJECTS_SCHEMA)
    if remarks:
        _write_records(folder / "remarks.parquet", remarks, REMARKS_SCHEMA)
    else:
        (folder / "remarks.parquet").remove()
    write_table(folder / MANIFEST, pa.table(columns, schema=_MANIFEST_SCHEMA))
    found = Answers(
        sum(planned.values()), dict(zip(about["classes"], counts, strict=True)), count_rejects(rejects)
    )
    fingerprint = hashlib.sha256(json.dumps([*planned, *columns["sha256"]]).encode()).hexdigest()[:16]
    info = AnswersInfo(
        format=FORMAT_VERSION,
        id=fingerprint,
        tracks=found.tracks,
        predicted={label: count for label, count in found.labels.items() if count},
        rejects=found.rejects,
        **about,
    )
    text = json.dumps(info.model_dump(), indent=2, ensure_ascii=False) + "\n"
    (folder / INFO).write(text.encode())
    return found


def answers_of(info: AnswersInfo) -> Answers:
    """Return what `finish_answers` returned when it wrote `answers.json`."""
    return Answers(info.tracks, {label: info.predicted.get(label, 0) for label in info.classes}, info.rejects)


def read_manifest(folder: StoragePath) -> pa.Table:
    """Return `shards.parquet`.

    Raises:
        TrainError: It is missing or broken.
    """
    try:
        return read_table(folder / MANIFEST, schema=_MANIFEST_SCHEMA)
    except UNREADABLE as error:
        raise broken(folder / MANIFEST, error) from error


def broken(path: StoragePath, error: Exception) -> TrainError:
    """Return the error for a file of answers that cannot be read."""
    why = describe(error) if isinstance(error, OSError) else one_line(error).rstrip(".")
    return TrainError(
        f"{path} is missing or broken: {why}. Type the same earmark predict again; finished shards are kept."
    )


def _write_records(path: StoragePath, records: Sequence[RejectedTrack | TrackRemark], schema: pa.Schema) -> None:
    rows = sorted((record.model_dump() for record in records), key=lambda row: str(row["path"]))
    write_table(path, pa.Table.from_pylist(rows, schema=schema))
