"""Featurizing is deterministic and atomic, and lists every reject."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.audio import encode
from support.command_line import contents
from support.librosa_reference import TOLERANCE_DB, librosa_mfcc

from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import list_shards, read_row_group, read_track_ids
from featurize.dataset_build.driver import featurize, refuse_too_many_rejects
from featurize.dataset_build.finalize import Summary
from featurize.errors import DatasetError, FeaturizeError
from featurize.execution.folder_lock import only_run_in
from featurize.storage import StoragePath

CONFIG = FeaturizeConfig(tracks_per_shard=3, segments_per_track=4)


def test_features_equal_librosa(features, music):
    import librosa

    dataset = open_dataset(features)
    assert dataset.classes == ["bells", "pulses", "reeds"]
    seen = 0
    for shard in dataset.shards:
        table = pq.ParquetFile(shard.path.path).read()
        mfcc = np.concatenate([read_row_group(shard, i)[0] for i in range(len(shard.row_groups))])
        tracks = read_track_ids(shard, 4)
        for i, track in enumerate(tracks):
            rows = table.slice(4 * i, 4)
            assert rows["track"].to_pylist() == [track] * 4
            assert rows["segment"].to_pylist() == [0, 1, 2, 3]
            assert set(rows["label"].to_pylist()) == {dataset.classes.index(track.split("/")[0])}
            samples, _ = librosa.load(music / track)
            starts = np.round(rows["start"].to_numpy() * 22050).astype(int)
            np.testing.assert_allclose(
                mfcc[4 * i : 4 * i + 4], librosa_mfcc(samples, starts), rtol=0, atol=TOLERANCE_DB
            )
            seen += 1
    assert seen == 30


def test_counts_and_statistics_match_the_rows(features):
    dataset = open_dataset(features)
    info = dataset.info
    assert (info.tracks, info.segments, info.rejects) == (30, 120, [])
    assert sum(count.segments for count in info.counts) == 120
    assert {(count.tracks, count.groups) for count in info.counts} == {(2, 1)}
    assert dataset.tracks().num_rows == 30
    assert dataset.rejects().num_rows == 0
    for statistics in info.statistics:
        shards = dataset.in_folds({statistics.fold})
        mfcc = np.concatenate([read_row_group(s, i)[0] for s in shards for i in range(len(s.row_groups))])
        np.testing.assert_allclose(statistics.mean, mfcc.mean(axis=(0, 2), dtype=np.float64), rtol=1e-6)
        np.testing.assert_allclose(statistics.deviation, mfcc.std(axis=(0, 2), dtype=np.float64), rtol=1e-4)


DOCUMENT = Path(__file__).parent.parent / "docs" / "dataset.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda code: code.split()[1].rstrip(","))
def test_examples_in_the_docs_read_the_shards(example, features, monkeypatch):
    """The examples of docs/dataset.md, verbatim."""
    assert len([line for line in example.splitlines() if line]) == 4  # one line of imports and three of code
    monkeypatch.chdir(features.parent)
    (features.parent / "features").symlink_to(features)
    variables = {}
    try:
        exec(example, variables)
    finally:
        (features.parent / "features").unlink()
    expected = [
        read_row_group(shard, i) for shard in open_dataset(features).shards for i in range(len(shard.row_groups))
    ]
    np.testing.assert_array_equal(variables["mfcc"], np.concatenate([mfcc for mfcc, _ in expected]))
    np.testing.assert_array_equal(variables["label"], np.concatenate([labels for _, labels in expected]))
    assert set(variables["fold"]) == {0, 1, 2, 3, 4}


def test_the_docs_have_examples_for_pandas_polars_and_duckdb():
    assert [code.split()[1].rstrip(",") for code in EXAMPLES] == ["pandas", "polars", "duckdb"]


def test_the_mfcc_column_has_shape_and_dtype_as_metadata(features):
    table = pq.read_table(features / "shards", partitioning="hive")
    assert table.num_rows == 120
    field = table.schema.field("mfcc")
    assert json.loads(field.metadata[b"shape"]) == [40, 217]
    assert field.metadata[b"dtype"] == b"<f4"
    assert not field.nullable


def test_workers_read_the_tags_of_many_files(music, features, ray_here, tmp_path, monkeypatch):
    monkeypatch.setattr("featurize.dataset_build.driver._TAGS_AT_ONCE", 4)
    featurize(str(music), tmp_path, CONFIG)
    assert contents(tmp_path) == contents(features)


def test_a_complete_dataset_is_left_unchanged(music, features, ray_here):
    written = [path for path in features.rglob("*") if path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in written}
    summary = featurize(str(music), features, CONFIG, on_progress=pytest.fail)
    assert summary == Summary(30, 120, {})
    assert {path: path.stat().st_mtime_ns for path in written} == before


def test_changed_settings_replace_all_shards(music, ray_here, tmp_path):
    featurize(str(music), tmp_path, CONFIG)
    first = list_shards(tmp_path)
    featurize(str(music), tmp_path, CONFIG.model_copy(update={"segments_per_track": 2}))
    second = list_shards(tmp_path)
    assert not first & second
    dataset = open_dataset(tmp_path)
    assert dataset.info.segments == 60
    assert {shard.name for shard in dataset.shards} == second


def test_unusable_tracks_are_rejected_and_the_others_featurized(music, ray_here, tmp_path):
    root = tmp_path / "music"
    subprocess.run(["cp", "-r", music, root], check=True)
    (root / "bells" / "empty.mp3").write_bytes(b"")
    (root / "reeds" / "text.mp3").write_text("not music")
    (root / "pulses" / "short.wav").write_bytes(encode(np.ones((1000, 1)) / 2, 44100, ".wav"))
    (root / "pulses" / "silent.flac").write_bytes(encode(np.zeros((44100 * 6, 2)), 44100, ".flac"))
    config = CONFIG.model_copy(update={"max_reject_fraction": 0.12})
    summary = featurize(str(root), tmp_path / "features", config)
    assert (summary.tracks, summary.segments, summary.rejected) == (34, 120, 4)
    refuse_too_many_rejects(summary, config, StoragePath.of(tmp_path))
    with pytest.raises(FeaturizeError, match=r"4 of 34 tracks were rejected.*max_reject_fraction = 0.1 allows"):
        refuse_too_many_rejects(summary, CONFIG, StoragePath.of(tmp_path))
    rejects = open_dataset(tmp_path / "features").rejects().to_pylist()
    assert [(r["path"], r["stage"], r["reason"]) for r in rejects] == [
        ("bells/empty.mp3", "open", "empty"),
        ("pulses/short.wav", "check", "too short"),
        ("pulses/silent.flac", "check", "silent"),
        ("reeds/text.mp3", "decode", "not decodable"),
    ]


def test_opening_a_damaged_dataset_names_the_shards(music, features, tmp_path):
    folder = tmp_path / "features"
    subprocess.run(["cp", "-r", features, folder], check=True)
    names = sorted(list_shards(folder))
    (folder / "shards" / names[0]).unlink()
    content = (folder / "shards" / names[1]).read_bytes()
    (folder / "shards" / names[1]).write_bytes(content[: len(content) // 2])
    foreign = names[2].replace("part-00000", "part-00009")
    (folder / "shards" / foreign).write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        open_dataset(folder)
    message = str(caught.value)
    assert f"{names[0]} is missing" in message
    assert f"{names[1]} is broken" in message
    assert f"{foreign} does not belong to this dataset" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "dataset.json is missing"),
        ("{", "is not JSON"),
        ('{"format": 99}', "format 99"),
        ("[]", "format None"),
    ],
)
def test_opening_a_folder_without_a_valid_dataset_fails(content, expected, tmp_path):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=expected):
        open_dataset(tmp_path)


def test_a_second_run_in_the_same_folder_fails(music, tmp_path):
    with (
        only_run_in(StoragePath.of(tmp_path)),
        pytest.raises(FeaturizeError, match=rf"another run \(process {os.getpid()}\)"),
    ):
        featurize(str(music), tmp_path, CONFIG)


def test_a_folder_that_is_not_writable_fails(music, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FeaturizeError, match=r"cannot write to .*Give --out a folder"):
        featurize(str(music), tmp_path / "file" / "features", CONFIG)


def test_opening_a_dataset_with_a_broken_list_of_tracks_fails(features, tmp_path):
    subprocess.run(["cp", "-r", features, tmp_path / "features"], check=True)
    (tmp_path / "features" / "tracks.parquet").write_text("junk")
    with pytest.raises(
        DatasetError, match=r"tracks.parquet is missing or broken: .* Type: earmark featurize MUSIC"
    ):
        open_dataset(tmp_path / "features").tracks()
