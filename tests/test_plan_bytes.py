"""The plan of a collection must not change: shard names and `tracks.parquet` are those of an earlier version."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurize.collection.catalog import build_catalog
from featurize.collection.manifest import read_table
from featurize.config import FeaturizeConfig
from featurize.execution.table_reading import read_table_apart
from featurize.planning.groups import add_tags, count_unread, known_groups
from featurize.planning.plan import Plan, make_plan
from featurize.planning.previous_plan import PreviousPlan, read_plan
from featurize.storage import StoragePath

CLASSES = ("blues", "jazz", "chaabi شعبي", "hip hop", "metal")
# Of each collection: the SHA-256 of the shard names, one a line, and of the rows of `tracks.parquet`.
RECORDED = {
    "folds": ("285909893efeaf94", "d13963690c2c3554"),
    "folds, grown": ("c4fbb6f71b5556f7", "ee3c2c3249c5a1f1"),
    "groups": ("31d968582c45ba72", "09c6b5fb746596b6"),
    "groups, grown": ("9e18f6be657787f5", "f8c8124da945c36f"),
    "no groups": ("1bded71c3ce84026", "20dafd6be7237bc0"),
    "no groups, grown": ("2da5b05ebe469fd4", "2f6ac31261ac5a6a"),
    "some groups": ("9af077cd60718e19", "a12c615a3640f7e2"),
    "some groups, grown": ("91a89fff43310550", "82a631de1c29c556"),
    "split": ("16898db1df84a235", "e21a6ef70f10a58f"),
    "split, grown": ("f541f0779c4d4dd2", "2c8b6c7f5f6e726c"),
}
# SHA-256 of the bytes of `tracks.parquet`, which depend on the version of pyarrow.
RECORDED_BYTES = {
    "folds": "c216c27e81cb356e",
    "folds, grown": "1b7b2c1f48394832",
    "groups": "164cb85ae37b06b5",
    "groups, grown": "1a20be95f3bbe542",
    "no groups": "5c768f8b76ba26a6",
    "no groups, grown": "fc1d229b0aa1df68",
    "some groups": "3f8cca299bddf96e",
    "some groups, grown": "186c24a97beac273",
    "split": "9eb78611bc645941",
    "split, grown": "2dfca76245a9a519",
}
RECORDED_PYARROW = "26"
SETTINGS: dict[str, dict[str, object]] = {
    "groups": {},
    "no groups": {"group_by": "none"},
    "folds": {"tracks_per_shard": 10},
    "split": {"segments_per_track": 3},
    "some groups": {"group_by": "album"},
}


def collection(folder: Path, kind: str, first: int = 0, tracks: int = 1500) -> str:
    """Write a table of tracks, one of which exists, with the columns of a kind; return its path."""
    folder.mkdir(exist_ok=True)
    rows = [row(number, kind) for number in range(first, first + tracks)]
    table = folder / f"{kind}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    existing = folder / rows[-1]["path"]
    existing.parent.mkdir(parents=True, exist_ok=True)
    existing.write_bytes(b"12345")
    return str(table)


def row(number: int, kind: str) -> dict[str, str | int | None]:
    """Return a row with values that look random and depend on the number alone."""
    draw = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:6], "big")
    artist = f"artist {draw % 211}" if draw % 211 else "Änne Ünterwegs"
    path = f"{artist}/album {draw % 7}/{number:06} söng.mp3" if draw % 5 else f"./{artist}//x/{number:06}.mp3"
    found: dict[str, str | int | None] = {"path": path, "label": CLASSES[draw % 211 % 5 if draw % 13 else 2]}
    if kind in ("groups", "folds", "split"):
        found["group"] = artist
    if kind == "some groups":
        found["group"] = artist if draw % 3 else ("Various Artists" if draw % 2 else None)
    if kind == "folds":
        found["fold"] = draw % 211 % 6
    if kind == "split":
        found["split"] = ("train", "train", "val", "test")[draw % 4]
    return found


def plan_of(table: str, kind: str, previous: PreviousPlan | None = None) -> Plan:
    """Return the plan of a collection as the driver makes it, without reading tags."""
    read = read_table_apart if kind == "groups" else read_table  # a separate process takes a second
    catalog, config = build_catalog(table, read=read), FeaturizeConfig.model_validate(SETTINGS[kind])
    groups = known_groups(catalog, config, previous)
    groups = add_tags(catalog, groups, [None] * count_unread(groups))
    return make_plan(catalog, config, previous, groups)


def recorded(plan: Plan, folder: Path) -> tuple[tuple[str, str], str]:
    """Save a plan; return what RECORDED and RECORDED_BYTES say about it."""
    plan.save(StoragePath.of(folder))
    content = (folder / "tracks.parquet").read_bytes()
    rows = pq.read_table(folder / "tracks.parquet").to_pylist()
    names = "\n".join(plan.names)
    return (_digest(names), _digest("\n".join(str(list(row.values())) for row in rows))), _digest(content)


def _digest(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


@pytest.mark.parametrize("kind", SETTINGS)
def test_names_and_table_of_a_plan_are_those_of_earlier_versions(kind: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    check(plan_of(collection(tmp_path / "music", kind), kind), kind, first)
    previous = read_plan(StoragePath.of(first))
    check(
        plan_of(collection(tmp_path / "music", kind, first=100, tracks=1700), kind, previous),
        f"{kind}, grown",
        second,
    )


def check(plan: Plan, name: str, folder: Path) -> None:
    """Compare a plan with what an earlier version made."""
    found, content = recorded(plan, folder)
    assert found == RECORDED[name]
    if pa.__version__.split(".")[0] == RECORDED_PYARROW:
        assert content == RECORDED_BYTES[name]
