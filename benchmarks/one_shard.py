"""Build a shard of one track and print the peak memory of this process, in MB.

    python -m benchmarks.one_shard TRACK FOLDER

`benchmarks.featurize` runs this in a separate process, so that only the worker's memory is measured.
"""

import os
import sys
from pathlib import Path

from featurize.audio.filters import Filters
from featurize.config import FeaturizeConfig
from featurize.dataset_build.worker import write_features
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath


def main() -> None:
    """Build the shard and print the peak memory."""
    track, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)  # a worker requires an existing folder
    settings = feature_settings(FeaturizeConfig())
    plan = ShardPlan(
        "fold=0/part-00000-0000000000000000.parquet",
        StoragePath.of(os.path.dirname(track)),
        [Track(track, track, 0, os.path.getsize(track))],
        settings,
    )
    write_features(plan, StoragePath.of(folder), Filters.from_librosa(settings))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)


if __name__ == "__main__":
    main()
