"""Whatever is in the files, each of them ends as rows or as a reject with the right reason."""

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hostile import write_hostile
from support.command_line import earmark

from featurize.audio.mfcc import Filters
from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group, read_track_ids
from featurize.dataset_build.worker import featurize_track
from featurize.errors import Reject
from featurize.planning.shard_plan import feature_settings
from featurize.storage import StoragePath

# What FFmpeg makes of files that libsndfile does not know at all. The list itself is for a machine without PyAV.
WITH_PYAV = {
    **dict.fromkeys(
        (
            "damaged/garbage before.mp3",
            "damaged/text before.mp3",
            "damaged/without its beginning.mp3",
            "damaged/zeros before.mp3",
            "lies/id3 of nothing.mp3",
            "lies/thousands of id3.mp3",
            "tags/id3, version 9.mp3",
        )
    ),
    **dict.fromkeys(
        ("other/adts.AAC", "other/monkey.ape", "other/page.wma", "other/sealed.m4a"), ("decode", "not decodable")
    ),
    "other/wavpack.wv": ("check", "too short"),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, write_hostile(folder)


def test_a_run_over_hostile_files_ends_with_a_reason_for_each(hostile, tmp_path):
    folder, verdicts = hostile
    expected = {**verdicts, **WITH_PYAV}
    assert len(expected) == len(verdicts) >= 60
    settings = ["--set", "featurize.max_reject_fraction=1", "--set", "featurize.segments_per_track=2"]
    done = earmark("featurize", folder, "--out", tmp_path, *settings)
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(tmp_path)
    found: dict[str, tuple[str, str] | None] = {
        reject["path"]: (reject["stage"], reject["reason"]) for reject in dataset.rejects().to_pylist()
    }
    for shard in dataset.shards:
        found |= dict.fromkeys(read_track_ids(shard, 2))
        assert all(np.isfinite(read_row_group(shard, i)[0]).all() for i in range(len(shard.row_groups)))
    assert {
        name: (expected[name], found.get(name, "lost")) for name in expected if found.get(name) != expected[name]
    } == {}
    assert found.keys() == expected.keys()
    for verdict, count in Counter(found.values()).most_common():
        print(f"{count:5}  {': '.join(verdict) if verdict else 'rows'}")
        if verdict:
            assert f"│ {verdict[0]}" in done.stderr
            assert verdict[1] in done.stderr


def test_without_pyav_the_reject_says_what_to_install(hostile, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # as where it is not installed
    folder, verdicts = hostile
    settings, filters = feature_settings(FeaturizeConfig(segments_per_track=2)), Filters.from_librosa()
    differing = {}
    for path in (Path(root) / name for root, _, names in os.walk(folder) for name in names):
        name = str(path.relative_to(folder)).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        verdict, message = None, ""
        try:
            mfcc, _ = featurize_track(StoragePath.of(path), settings, filters)
        except Reject as reject:
            verdict, message = (reject.stage, reject.reason), reject.message
        else:
            assert np.isfinite(mfcc).all()
        assert bool(message) == bool(verdict)
        assert "0x" not in message  # an address would make every run's shard another
        assert ("pip install 'earmark[av]'" in message) == (verdict == ("decode", "needs PyAV"))
        if verdict != verdicts[name]:
            differing[name] = (verdict, verdicts[name])
    assert differing == {}
