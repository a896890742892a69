"""Collections that change between runs: added, removed, repaired and duplicate tracks; status and verify."""

import json
import os
import shutil
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import contents, earmark_here
from support.default_features import FORMAT

from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group, read_track_ids
from featurize.dataset.schema import FOOTER_KEY
from featurize.dataset_build.driver import featurize
from featurize.dataset_build.verify import read_status, verify
from featurize.errors import DatasetError, FeaturizeError
from featurize.storage import StoragePath

CONFIG = FeaturizeConfig(tracks_per_shard=3, segments_per_track=4)


@pytest.fixture
def collection(music, tmp_path):
    root = tmp_path / "music"
    shutil.copytree(music, root)
    return root


def _rows(folder):
    """The fold and the features of each track."""
    dataset = open_dataset(folder)
    rows = {}
    for shard in dataset.shards:
        mfcc = [read_row_group(shard, i)[0] for i in range(len(shard.row_groups))]
        if mfcc:
            tracks = np.concatenate(mfcc).reshape(-1, 4, 40, 217)
            rows |= {t: (shard.fold, m) for t, m in zip(read_track_ids(shard, 4), tracks, strict=True)}
    return rows


def _written(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "shards").rglob("*.parquet")}


def _forget_sizes_of_rejects(folder):
    """Store rejects as earlier versions did."""
    for path in _written(folder):
        file = pq.ParquetFile(path)
        stored, rows = file.metadata.metadata[FOOTER_KEY], file.read()
        footer = json.loads(stored)
        if footer["rejects"]:
            footer["rejects"] = [{key: r[key] for key in r if key != "size"} for r in footer["rejects"]]
            assert len(footer["rejects"][0]) == 4
            pq.write_table(rows.replace_schema_metadata({FOOTER_KEY: json.dumps(footer)}), path)


def test_new_tracks_go_to_new_shards_and_other_shards_are_unchanged(collection, ray_here, tmp_path):
    later = sorted(collection.glob("*/4-0*")) + sorted(collection.glob("reeds/deeper/*1.*"))
    aside = tmp_path / "aside"
    for path in later:
        (aside / path.relative_to(collection)).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, aside / path.relative_to(collection))
    folder = tmp_path / "features"
    featurize(str(collection), folder, CONFIG)
    before, rows = _written(folder), _rows(folder)
    shutil.copytree(aside, collection, dirs_exist_ok=True)
    os.makedirs(collection / "a new style")
    for n, path in enumerate(later[:3]):
        shutil.copy(path, collection / "a new style" / f"{n}{path.suffix}")
    seen = []
    summary = featurize(str(collection), folder, CONFIG, on_progress=seen.append)
    assert summary.tracks == 33
    assert seen[0].done == 30 - len(later)
    after, now = _written(folder), _rows(folder)
    assert {path: after[path] for path in before} == before
    for track, (fold, mfcc) in rows.items():
        assert now[track][0] == fold
        np.testing.assert_array_equal(now[track][1], mfcc)
    dataset = open_dataset(folder)
    assert dataset.classes == ["bells", "pulses", "reeds", "a new style"]  # old classes keep their indices
    tracks = dataset.tracks().to_pylist()
    assert len({(t["group"], t["fold"]) for t in tracks}) == len({t["group"] for t in tracks})
    featurize(str(collection), folder, CONFIG, on_progress=pytest.fail)


def test_a_shard_that_loses_a_track_copies_its_other_rows(collection, features, ray_here, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    rows = _rows(folder)
    shard = next(shard for shard in open_dataset(folder).shards if shard.rows == 12)
    gone, *kept = read_track_ids(shard, 4)
    (collection / gone).unlink()
    for track in kept:  # computed again, it would be a reject
        (collection / track).write_bytes(bytes((collection / track).stat().st_size))
    before = _written(folder)
    summary = featurize(str(collection), folder, CONFIG)
    assert (summary.tracks, summary.rejected) == (29, 0)
    now = _rows(folder)
    assert now.keys() == rows.keys() - {gone}
    for track, (fold, mfcc) in now.items():
        assert rows[track][0] == fold
        np.testing.assert_array_equal(rows[track][1], mfcc)
    after = _written(folder)
    assert before.keys() - after.keys() == {folder / "shards" / shard.name}
    assert {path: after[path] for path in before.keys() & after.keys()} == {
        path: before[path] for path in before.keys() & after.keys()
    }
    assert all(not problems for _, problems in verify(open_dataset(folder)))


def test_retry_rejects_tries_rejected_tracks_again(collection, features, ray_here, tmp_path):
    broken = collection / "bells" / "0-0.mp3"
    whole = broken.read_bytes()
    broken.write_bytes(bytes(len(whole)))
    folder = tmp_path / "features"
    first = featurize(str(collection), folder, CONFIG.model_copy(update={"group_by": "none"}))
    assert first.rejects == {("decode", "not decodable"): 1}
    broken.write_bytes(whole)
    config = CONFIG.model_copy(update={"group_by": "none"})
    assert featurize(str(collection), folder, config, on_progress=pytest.fail).rejected == 1
    before = open_dataset(folder).id
    seen = []
    again = featurize(str(collection), folder, config, retry_rejects=True, on_progress=seen.append)
    assert again.rejected == 0
    assert seen[-1].done_now <= 3  # one shard
    assert open_dataset(folder).id != before  # models of one dataset do not fit the other
    featurize(str(collection), tmp_path / "fresh", config)
    assert contents(folder) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("before", ["cut off", "missing", "cut off, by an earlier version"])
def test_a_rejected_file_of_another_size_is_tried_again(before, collection, ray_here, tmp_path):
    paths = sorted(str(path.relative_to(collection)) for path in collection.rglob("*.*"))
    table = tmp_path / "tracks.parquet"
    labels = [path.split("/")[0] for path in paths]
    pq.write_table(pa.table({"path": [f"music/{path}" for path in paths], "label": labels}), table)
    broken = collection / "bells" / "0-0.mp3"
    whole = broken.read_bytes()
    if before == "missing":
        broken.unlink()
    else:
        broken.write_bytes(whole[:500])
    config = CONFIG.model_copy(update={"group_by": "none"})
    folder = tmp_path / "features"
    assert featurize(str(table), folder, config).rejected == 1
    if "earlier" in before:
        _forget_sizes_of_rejects(folder)
    broken.write_bytes(whole)
    assert featurize(str(table), folder, config).rejected == 0
    featurize(str(table), tmp_path / "fresh", config)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_rejects_of_a_shard_that_loses_a_track_are_tried_again(collection, ray_here, tmp_path):
    broken = collection / "bells" / "0-0.mp3"
    whole = broken.read_bytes()
    broken.write_bytes(bytes(len(whole)))
    config = CONFIG.model_copy(update={"group_by": "none"})
    folder = tmp_path / "features"
    featurize(str(collection), folder, config)
    shard_of = {track["track"]: track["shard"] for track in open_dataset(folder).tracks().to_pylist()}
    other = next(
        track for track in shard_of if shard_of[track] == shard_of["bells/0-0.mp3"] and "0-0" not in track
    )
    (collection / other).unlink()
    broken.write_bytes(whole)
    again = featurize(str(collection), folder, config, retry_rejects=True)
    assert (again.tracks, again.rejected) == (29, 0)


def test_changed_groups_are_stored_also_if_no_track_changes_its_fold(collection, ray_here, tmp_path):
    paths = sorted(str(path.relative_to(collection)) for path in collection.rglob("*.*"))
    table = collection / "tracks.parquet"

    def featurize_in_groups(groups):
        columns = {"path": paths, "label": [path.split("/")[0] for path in paths], "group": groups}
        pq.write_table(pa.table(columns), table)
        featurize(str(table), tmp_path / "features", CONFIG)
        dataset = open_dataset(tmp_path / "features")
        counts = sum(count.groups for count in dataset.info.counts if count.fold == 0)
        return {track["track"]: track for track in dataset.tracks().to_pylist()}, counts

    before, _ = featurize_in_groups([f"artist {i}" for i in range(len(paths))])
    zero = [path for path in paths if before[path]["fold"] == 0]
    after, counts = featurize_in_groups(["one" if path in zero else before[path]["group"] for path in paths])
    assert {path: track["fold"] for path, track in after.items()} == {p: t["fold"] for p, t in before.items()}
    assert {after[path]["group"] for path in zero} == {"one"}
    assert counts == len({after[path]["label"] for path in zero})


def test_stale_shards_are_removed_side_by_side(features, music, ray_here, monkeypatch, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    remove, two = StoragePath.remove, threading.Barrier(2, timeout=20)

    def remove_shard(path):
        if "/shards/fold=" in path.path:
            two.wait()
        remove(path)

    monkeypatch.setattr(StoragePath, "remove", remove_shard)
    before = _written(folder)
    assert len(before) == 10
    featurize(str(music), folder, CONFIG.model_copy(update={"n_mfcc": 13}))
    assert not before.keys() & _written(folder).keys()


def test_duplicates_are_listed_and_not_evaluated_across_folds(collection, ray_here, tmp_path):
    from train.config import TrainConfig
    from train.evaluation.held_out import held_out

    paths = sorted(str(path.relative_to(collection)) for path in collection.rglob("*.*"))
    rows = [(path, path.split("/")[0], i % 5) for i, path in enumerate(paths)]
    for original, fold in ((paths[0], 1), (paths[1], 1), (paths[2], 4)):  # the second original is in fold 1 itself
        copy = "copies/" + original.replace("/", "-")
        (collection / "copies").mkdir(exist_ok=True)
        shutil.copy(collection / original, collection / copy)
        rows.append((copy, original.split("/")[0], fold))
    table = collection / "tracks.parquet"
    columns = dict(zip(("path", "label", "fold"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), table)
    folder = tmp_path / "features"
    config = CONFIG.model_copy(update={"group_by": "none"})
    assert featurize(str(table), folder, config).duplicates == 6
    dataset = open_dataset(folder)
    found = dataset.duplicates().to_pylist()
    assert {row["track"] for row in found} == {*paths[:3], *(p for p, _, _ in rows[-3:])}
    assert len({row["digest"] for row in found}) == 3
    assert dataset.copies_across(0) == {paths[0]}
    assert dataset.copies_across(1) == {rows[-3][0]}
    fold = held_out(dataset, TrainConfig(), 1)
    assert (fold.track_mask.sum(), len(fold.track_mask)) == (7, 8)


def test_a_shard_with_other_settings_is_reported_with_the_differences(features, music, ray_here, tmp_path):
    folder, other = tmp_path / "features", tmp_path / "other"
    shutil.copytree(features, folder)
    featurize(str(music), other, CONFIG.model_copy(update={"segments_per_track": 2}))
    name = open_dataset(folder).shards[0].name
    shutil.copy(open_dataset(other).shards[0].path.local, folder / "shards" / name)
    with pytest.raises(
        DatasetError, match=rf"{name} was made with other settings: segments_per_track 2, expected 4"
    ):
        open_dataset(folder)


def test_verify_finds_changed_values(features, ray_here, monkeypatch, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    assert earmark_here("verify", folder).stdout == "verified  10 shards, 120 segments: no differences\n"
    shard = open_dataset(folder).shards[0]
    file = pq.ParquetFile(shard.path.path)
    table = file.read()
    mfcc = FORMAT.array(table["mfcc"]).copy()
    mfcc[0, 0, 0] += 1
    table = table.set_column(4, FORMAT.schema.field("mfcc"), FORMAT.column_of(mfcc))
    metadata = {FOOTER_KEY: file.metadata.metadata[FOOTER_KEY]}
    pq.write_table(table.replace_schema_metadata(metadata), shard.path.path)
    (folder / "shards.parquet").unlink()  # it has the size of the shard before
    done = earmark_here("verify", folder)
    assert done.returncode == 1
    assert f"{shard.name}: {read_track_ids(shard, 4)[0]} has values that differ from those written" in done.stderr
    assert done.stderr.count("  - ") == 1
    dataset = open_dataset(folder)
    problems = {shard.name: found for shard, found in verify(dataset)}
    assert sum(map(len, problems.values())) == 1
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # Ray runs already, and is taken for that of a cluster
    monkeypatch.setattr("featurize.dataset_build.verify.in_threads", pytest.fail)
    assert {shard.name: found for shard, found in verify(dataset)} == problems


def test_status_counts_finished_and_missing_shards(features, music, ray_here, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    done = earmark_here("status", folder)
    assert done.stdout.splitlines() == [
        "state     complete",
        "shards    10 of 10 done, 0 left",
        "tracks    30 of 30 done, 0 left",
        "rejects   0",
    ]
    (folder / "dataset.json").unlink()
    open_shards = sorted((folder / "shards").rglob("*.parquet"))
    open_shards[0].unlink()
    open_shards[1].write_bytes(b"")
    status = read_status(StoragePath.of(folder))
    assert (status.complete, status.shards_done, status.shards, status.tracks) == (False, 9, 10, 30)
    assert status.tracks_done == 27
    assert status.broken == [str(open_shards[1].relative_to(folder / "shards"))]
    assert earmark_here("status", tmp_path).stdout.startswith(
        "state     unfinished"
    )  # a run folder with a dataset
    nothing = earmark_here("status", tmp_path / "nothing")
    assert nothing.returncode == 1
    assert "holds neither a dataset nor" in nothing.stderr


def test_a_broken_shard_is_reported_and_written_again_after_deletion(music, features, ray_here, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    (folder / "dataset.json").unlink()
    first, second, *_ = sorted((folder / "shards").rglob("*.parquet"))
    first.write_bytes(first.read_bytes()[:1000])
    second.write_bytes(b"")
    with pytest.raises(FeaturizeError) as caught:
        featurize(str(music), folder, CONFIG)
    message = f"2 shards are broken:\n  - {first}\n  - {second}\nDelete them, then run the same command again."
    assert str(caught.value) == message
    first.unlink()
    second.unlink()
    featurize(str(music), folder, CONFIG)
    assert contents(folder) == contents(features)
