"""Features of real MP3 files, from the folder in EARMARK_MUSIC."""

import librosa
import numpy as np
from support.command_line import earmark
from support.librosa_reference import TOLERANCE_DB, librosa_mfcc

from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group, read_track_ids


def test_features_equal_librosa_and_shards_are_at_most_a_quarter_of_the_raw_size(real_music, tmp_path):
    done = earmark("featurize", real_music, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(tmp_path)
    segments = dataset.segments_per_track
    worst, rows, size = 0.0, 0, 0
    for shard in dataset.shards:
        mfcc = np.concatenate([read_row_group(shard, i)[0] for i in range(len(shard.row_groups))])
        for i, track in enumerate(read_track_ids(shard, segments)):
            samples, _ = librosa.load(real_music / track)
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
