"""Damaged, invalid and unusual files give rows, or a reject with the expected reason."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest
from hostile import hostile_verdicts, write_hostile
from hostile.verdicts import ROWS, UNDECODABLE, Verdict
from support.command_line import earmark_here

from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group, read_track_ids

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
def done_and_outcomes(folder, ray_here, tmp_path_factory):
    """The completed process of a run over all files, the outcome of each file, and the dataset folder."""
    out = tmp_path_factory.mktemp("hostile-features")
    settings = ["--set", "featurize.max_reject_fraction=1", "--set", "featurize.segments_per_track=2"]
    done = earmark_here("featurize", folder, "--out", out, *settings)
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
    return done, outcomes, out


def test_a_run_over_hostile_files_completes_with_the_reject_counts(done_and_outcomes):
    done, outcomes, _ = done_and_outcomes
    assert len(VERDICTS) >= 60
    assert outcomes.keys() == VERDICTS.keys()
    for verdict, count in Counter(outcome.verdict for outcome in outcomes.values()).most_common():
        print(f"{count:5}  {': '.join(verdict) if verdict else 'rows'}")
        if verdict:
            assert f"│ {verdict[0]}" in done.stderr
            assert verdict[1] in done.stderr


def test_tracks_that_were_read_past_damage_are_listed_and_counted(done_and_outcomes):
    done, outcomes, out = done_and_outcomes
    remarks = pq.read_table(out / "remarks.parquet").to_pylist()
    named = {remark["path"]: remark["message"] for remark in remarks}
    assert f"{len(named)} tracks are damaged or have wrong headers; what could be decoded is used:" in done.stderr
    assert "6 of 269 packets are damaged and were skipped" in named["damaged/noise in the middle.mp3"]
    assert "FFmpeg after 16.1 s" in named["damaged/two rates.mp3"]
    assert all(outcomes[path].verdict == ROWS for path in named)
    assert not [path for path in named if path.startswith(("formats/", "tags/", "names/"))]


@each_file
def test_the_outcome(name, done_and_outcomes):
    outcome = done_and_outcomes[1].get(name, Outcome(LOST))
    assert outcome.verdict == VERDICTS[name]
    assert outcome.is_finite
    assert bool(outcome.message) == bool(outcome.verdict)
    assert "0x" not in outcome.message  # a memory address would make the bytes of the shard differ between runs
    if outcome.verdict == UNDECODABLE:
        assert outcome.message.startswith("libsndfile: ")
        assert "; FFmpeg: " in outcome.message
