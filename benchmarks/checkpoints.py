"""How long training waits for a checkpoint in a bucket that waits before each answer.

    make bench-checkpoints

A snapshot of a network and its optimizer is taken between two steps, which wait for it, and a background thread
writes it into a bucket (moto's S3 server on this machine) that answers after 0, 30 and 100 ms. For comparison, the
time until the checkpoint is written, for which steps would wait without the thread.

Prints a table and writes benchmarks/results/checkpoints.json, for each latency:

    waited_ms       milliseconds that a step waits: median, and largest
    written_ms      milliseconds until a checkpoint is written and the oldest one is removed: median, and largest
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.train import measured_alone

RESULTS = Path(__file__).parent / "results" / "checkpoints.json"
LATENCIES_MS = (0, 30, 100)
KEPT = 3


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="conv3-norm", help="a network of `train.model`")
    parser.add_argument("--checkpoints", type=int, default=20, help="checkpoints at each latency")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    latencies = {}
    print(f"{'latency ms':>10} {'waited ms':>20} {'written ms':>20}  (median, largest)")
    for latency in LATENCIES_MS:
        found = latencies[str(latency)] = measured_alone(
            measure, latency / 1000, arguments.model, arguments.checkpoints
        )
        columns = (f"{found[kind][0]:>9.0f} {found[kind][1]:>10.0f}" for kind in ("waited_ms", "written_ms"))
        print(f"{latency:>10} {' '.join(columns)}", flush=True)
    results = {
        "model": arguments.model,
        "checkpoints": arguments.checkpoints,
        "cores": os.cpu_count(),
        "latencies": latencies,
    }
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def measure(seconds: float, model_name: str, count: int) -> dict[str, Any]:
    """Write checkpoints into a bucket that waits; return the times of all but the first ones."""
    from benchmarks.rows import SETTINGS
    from featurize.storage import StoragePath
    from train.config import TrainConfig
    from train.fit.background_writer import BackgroundWriter
    from train.fit.checkpoints import Checkpoints
    from train.fit.optimizer import make_optimizer
    from train.fit.train_state import TrainState
    from train.model.architectures import build_model

    waited, written = [], []
    with bucket(seconds) as address, BackgroundWriter() as writer:
        model = build_model(model_name, SETTINGS.format, 10, 0.4)
        optimizer = make_optimizer(TrainConfig(), 100)
        optimizer.build(model.trainable_variables)
        folder = StoragePath.of(f"s3://bucket/run/checkpoints?endpoint_override={address}")
        checkpoints = Checkpoints(folder, model, optimizer, KEPT, writer)
        for step in range(count + KEPT):  # from then on each one replaces another
            start = time.perf_counter()
            checkpoints.save(TrainState(step=step + 1))
            waited.append(1000 * (time.perf_counter() - start))
            writer.finish()
            written.append(1000 * (time.perf_counter() - start))
    return {
        "parameters": model.count_params(),
        "waited_ms": _summary(waited[KEPT:]),
        "written_ms": _summary(written[KEPT:]),
    }


def _summary(times: list[float]) -> tuple[float, float]:
    return statistics.median(times), max(times)


@contextmanager
def bucket(seconds: float) -> Iterator[str]:
    """Serve an empty S3 bucket from another process, and set keys for it; yield its address."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve, args=(seconds, there), daemon=True)
    server.start()
    try:
        address = f"http://127.0.0.1:{here.recv()}"
        import boto3

        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bucket")
        yield address
    finally:
        server.kill()
        server.join()


def _serve(seconds: float, to_parent: Connection) -> None:
    """Answer the requests of S3, each after some seconds."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *arguments: Any) -> None:
            pass

    moto = DomainDispatcherApplication(create_backend_app)

    def waiting(environment: Any, start_response: Any) -> Any:
        time.sleep(seconds)
        return moto(environment, start_response)

    server = make_server("127.0.0.1", 0, waiting, threaded=True, request_handler=Handler)
    to_parent.send(server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
