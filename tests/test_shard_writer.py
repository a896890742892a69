import dataclasses
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurize.config import FeaturizeConfig
from featurize.dataset.footer import parse_footer, read_footer, read_rejects
from featurize.dataset.reader import list_shards
from featurize.dataset.schema import FOOTER_KEY, shard_name
from featurize.dataset.tables import encode_table, read_table, write_table
from featurize.dataset_build.shard_writer import ShardWriter, digest
from featurize.errors import Reject
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath

SETTINGS = feature_settings(FeaturizeConfig(segments_per_track=3))
TRACKS = [Track(f"bells/{i}.wav", f"bells/{i}.wav", i % 4, 1000 + i) for i in range(21)]
NAME = shard_name(2, 7, "0123456789abcdef")
REJECTS = {4: Reject("open", "missing", "no such file"), 9: Reject("check", "silent", 'a peak of 0, "réeds"')}


def rows_of(index):
    rng = np.random.default_rng(index)
    mfcc = (100 * rng.standard_normal((3, 40, 217)) - 50).astype(np.float32)
    return mfcc, np.sort(rng.uniform(0, 60, 3))


def plan_of(folder):
    return ShardPlan(NAME, StoragePath.of(folder), TRACKS, SETTINGS)


def write(folder, rejects=REJECTS):
    """Write a shard of 21 tracks, some of them rejects; return its path and the indices of tracks with rows."""
    writer = ShardWriter(plan_of(folder))
    for index, track in enumerate(TRACKS):
        if index in rejects:
            writer.reject(track, rejects[index])
        else:
            writer.add(track, *rows_of(index))
    assert writer.rejects == len(rejects)
    writer.finish(StoragePath.of(folder))
    return folder / "shards" / NAME, [index for index in range(len(TRACKS)) if index not in rejects]


def test_rows_are_in_track_order(tmp_path):
    path, kept = write(tmp_path)
    table = pq.ParquetFile(path).read()
    assert table.schema.equals(SETTINGS.format.schema)
    assert table["track"].to_pylist() == [TRACKS[i].id for i in kept for _ in range(3)]
    assert table["label"].to_pylist() == [TRACKS[i].label for i in kept for _ in range(3)]
    assert table["segment"].to_pylist() == [0, 1, 2] * len(kept)
    assert table["start"].to_pylist() == [start for i in kept for start in rows_of(i)[1].tolist()]
    np.testing.assert_array_equal(
        SETTINGS.format.array(table["mfcc"]), np.concatenate([rows_of(i)[0] for i in kept])
    )


def test_a_row_group_has_the_rows_of_eight_tracks(tmp_path):
    path, kept = write(tmp_path)
    metadata = pq.read_metadata(path)
    assert len(kept) == 19
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [24, 24, 9]


def test_the_last_row_group_is_not_empty(tmp_path):
    path, kept = write(tmp_path, dict.fromkeys(range(5), REJECTS[4]))
    metadata = pq.read_metadata(path)
    assert len(kept) == 16
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [24, 24]


def test_the_footer_contains_settings_tracks_and_rejects(tmp_path):
    _, kept = write(tmp_path)
    footer = read_footer(StoragePath.of(tmp_path), NAME)
    assert footer.settings == SETTINGS.model_dump()
    assert footer.tracks.track == [TRACKS[i].id for i in kept]
    assert footer.tracks.size == [TRACKS[i].size for i in kept]
    assert [(r.path, r.stage, r.reason, r.message) for r in footer.rejects] == [
        ("bells/4.wav", "open", "missing", "no such file"),
        ("bells/9.wav", "check", "silent", 'a peak of 0, "réeds"'),
    ]
    assert read_rejects(StoragePath.of(tmp_path), NAME) == footer.rejects


def test_the_footer_contains_a_digest_of_each_track(tmp_path):
    _, kept = write(tmp_path)
    digests = read_footer(StoragePath.of(tmp_path), NAME).tracks.digest
    assert digests == [hashlib.sha256(rows_of(i)[0].astype("<f4").tobytes()).hexdigest()[:32] for i in kept]
    assert len({*digests}) == len(kept)
    assert digest(rows_of(0)[0]) == digests[0]
    changed = rows_of(0)[0]
    changed[2, 39, 216] = np.nextafter(changed[2, 39, 216], np.float32(np.inf))
    assert digest(changed) != digests[0]


def test_the_sums_equal_numpy(tmp_path):
    _, kept = write(tmp_path)
    sums = read_footer(StoragePath.of(tmp_path), NAME).statistics
    mfcc = np.concatenate([rows_of(i)[0] for i in kept]).astype(np.float64)
    assert sums.frames == len(kept) * 3 * 217
    np.testing.assert_allclose(sums.sum, mfcc.sum(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(sums.sum_of_squares, np.square(mfcc).sum(axis=(0, 2)), rtol=1e-12)


def test_equal_tracks_give_equal_bytes(tmp_path):
    one, _ = write(tmp_path / "one")
    two, _ = write(tmp_path / "two")
    other, _ = write(tmp_path / "other", {})
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != other.read_bytes()


def test_the_footer_is_sorted_json_under_one_key(tmp_path):
    path, _ = write(tmp_path)
    stored = pq.read_metadata(path).metadata[FOOTER_KEY].decode()
    content = json.loads(stored)
    assert [*content] == ["rejects", "settings", "statistics", "tracks"]
    assert stored == json.dumps(content, sort_keys=True)
    assert parse_footer(pq.read_metadata(path)).to_metadata() == {FOOTER_KEY: stored}


def test_no_file_exists_before_the_shard_is_complete(tmp_path):
    writer = ShardWriter(plan_of(tmp_path))
    for index, track in enumerate(TRACKS):
        writer.add(track, *rows_of(index))
        assert not [*tmp_path.iterdir()]
    writer.finish(StoragePath.of(tmp_path))
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        f"shards/{NAME}"
    ]
    assert list_shards(tmp_path) == {NAME}


def test_a_shard_of_rejects_has_no_rows(tmp_path):
    path, _ = write(tmp_path, dict.fromkeys(range(21), REJECTS[4]))
    assert pq.read_metadata(path).num_rows == 0
    footer = read_footer(StoragePath.of(tmp_path), NAME)
    assert (footer.tracks.track, footer.statistics.frames, footer.statistics.sum) == ([], 0, [0.0] * 40)
    assert [reject.path for reject in footer.rejects] == [track.id for track in TRACKS]


def test_the_footer_of_an_unreadable_shard_is_none(tmp_path):
    folder = StoragePath.of(tmp_path)
    assert read_footer(folder, NAME) is None
    path, _ = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    assert read_footer(folder, NAME) is None
    assert read_rejects(folder, NAME) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda footer: footer.pop("rejects"), "its footer: rejects is missing"),
        (lambda footer: footer["tracks"].pop("digest"), r"its footer: tracks\.digest is missing"),
        (
            lambda footer: footer["statistics"].update(frames="9"),
            r"its footer: statistics\.frames is '9', expected",
        ),
    ],
)
def test_an_invalid_footer_is_an_error_that_names_the_key(change, problem, tmp_path):
    path, _ = write(tmp_path)
    file = pq.ParquetFile(path)
    footer = json.loads(file.metadata.metadata[FOOTER_KEY])
    change(footer)
    metadata = {FOOTER_KEY: json.dumps(footer)}
    pq.write_table(file.read().replace_schema_metadata(metadata), path)
    with pytest.raises(ValueError, match=problem):
        parse_footer(pq.read_metadata(path))
    assert read_footer(StoragePath.of(tmp_path), NAME) is None


def test_a_footer_with_settings_of_another_version_can_be_read(tmp_path):
    path, _ = write(tmp_path)
    footer = parse_footer(pq.read_metadata(path))
    changed = footer.model_copy(update={"settings": {**footer.settings, "window": "hann"}})
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(changed.to_metadata()), path)
    assert parse_footer(pq.read_metadata(path)) == changed


def test_a_table_is_written_atomically_with_zstd(tmp_path):
    table = pa.table({"track": ["a.mp3", "b.mp3"], "fold": pa.array([0, 4], pa.int32())}).replace_schema_metadata(
        {b"earmark": b"{}"}
    )
    path = StoragePath.of(tmp_path / "deep" / "tracks.parquet")
    write_table(path, table)
    assert [file.name for file in path.local.parent.iterdir()] == ["tracks.parquet"]
    assert path.read() == encode_table(table).to_pybytes()
    assert pq.read_metadata(path.path).row_group(0).column(0).compression == "ZSTD"
    found = read_table(path)
    assert found.equals(table)
    assert found.schema.metadata[b"earmark"] == b"{}"
    assert read_table(path, ["fold"]).column_names == ["fold"]


def test_reading_a_shard_adds_no_column_for_its_folder(tmp_path):
    path, _ = write(tmp_path)
    assert read_table(StoragePath.of(path)).column_names == SETTINGS.format.schema.names


def test_the_order_of_tracks_changes_the_bytes(tmp_path):
    plan = dataclasses.replace(plan_of(tmp_path), tracks=TRACKS[:2])
    content = []
    for order in ((0, 1), (1, 0)):
        writer = ShardWriter(plan)
        for index in order:
            writer.add(TRACKS[index], *rows_of(index))
        writer.finish(plan.root)
        content.append((tmp_path / "shards" / NAME).read_bytes())
    assert content[0] != content[1]
