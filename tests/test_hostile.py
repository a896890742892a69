"""Damaged, invalid and unusual files give rows, or a reject with the expected reason."""

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hostile import hostile_verdicts, write_hostile
from hostile.verdicts import ROWS, Verdict
from support.command_line import earmark

from featurize.audio.mfcc import Filters
from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group, read_track_ids
from featurize.dataset_build.worker import featurize_track
from featurize.errors import Reject
from featurize.planning.shard_plan import feature_settings
from featurize.storage import StoragePath

# Results for files that only FFmpeg can open; the verdicts of the collection are for machines without PyAV.
WITH_PYAV = {
    **dict.fromkeys(
        (
            "damaged/garbage before.mp3",
            "damaged/text before.mp3",
            "damaged/without its beginning.mp3",
            "damaged/zeros before.mp3",
            "headers/id3 of nothing.mp3",
            "headers/thousands of id3.mp3",
            "tags/id3, version 9.mp3",
        )
    ),
    **dict.fromkeys(
        ("other/adts.AAC", "other/monkey.ape", "other/page.wma", "other/sealed.m4a"), ("decode", "not decodable")
    ),
    "other/wavpack.wv": ("check", "too short"),
}


VERDICTS = hostile_verdicts()
LOST = ("lost", "lost")

each_file = pytest.mark.parametrize("name", VERDICTS)


@dataclass
class Outcome:
    """Result of one file: verdict, message of the reject, and whether its features are finite."""

    verdict: Verdict
    message: str = ""
    is_finite: bool = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile(folder)
    return folder


@pytest.fixture(scope="module")
def with_pyav(folder, tmp_path_factory):
    """The completed process of a run over all files, and the outcome of each file."""
    out = tmp_path_factory.mktemp("hostile-features")
    settings = ["--set", "featurize.max_reject_fraction=1", "--set", "featurize.segments_per_track=2"]
    done = earmark("featurize", folder, "--out", out, *settings)
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(out)
    outcomes = {
        reject["path"]: Outcome((reject["stage"], reject["reason"]), reject["message"])
        for reject in dataset.rejects().to_pylist()
    }
    for shard in dataset.shards:
        mfcc = np.concatenate([read_row_group(shard, i)[0] for i in range(len(shard.row_groups))])
        tracks = read_track_ids(shard, 2)
        finite = np.isfinite(mfcc).reshape(len(tracks), -1).all(axis=1)
        outcomes |= {name: Outcome(ROWS, is_finite=bool(f)) for name, f in zip(tracks, finite, strict=True)}
    return done, outcomes


@pytest.fixture(scope="module")
def without_pyav(folder):
    """The outcome of each file in a process that cannot import PyAV."""
    settings, filters = feature_settings(FeaturizeConfig(segments_per_track=2)), Filters.from_librosa()
    outcomes = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "av", None)  # imports fail as if it were not installed
        for path in (Path(root) / name for root, _, names in os.walk(folder) for name in names):
            name = str(path.relative_to(folder)).encode("utf-8", "surrogateescape")
            try:
                mfcc, _ = featurize_track(StoragePath.of(path), settings, filters)
                outcome = Outcome(ROWS, is_finite=bool(np.isfinite(mfcc).all()))
            except Reject as reject:
                outcome = Outcome((reject.stage, reject.reason), reject.message)
            outcomes[name.decode("utf-8", "backslashreplace")] = outcome
    return outcomes


def test_a_run_over_hostile_files_completes_with_the_reject_counts(with_pyav):
    done, outcomes = with_pyav
    expected = {**VERDICTS, **WITH_PYAV}
    assert len(expected) == len(VERDICTS) >= 60
    assert outcomes.keys() == expected.keys()
    for verdict, count in Counter(outcome.verdict for outcome in outcomes.values()).most_common():
        print(f"{count:5}  {': '.join(verdict) if verdict else 'rows'}")
        if verdict:
            assert f"│ {verdict[0]}" in done.stderr
            assert verdict[1] in done.stderr


@each_file
def test_the_outcome_with_pyav(name, with_pyav):
    outcome = with_pyav[1].get(name, Outcome(LOST))
    assert outcome.verdict == {**VERDICTS, **WITH_PYAV}[name]
    assert outcome.is_finite


def test_every_file_has_an_outcome_without_pyav(without_pyav):
    assert without_pyav.keys() == VERDICTS.keys()


@each_file
def test_the_outcome_without_pyav_and_the_advice_to_install_it(name, without_pyav):
    outcome = without_pyav.get(name, Outcome(LOST))
    assert outcome.verdict == VERDICTS[name]
    assert outcome.is_finite
    assert bool(outcome.message) == bool(outcome.verdict)
    assert "0x" not in outcome.message  # a memory address would make the bytes of the shard differ between runs
    assert ("libsndfile does not read" in outcome.message) == (outcome.verdict == ("decode", "needs PyAV"))
