"""Accidents to a finished dataset: a lost plan is rebuilt, and damaged rows are found instead of copied."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import contents, earmark_here
from support.default_features import FORMAT
from support.logs import logged

from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.footer import read_footer
from featurize.dataset.reader import list_shards, read_row_group, read_track_ids
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.dataset.schema import FOOTER_KEY
from featurize.dataset_build.driver import featurize
from featurize.dataset_build.verify import verify
from featurize.errors import DatasetError
from featurize.storage import StoragePath

CONFIG = FeaturizeConfig(tracks_per_shard=3, segments_per_track=4)


def _flip_mfcc(path, row=0):
    """Change one value of a shard as a bit that flips in memory does: the page has the checksum of the change.

    The file has another size then, so the dataset becomes one of an earlier version, without sizes.
    """
    (path.parent.parent.parent / "shards.parquet").unlink()
    file = pq.ParquetFile(path)
    table, metadata = file.read(), {FOOTER_KEY: file.metadata.metadata[FOOTER_KEY]}
    mfcc = FORMAT.array(table["mfcc"]).copy()
    mfcc[row, 3, 5] += 1
    table = table.set_column(4, FORMAT.schema.field("mfcc"), FORMAT.column_of(mfcc))
    pq.write_table(table.replace_schema_metadata(metadata), path)


def _flip_page(path, column=4, distance=100):
    """Flip a bit in the compressed data of a column of the first row group."""
    chunk = pq.read_metadata(path).row_group(0).column(column)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + min(distance, chunk.total_compressed_size - 2)] ^= 4
    path.write_bytes(content)


@pytest.fixture(scope="module")
def grown(music, ray_here, tmp_path_factory):
    """A collection that has grown twice, and its dataset: folds and shards that no single run would choose."""
    root = tmp_path_factory.mktemp("grown")
    paths = sorted(path.relative_to(music) for path in music.rglob("*.*"))
    # The first classes in alphabetical order come last, so that their indices are not those of a new dataset.
    for chosen in (paths[12:], paths[6:12], paths[:6]):
        for path in chosen:
            (root / "music" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(music / path, root / "music" / path)
        featurize(str(root / "music"), root / "features", CONFIG)
    return root


@pytest.mark.parametrize("accident", ["missing", "empty", "junk", "no rows", "other columns"])
@pytest.mark.parametrize("complete", [True, False])
def test_a_lost_plan_is_rebuilt_from_the_shards(accident, complete, grown, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(grown / "features", folder)
    plan = folder / "tracks.parquet"
    table = pq.ParquetFile(plan).read()
    before = {path: path.stat().st_mtime_ns for path in (folder / "shards").rglob("*.parquet")}
    if not complete:
        (folder / "dataset.json").unlink()  # as in a run that was killed before its last step
    match accident:
        case "missing":
            plan.unlink()
        case "empty":
            plan.write_bytes(b"")
        case "junk":
            plan.write_bytes(b"PAR1 junk PAR1")
        case "no rows":
            pq.write_table(table.slice(0, 0), plan)
        case "other columns":
            pq.write_table(table.drop_columns("shard"), plan)
    with logged("featurize") as messages:
        featurize(str(grown / "music"), folder, CONFIG)
    assert contents(folder) == contents(grown / "features")
    assert {path: path.stat().st_mtime_ns for path in (folder / "shards").rglob("*.parquet")} == before
    assert any("tracks.parquet is missing or broken: the plan of 30 tracks was read" in line for line in messages)


def test_a_dataset_of_one_run_is_the_same_after_losing_its_plan_and_shards(music, features, ray_here, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    (folder / "tracks.parquet").write_bytes(b"")
    for name in sorted(list_shards(folder))[::3]:
        (folder / "shards" / name).unlink()
    kept = {path: path.stat().st_mtime_ns for path in (folder / "shards").rglob("*.parquet")}
    featurize(str(music), folder, CONFIG)
    assert contents(folder) == contents(features)
    assert kept.items() <= {p: p.stat().st_mtime_ns for p in (folder / "shards").rglob("*.parquet")}.items()


def test_a_rebuilt_plan_keeps_folds_with_other_settings_and_a_broken_shard(grown, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(grown / "features", folder)
    (folder / "tracks.parquet").unlink()
    (folder / "dataset.json").unlink()
    folds = {row["track"]: row["fold"] for row in open_dataset(grown / "features").tracks().to_pylist()}
    featurize(str(grown / "music"), folder, CONFIG.model_copy(update={"segments_per_track": 2}))
    assert {row["track"]: row["fold"] for row in open_dataset(folder).tracks().to_pylist()} == folds


def test_tables_that_are_lost_beside_a_complete_dataset_are_written_again(music, features, ray_here, tmp_path):
    for name in ("rejects.parquet", "duplicates.parquet", "shards.parquet", "dataset.json"):
        folder = tmp_path / name
        shutil.copytree(features, folder)
        (folder / name).write_bytes(b"")
        featurize(str(music), folder, CONFIG)
        assert contents(folder) == contents(features)


def test_status_says_what_an_empty_plan_and_an_empty_run_json_are(features, tmp_path):
    shutil.copytree(features, tmp_path / "features")
    (tmp_path / "features" / "tracks.parquet").write_bytes(b"")
    done = earmark_here("status", tmp_path / "features")
    assert done.returncode == 1
    assert "tracks.parquet, the plan of 10 shards that are there, is missing or broken" in done.stderr
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(b"")
    done = earmark_here("status", tmp_path / "run")
    assert done.returncode == 1
    assert "run.json is empty: an interrupted copy or a full disk leaves such a file" in done.stderr


def test_a_damaged_row_is_computed_again_instead_of_copied(grown, tmp_path):
    shutil.copytree(grown, tmp_path / "grown")
    root = tmp_path / "grown"
    folder = root / "features"
    shard = next(shard for shard in open_dataset(folder).shards if shard.rows == 12)
    first, damaged, last = read_track_ids(shard, 4)
    whole = _digests(folder, shard.name)
    _flip_mfcc(shard.path.local, row=5)
    assert [problems for _, problems in verify(open_dataset(folder)) if problems]
    (root / "music" / first).unlink()
    # Computed again, it would be a reject: this track is copied, because its rows are those that were written.
    (root / "music" / last).write_bytes(bytes((root / "music" / last).stat().st_size))
    with logged("featurize") as messages:
        featurize(str(root / "music"), folder, CONFIG)
    [message] = [message for message in messages if "damaged" in message]
    assert f"1 tracks in {folder} were damaged and are computed again: '{damaged}'. " in message
    dataset = open_dataset(folder)
    assert not [problems for _, problems in verify(dataset) if problems]
    assert dataset.info.rejects == []
    now = {}
    for each in dataset.shards:
        now |= _digests(folder, each.name)
    assert {track: now[track] for track in (damaged, last)} == {track: whole[track] for track in (damaged, last)}


def _digests(folder, name):
    tracks = read_footer(StoragePath.of(folder), name).tracks
    return dict(zip(tracks.track, tracks.digest, strict=True))


@pytest.mark.parametrize("column", range(5))
def test_a_flipped_bit_in_any_column_is_noticed_when_it_is_read(column, features, tmp_path):
    shutil.copytree(features, tmp_path / "features")
    dataset = open_dataset(tmp_path / "features")
    shard = dataset.shards[0]
    _flip_page(shard.path.local, column)
    [(damaged, problems)] = [entry for entry in verify(open_dataset(tmp_path / "features")) if entry[1]]
    assert damaged.name == shard.name
    assert "cannot be read" in problems[0]
    if FORMAT.schema.names[column] in ("label", "mfcc"):
        with pytest.raises(
            DatasetError, match=rf"the shard {shard.path} cannot be read: .*Type: earmark featurize"
        ):
            read_row_group(shard, 0)
        groups = [(each, 0) for each in dataset.shards]
        with pytest.raises(DatasetError, match=rf"the shard {shard.path} cannot be read"):
            list(RowGroupReader().read(groups))


def test_a_shard_without_page_checksums_is_read_and_kept(music, features, ray_here, tmp_path):
    """Shards of earlier versions have none."""
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    for path in (folder / "shards").rglob("*.parquet"):
        file = pq.ParquetFile(path)
        groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
        metadata = {FOOTER_KEY: file.metadata.metadata[FOOTER_KEY]}
        with pq.ParquetWriter(path, FORMAT.schema, compression="zstd", data_page_size=1 << 26) as writer:
            for group in groups:
                writer.write_table(pa.Table.from_batches(group.to_batches(), FORMAT.schema))
            writer.add_key_value_metadata(metadata)
    (folder / "shards.parquet").unlink()  # as in those versions
    before = contents(folder)
    featurize(str(music), folder, CONFIG)
    added = contents(folder)
    assert added.pop("shards.parquet")
    assert added == before
    assert not [problems for _, problems in verify(open_dataset(folder)) if problems]
    for shard, old in zip(open_dataset(features).shards, open_dataset(folder).shards, strict=True):
        np.testing.assert_array_equal(read_row_group(shard, 0)[0], read_row_group(old, 0)[0])


def test_every_shard_with_another_schema_is_refused_by_name(features, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    names = sorted(list_shards(folder))
    for number, name in enumerate(names[:3]):
        path = folder / "shards" / name
        file = pq.ParquetFile(path)
        table = file.read()
        column = ("label", "start", "mfcc")[number]
        metadata = {FOOTER_KEY: file.metadata.metadata[FOOTER_KEY]}
        pq.write_table(table.drop_columns(column).replace_schema_metadata(metadata), path)
    done = earmark_here("train", folder, "--out", tmp_path / "run")
    assert done.returncode == 1
    for name, column in zip(names, ("label", "start", "mfcc"), strict=False):
        assert f"{name} is broken: lacks the column {column}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_footer_with_lying_numbers_is_refused(features, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    path = min((folder / "shards").rglob("*.parquet"))
    file = pq.ParquetFile(path)
    footer, table = json.loads(file.metadata.metadata[FOOTER_KEY]), file.read()
    for change, problem in (
        (lambda tracks: tracks["track"].pop(), "its lists of tracks, sizes and digests differ in length"),
        (lambda tracks: [tracks[key].append(tracks[key][0]) for key in tracks], "it has a track twice"),
        (lambda tracks: [tracks[key].pop() for key in tracks], "it has 12 rows, expected 2 tracks of 4 segments"),
    ):
        lying = json.loads(json.dumps(footer))
        change(lying["tracks"])
        pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(lying)}), path)
        with pytest.raises(DatasetError, match=problem):
            open_dataset(folder)
