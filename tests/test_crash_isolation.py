"""Tracks that crash or hang a decoder are found; no other track is reported."""

import numpy as np
import pytest
from conftest import encode
from test_kill import FAULTY

from featurize.config import FeaturizeConfig
from featurize.execution.crash_isolation import find_crashing_tracks
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath

GOOD = encode(0.5 * np.sin(np.arange(6 * 8000) / 5), 8000, ".wav")
CRASHED = ("decode", "crashed the decoder", "its process ended with SIGABRT")
TIMEOUT = 5  # a new process loads the decoders first, in one second


@pytest.fixture
def rejects_of(tmp_path, monkeypatch):
    """Return a function from file contents to the rejects found, by index of the file."""
    (tmp_path / "faulty").mkdir()
    bugs = 'if head == b"BUGS":\n        raise MemoryError'
    faulty = FAULTY.replace("ctypes.string_at(0)", "os.abort()").replace(
        "opened(self,", f"{bugs}\n    opened(self,"
    )
    (tmp_path / "faulty" / "soundfile.py").write_text(faulty)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "faulty"), prepend=":")

    def find(*contents):
        tracks = []
        for index, content in enumerate(contents):
            (tmp_path / f"{index}.wav").write_bytes(content)
            tracks.append(Track(f"id {index}", f"{index}.wav", 0, len(content)))
        plan = ShardPlan("00000-x.parquet", StoragePath.of(tmp_path), tracks, feature_settings(FeaturizeConfig()))
        rejects = find_crashing_tracks(plan, TIMEOUT)
        return {int(id[3:]): (r.stage, r.reason, r.message) for id, r in rejects.items()}

    return find


def test_good_and_undecodable_tracks_are_not_reported(rejects_of):
    assert rejects_of(GOOD, b"no audio", b"", GOOD, b"BOOM") == {4: CRASHED}
    assert rejects_of(GOOD, b"no audio", b"", GOOD) == {}


def test_crashing_tracks_are_found_at_any_position(rejects_of):
    assert rejects_of(b"BOOM", GOOD, b"BOOM", b"BOOM") == {0: CRASHED, 2: CRASHED, 3: CRASHED}


def test_a_track_that_hangs_in_native_code_is_found_and_the_next_ones_are_loaded(rejects_of):
    assert rejects_of(GOOD, b"LOOP", b"BOOM", GOOD) == {
        1: ("decode", "timed out", f"still at work after {TIMEOUT} s"),
        2: CRASHED,
    }


def test_an_uncaught_exception_counts_as_a_crash(rejects_of):
    assert rejects_of(GOOD, b"BUGS", GOOD) == {
        1: ("decode", "crashed the decoder", "its process ended with status 1")
    }
