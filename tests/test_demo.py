"""The synthesized music: reproducible from its seed, tagged, and equally loud in all styles."""

import numpy as np
import pytest
import soundfile
from support.command_line import contents

from featurize.collection.tags import read_tag
from featurize.storage import StoragePath
from jobs.demo.demo import ARTISTS_PER_STYLE, compose_collection
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose


@pytest.mark.slow
def test_a_seed_gives_the_same_missing_files_and_another_seed_different_ones(tmp_path):
    assert compose_collection(tmp_path / "one", 0, tracks_per_style=2) == 6
    compose_collection(tmp_path / "other", 1, tracks_per_style=1)
    one, other = (contents(tmp_path / name) for name in ("one", "other"))
    assert sorted(one) == [f"{style}/00{n}.mp3" for style in sorted(STYLES) for n in (1, 2)]
    assert not set(one.values()) & set(other.values())
    for name in one:
        assert soundfile.info(tmp_path / "one" / name).duration >= 10
        style, number = name.split("/")[0], int(name[-5])
        path = StoragePath.of(tmp_path / "one" / name)
        assert read_tag(path, "artist") == f"the {style} {number}"
        assert read_tag(path, "album") == "seed 0"
    # Composed again, missing files are the same, and those that exist are not overwritten.
    kept = tmp_path / "one" / "bells" / "001.mp3"
    kept.write_bytes(b"as it was")
    for name in one.keys() - {"bells/001.mp3"}:
        (tmp_path / "one" / name).unlink()
    compose_collection(tmp_path / "one", 0, tracks_per_style=2)
    assert contents(tmp_path / "one") == {**one, "bells/001.mp3": b"as it was"}


def test_styles_are_equally_loud_and_artists_differ():
    loudness = {}
    for name, style in STYLES.items():
        pieces = [
            compose(style, Habits.draw(np.random.default_rng([s])), 3, np.random.default_rng([s, 1]))
            for s in range(8)
        ]
        assert all(piece.shape == (3 * SAMPLE_RATE, 2) and piece.dtype == np.float32 for piece in pieces)
        loudness[name] = np.median([np.sqrt(np.mean(piece**2)) for piece in pieces])
    assert max(loudness.values()) < 1.3 * min(loudness.values())
    habits = [Habits.draw(np.random.default_rng([0, s, a])) for s in range(3) for a in range(ARTISTS_PER_STYLE)]
    assert len(set(habits)) == len(habits)
