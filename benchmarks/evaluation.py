"""Memory and speed of evaluation, from ten thousand rows to a million.

    make bench-evaluate

Each size is evaluated in a separate process, as `earmark evaluate` does after it has loaded the model: rows are
read from shards and predicted, scores are formed, and predictions are written in parts. All shards are links to a
single file of synthetic rows, so that a million rows need no 8 GB of disk, and reading them is as fast as from a
page cache. The network has one dense layer of the mean of each coefficient, so that nearly all the time is that of
the evaluation itself; `--model` takes a real one.

Prints a table and writes benchmarks/results/evaluation.json, for each number of rows:

    peak_megabytes      largest resident memory of the process
    loaded_megabytes    resident memory when TensorFlow and the network were loaded
    rows_per_second     segments read, predicted, scored and written
    parts               files of the predictions
"""

import argparse
import dataclasses
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.train import measured_alone

RESULTS = Path(__file__).parent / "results" / "evaluation.json"
BATCH_SIZE = 64


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes to measure"
    )
    parser.add_argument("--model", default="mean", help="a network of `train.model`, or mean")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    sizes = {}
    print(f"{'rows':>10} {'peak MB':>8} {'loaded MB':>10} {'rows/s':>8} {'parts':>6}")
    with tempfile.TemporaryDirectory() as folder:
        name = measured_alone(compose_one_shard, Path(folder))
        for rows in arguments.rows:
            found = sizes[str(rows)] = measured_alone(evaluate, Path(folder), name, rows, arguments.model)
            print(
                f"{found['rows']:>10,} {found['peak_megabytes']:>8.0f} {found['loaded_megabytes']:>10.0f} "
                f"{found['rows_per_second']:>8,.0f} {found['parts']:>6}",
                flush=True,
            )
    results = {"model": arguments.model, "batch_size": BATCH_SIZE, "cores": os.cpu_count(), "sizes": sizes}
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def compose_one_shard(folder: Path) -> str:
    """Write one shard, and return its name."""
    from benchmarks.rows import TRACKS_PER_SHARD, compose_shard
    from featurize.dataset.reader import list_shards

    for name in ("tfrecord", "tfrecord_bytes"):
        (folder / name).mkdir()
    compose_shard(folder, 0, TRACKS_PER_SHARD)
    return next(iter(list_shards(folder)))


def evaluate(folder: Path, name: str, rows: int, model_name: str) -> dict[str, Any]:
    """Evaluate a fold of links to a shard, and return the memory of this process and the speed."""
    import keras
    import numpy as np

    from benchmarks.rows import CLASSES, SETTINGS, shards_of
    from featurize.dataset.schema import shard_name
    from featurize.storage import StoragePath
    from train.config import TrainConfig
    from train.evaluation.held_out import HeldOut
    from train.evaluation.prediction_parts import PredictionWriter
    from train.evaluation.predictions import PREDICTIONS
    from train.evaluation.predictor import Predictor
    from train.input.stored_order import EvaluationStream
    from train.model.architectures import build_model
    from train.model.strategy import make_strategy
    from train.run import Run

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        [shard] = [shard for shard in shards_of(folder) if shard.name == name]
        (Path(scratch) / "shards" / "fold=0").mkdir(parents=True)
        size = shard.path.local.stat().st_size if shard.path.local else None
        shards = []
        for index in range(max(1, rows // shard.rows)):
            link = shard_name(0, index, "0" * 16)
            os.link(shard.path.path, Path(scratch) / "shards" / link)
            path = StoragePath.of(scratch) / "shards" / link
            shards.append(dataclasses.replace(shard, name=link, path=path, fold=0, classes=CLASSES, size=size))
        segments = SETTINGS.segments_per_track
        fold = HeldOut(
            EvaluationStream(shards, segments, range(segments), BATCH_SIZE),
            shards,
            np.ones(segments, np.bool_),
            None,
            [f"class {label}" for label in range(CLASSES)],
        )
        strategy = make_strategy(TrainConfig(device="cpu"))
        with strategy.scope():
            if model_name == "mean":
                layers = [
                    keras.Input(SETTINGS.shape),
                    keras.layers.GlobalAveragePooling1D(data_format="channels_first"),
                ]
                model = keras.Sequential([*layers, keras.layers.Dense(CLASSES)])
            else:
                model = build_model(model_name, SETTINGS.format, CLASSES, 0.0)
        run = Run(Path(scratch) / "run")
        loaded = _resident_megabytes()
        started = time.perf_counter()
        scores = fold.score(Predictor(strategy, model), PredictionWriter(run, fold).add)
        seconds = time.perf_counter() - started
        if scores.segments.count != fold.stream.rows:
            raise ValueError(f"{scores.segments.count} rows were scored, expected {fold.stream.rows}")
        return {
            "rows": fold.stream.rows,
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "loaded_megabytes": loaded,
            "rows_per_second": fold.stream.rows / seconds,
            "parts": len((run.folder / PREDICTIONS).names()),
        }


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
