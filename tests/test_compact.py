"""Small shards are merged, when tracks are added and by `earmark compact`, without changing a track."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import contents, earmark_here
from support.default_features import SHAPE

from featurize.collection.catalog import build_catalog
from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.footer import read_footer
from featurize.dataset.reader import list_shards
from featurize.dataset_build.compact import compact
from featurize.dataset_build.driver import featurize
from featurize.dataset_build.finalize import finish
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.dataset_build.verify import verify
from featurize.errors import DatasetError, Reject
from featurize.execution.folder_lock import holder_of
from featurize.planning import plan as planning
from featurize.planning.groups import known_groups
from featurize.planning.plan import make_plan
from featurize.planning.previous_plan import read_plan
from featurize.planning.shard_plan import ShardPlan
from featurize.storage import StoragePath

CONFIG = FeaturizeConfig(segments_per_track=2, tracks_per_shard=16)
FIRST, ADDED = 20, 10  # tracks, and those of each addition
TIMES = 25
SETTING = ["--set", "featurize.tracks_per_shard=16"]


def _write_table(path: Path, tracks: int) -> None:
    rows = {
        "path": [f"{n % 3}/{n:05}.wav" for n in range(tracks)],
        "label": [f"style {n % 3}" for n in range(tracks)],
        "group": [f"artist {n // 2}" for n in range(tracks)],
    }
    pq.write_table(pa.table(rows), path)
    for name in rows["path"]:
        file = path.parent / name
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"RIFF" + bytes(int(name[2:7]) % 7))


def _make_shard(plan: ShardPlan, folder: StoragePath) -> None:
    """Write a shard without decoding: features that follow from the id, a remark, and some rejects."""
    writer = ShardWriter(plan)
    for track in plan.tracks:
        number = int(track.id[2:7])
        if number % 11 == 5:
            writer.reject(track, Reject("decode", "damaged", f"number {number}"))
            continue
        mfcc = np.zeros((2, *SHAPE), np.float32)
        mfcc[:, number % 40] = number
        writer.add(track, mfcc, np.array([0.0, number]))
        if number % 13 == 1:
            writer.remark(track, "its header is wrong")
    writer.finish(folder)


def _add(table: Path, folder: StoragePath, tracks: int) -> None:
    """Do what `featurize` does, without Ray: plan so many tracks, write what is missing, and finish."""
    _write_table(table, tracks)
    catalog, previous = build_catalog(str(table)), read_plan(folder)
    plan = make_plan(catalog, CONFIG, previous, known_groups(catalog, CONFIG, previous))
    (folder / "dataset.json").remove()
    plan.save(folder)
    finished = list_shards(folder)
    for position, name in enumerate(plan.names):
        if name not in finished:
            _make_shard(plan.shard(position, (), retry_rejects=False), folder)
    finish(folder, plan, {})


def _tracks(folder) -> dict[str, tuple]:
    """What a dataset has of each track: label, group, fold, size, digest and rows; or its reject."""
    dataset = open_dataset(folder)
    found: dict[str, tuple] = {}
    for shard in dataset.shards:
        footer = read_footer(dataset.folder, shard.name)
        rows = pq.read_table(shard.path.path, partitioning=None).drop_columns("track").to_pylist()
        remarks = {remark.path: remark.message for remark in footer.remarks}
        for i, (track, digest) in enumerate(zip(footer.tracks.track, footer.tracks.digest, strict=True)):
            found[track] = (digest, remarks.get(track), rows[2 * i : 2 * i + 2])
        found |= {reject.path: (reject,) for reject in footer.rejects}
    for row in dataset.tracks().to_pylist():
        found[row["track"]] += (row["label"], row["group"], row["fold"], row["size"])
    return found


def _grow(root: Path, times: int) -> tuple[Path, Path]:
    """Return a table after some small additions, and its dataset, which is never compacted."""
    table, folder = root / "tracks.parquet", root / "features"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "merge_small_shards", lambda folds, indices, *_, **__: indices)
        for n in range(times + 1):
            _add(table, StoragePath.of(folder), FIRST + n * ADDED)
    return table, folder


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """Return the table of small additions, and the dataset that is never compacted."""
    return _grow(tmp_path_factory.mktemp("added"), TIMES)


@pytest.fixture(scope="module")
def compacted(added, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compacted") / "features"
    shutil.copytree(added[1], folder)
    seen = []
    done = compact(folder, 16, lambda *progress: seen.append(progress))
    assert seen[0][0] == 0
    assert seen[-1] == (len(seen) - 1, len(seen) - 1)
    assert done.before == len(list_shards(added[1]))
    assert done.after == len(list_shards(folder))
    return folder


def test_small_additions_are_merged_without_changing_a_track(added, compacted):
    before, after = open_dataset(added[1]), open_dataset(compacted)
    print(f"{len(before.shards)} shards, {len(after.shards)} after compaction, {after.info.tracks} tracks")
    assert len(before.shards) > 75
    assert len(after.shards) < 30
    assert _tracks(compacted) == _tracks(added[1])
    assert not [problem for _, problems in verify(after) for problem in problems]
    assert after.info.counts == before.info.counts
    assert after.info.rejects == before.info.rejects
    for old, new in zip(before.info.statistics, after.info.statistics, strict=True):
        assert old.frames == new.frames
        np.testing.assert_allclose(old.mean, new.mean, rtol=1e-12)
    for name in ("rejects.parquet", "remarks.parquet", "duplicates.parquet"):
        assert (compacted / name).read_bytes() == (added[1] / name).read_bytes()


def test_a_compacted_dataset_is_what_a_plan_gives_and_is_not_touched_again(added, compacted, ray_here, tmp_path):
    times = {path: path.stat().st_mtime_ns for path in compacted.rglob("*.parquet")}
    compact(compacted, 16, pytest.fail)
    featurize(str(added[0]), compacted, CONFIG, on_progress=pytest.fail)
    assert {path: path.stat().st_mtime_ns for path in compacted.rglob("*.parquet")} == times


def test_additions_are_merged_as_they_come(added, compacted, tmp_path):
    # Without the rows of finished shards, `_add` makes them again: the bytes are the same.
    table, folder = tmp_path / "tracks.parquet", tmp_path / "features"
    counts = []
    for n in range(TIMES + 1):
        _add(table, StoragePath.of(folder), FIRST + n * ADDED)
        counts.append(len(list_shards(folder)))
    print(f"shards after each addition: {counts}")
    assert _tracks(folder) == _tracks(compacted)
    assert counts[-1] <= 50
    assert all(count <= 10 + 2 * (n + 1) * ADDED // 8 for n, count in enumerate(counts))


def _copy(music: Path, root: Path, some: list[Path], name: str) -> None:
    for n, path in enumerate(some):
        target = root / path.relative_to(music).parts[0] / f"{name} {n}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def test_featurize_copies_the_rows_of_shards_that_it_merges(music, ray_here, tmp_path):
    root, folder = tmp_path / "music", tmp_path / "features"
    config = FeaturizeConfig(segments_per_track=2, tracks_per_shard=16, group_by="none")
    files = sorted(music.rglob("*.*"))
    _copy(music, root, files[::2], "old")
    featurize(str(root), folder, config)
    assert len(list_shards(folder)) == 5
    before = _tracks(folder)
    _copy(music, root, files[1::2], "new")
    for path in root.rglob("old *"):  # a file that is featurized again would be rejected
        path.write_bytes(bytes(path.stat().st_size))
    featurize(str(root), folder, config)
    after = _tracks(folder)
    assert len(list_shards(folder)) == 5
    assert len(after) == 2 * len(before) == 30
    assert {track: after[track] for track in before} == before


@pytest.mark.slow
def test_a_killed_run_that_merges_writes_the_same_bytes(music, ray_here, tmp_path):
    root, before, folder = tmp_path / "music", tmp_path / "before", tmp_path / "features"
    config = FeaturizeConfig(segments_per_track=2, tracks_per_shard=16, group_by="none")
    files = sorted(music.rglob("*.*"))
    _copy(music, root, files[::2], "old")
    featurize(str(root), before, config)
    _copy(music, root, files[1::2], "new")
    shutil.copytree(before, tmp_path / "expected")
    featurize(str(root), tmp_path / "expected", config)
    expected = contents(tmp_path / "expected")
    assert len(list_shards(tmp_path / "expected")) == 5
    command = [sys.executable, "-m", "jobs.cli", "featurize", str(root), "--out", str(folder), *SETTING]
    command += ["--set", "featurize.segments_per_track=2", "--set", "featurize.group_by=none"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    chance, killed, after_plan = random.Random(0), 0, 0
    while killed < 8:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        status = -9
        while status == -9:
            with subprocess.Popen(command, **quiet) as running:
                while running.poll() is None and holder_of(StoragePath.of(folder)) != str(running.pid):
                    time.sleep(0.002)
                while running.poll() is None and (folder / "dataset.json").exists():
                    time.sleep(0.002)
                if killed < 8:
                    time.sleep(chance.uniform(0, 8))
                    running.kill()
                running.wait()
            status = running.returncode
            killed += status == -9
            after_plan += status == -9 and (folder / "tracks.parquet").read_bytes() == expected["tracks.parquet"]
        assert status == 0
        found = contents(folder)
        found.pop("config.yaml")
        assert found == expected
    print(f"{killed} kills, {after_plan} of them after the plan was stored")
    assert after_plan


class Killed(BaseException):
    """Stands for a kill: no handler of the code under test catches it."""


def _interrupted(folder: Path, writes: int, patch: pytest.MonkeyPatch) -> bool:
    """Compact until so many files were written or removed; return whether it was interrupted."""
    left = writes
    write, remove = StoragePath.write, StoragePath.remove

    def count(action):
        def counted(path, *arguments):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return action(path, *arguments)

        return counted

    with patch.context() as patched:
        patched.setattr(StoragePath, "write", count(write))
        patched.setattr(StoragePath, "remove", count(remove))
        try:
            compact(folder, 16)
        except Killed:
            return True
    return False


def test_a_compaction_that_stops_at_any_file_ends_with_the_same_bytes(
    added, compacted, ray_here, monkeypatch, tmp_path
):
    expected, interrupted = contents(compacted), 0
    for first in (1, 2, 30):
        folder, writes = tmp_path / str(first), first
        shutil.copytree(added[1], folder)
        while _interrupted(folder, writes, monkeypatch):
            interrupted += 1
            if (folder / "dataset.json").exists():
                assert contents(folder) == contents(added[1])
            else:
                with pytest.raises(DatasetError, match="holds no finished dataset"):
                    open_dataset(folder)
            if interrupted % 3 == 2:
                break
            writes = max(writes, 2) + 50
        if (folder / "tracks.parquet").read_bytes() == expected["tracks.parquet"]:
            featurize(str(added[0]), folder, CONFIG)  # as good as `compact`, and reads no music
        compact(folder, 16)
        assert contents(folder) == expected
    assert interrupted >= 3


@pytest.mark.slow
def test_killed_compactions_end_with_the_same_bytes(added, compacted, tmp_path):
    expected, chance, killed, finished = contents(compacted), random.Random(0), 0, 0
    command = [sys.executable, "-m", "jobs.cli", "compact", "features", *SETTING]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    folder = tmp_path / "features"
    while killed < 20 or not finished:
        if not folder.exists():
            shutil.copytree(added[1], folder)
        with subprocess.Popen(command, cwd=tmp_path, **quiet) as running:
            while running.poll() is None and holder_of(StoragePath.of(folder)) != str(running.pid):
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.7))
            if running.poll() is None:
                running.kill()
                killed += 1
        if running.returncode == 0:
            finished += 1
            assert contents(folder) == expected
            assert {path.name for path in folder.rglob(".*")} <= {".lock"}
            shutil.rmtree(folder)
        else:
            assert running.returncode == -9
            if (folder / "dataset.json").exists():
                open_dataset(folder)
    if folder.exists():
        compact(folder, 16)
        assert contents(folder) == expected
    print(f"{killed} kills, {finished} compactions were not killed")


def test_damaged_rows_are_refused_before_anything_changes(added, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(added[1], folder)
    name = next(
        name for name in sorted(list_shards(folder)) if read_footer(StoragePath.of(folder), name).tracks.track
    )
    content = bytearray((folder / "shards" / name).read_bytes())
    content[len(content) // 8] ^= 255
    (folder / "shards" / name).write_bytes(content)
    before = contents(folder)
    done = earmark_here("compact", folder, *SETTING)
    assert done.returncode == 1
    track = read_footer(StoragePath.of(folder), name).tracks.track[0]
    assert f"{folder} was not changed: expected the rows of all tracks in its shards, found none" in done.stderr
    assert track in done.stderr
    assert contents(folder) == before


def test_the_command_says_what_it_did(added, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(added[1], folder)
    before = len(list_shards(folder))
    done = earmark_here("compact", folder, *SETTING)
    assert done.returncode == 0, done.stderr
    after = len(list_shards(folder))
    assert done.stdout == f"features  {folder}\nshards    {after}, merged from {before}\n"
    done = earmark_here("compact", folder)
    assert done.stdout == f"features  {folder}\nshards    5, merged from {after}\n"
    with pytest.raises(DatasetError, match=r"none/tracks\.parquet, the plan of a dataset, does not exist\. Type:"):
        compact(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_dataset_in_a_bucket_is_merged_as_a_local_one(client, uri, tmp_path):
    _, folder = _grow(tmp_path, 3)
    for name, content in contents(folder).items():
        client.put_object(Bucket="music", Key=f"features/{name}", Body=content)
    remote = uri("music/features")
    leases = set()

    def on_progress(done, total):
        leases.update(name for name in StoragePath.of(remote).names() if name.startswith(".lease-"))

    assert compact(remote, 16, on_progress) == compact(folder, 16)
    assert len(leases) == 1
    assert contents(remote) == contents(folder)
    assert len(list_shards(remote)) == 5
