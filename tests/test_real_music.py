"""Features of real MP3 files, from the folder in EARMARK_MUSIC."""

import random

import librosa
import numpy as np
from support.command_line import earmark_here
from support.librosa_reference import TOLERANCE_DB, librosa_mfcc

from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group, read_track_ids

TRACKS = 10  # of each class: librosa takes most of the time


def test_features_equal_librosa_and_shards_are_at_most_a_quarter_of_the_raw_size(real_music, ray_here, tmp_path):
    for folder in sorted(path for path in real_music.iterdir() if path.is_dir()):
        files = sorted(path for path in folder.rglob("*.*") if path.is_file())
        (tmp_path / "music" / folder.name).mkdir(parents=True)
        for path in random.Random(0).sample(files, min(TRACKS, len(files))):
            link = tmp_path / "music" / path.relative_to(real_music)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    settings = ["--set", "featurize.group_by=none"]
    done = earmark_here("featurize", tmp_path / "music", "--out", tmp_path / "features", *settings)
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(tmp_path / "features")
    segments = dataset.segments_per_track
    worst, rows, size = 0.0, 0, 0
    for shard in dataset.shards:
        mfcc = np.concatenate([read_row_group(shard, i)[0] for i in range(len(shard.row_groups))])
        for i, track in enumerate(read_track_ids(shard, segments)):
            samples, _ = librosa.load(tmp_path / "music" / track)
            starts = np.arange(segments) * (len(samples) - 216 * 512) // (segments - 1) // 512 * 512
            expected = librosa_mfcc(samples, starts)
            worst = max(worst, float(np.abs(mfcc[i * segments : (i + 1) * segments] - expected).max()))
        rows += shard.rows
        size += shard.path.local.stat().st_size
    fraction = size / (rows * 40 * 217 * 4)
    print(f"{rows} segments; largest difference {worst:.1e} dB; shards {fraction:.3f} of the raw floats")
    assert rows == dataset.info.segments
    assert worst <= TOLERANCE_DB
    assert fraction <= 0.25
