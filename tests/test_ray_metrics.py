"""Metrics of a job on a Ray cluster, as Prometheus scrapes them, and the metadata on the dashboard."""

import json
import re
import time
import urllib.request

import pytest
from support.nodes import nodes, submit

from featurize.dataset_build.driver import FeaturizeProgress
from featurize.execution.ray_metrics import with_ray_metrics
from jobs.demo.demo import compose_collection
from train.cluster.training_metrics import report_to_ray

NAMES = {"earmark_tracks_done", "earmark_rejects", "earmark_step", "earmark_loss", "earmark_input_wait"}


def test_the_gauges_have_the_latest_values(ray_here, monkeypatch):
    import ray.util.metrics

    values = {}
    monkeypatch.setattr(
        ray.util.metrics.Gauge,
        "set",
        lambda gauge, value: values.update({gauge.info["name"]: (value, gauge.info["default_tags"])}),
    )
    shown = []
    report = with_ray_metrics(shown.append, "s3://b/features")
    report(FeaturizeProgress(30, 40, 10, 2))
    assert shown == [FeaturizeProgress(30, 40, 10, 2)]
    measured = report_to_ray("s3://b/run", 1)
    measured(7, 0.5, 0.25)
    measured(8, 0.4, 0.25)  # less than a second later
    tags = {"out": "s3://b/run", "worker": "1"}
    assert values == {
        "earmark_tracks_done": (30, {"out": "s3://b/features"}),
        "earmark_rejects": (2, {"out": "s3://b/features"}),
        "earmark_step": (7, tags),
        "earmark_loss": (0.5, tags),
        "earmark_input_wait": (0.25, tags),
    }


def scraped(cluster) -> dict[str, tuple[str, float]]:
    """Return tags and value of each of Earmark's metrics, from all nodes."""
    found = {}
    listed = json.loads((cluster.scratch / "prom_metrics_service_discovery.json").read_text())
    for target in (target for group in listed for target in group["targets"]):
        assert target.startswith("127.0.0.")
        try:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:  # a node that is starting
            continue
        for name, tags, value in re.findall(r"(?m)^ray_(earmark_\w+)\{(.*)\} (\S+)$", text):
            found[name] = tags, float(value)
    return found


@pytest.mark.slow
def test_nodes_export_the_metrics_of_featurizing_and_training(tmp_path):
    from ray.job_submission import JobSubmissionClient

    compose_collection(tmp_path / "music", seed=5, tracks_per_style=10)
    (tmp_path / "music" / "bells" / "broken.mp3").write_bytes(b"no music" * 1000)
    settings = {"tracks_per_shard": 2, "segments_per_track": 4}
    words = [f"featurize.{key}={value}" for key, value in settings.items()]
    words += ["train.device=cpu", "train.model=modulation", "train.batch_size=16", "train.epochs=10000"]
    command = [word for setting in words for word in ("--set", setting)]
    out = tmp_path / "run"
    with nodes({"RAY_metrics_report_interval_ms": "1000"}) as cluster:
        cluster.join("127.0.0.3", cpus=2)
        cluster.until_joined("127.0.0.3")
        process = submit(cluster, "--shared", tmp_path, "--", "run", tmp_path / "music", "--out", out, *command)
        found: dict[str, tuple[str, float]] = {}
        try:
            deadline = time.monotonic() + 200
            while not (found.keys() >= NAMES and found["earmark_step"][1] > 0):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, found
                found |= scraped(cluster)
                time.sleep(1)
            client = JobSubmissionClient(cluster.address, headers={"Authorization": f"Bearer {cluster.token}"})
            [job] = client.list_jobs()
            assert (
                job.metadata | {"verb": "run", "out": str(out), "dataset": str(tmp_path / "music")} == job.metadata
            )
        finally:
            process.kill()
            process.communicate()
    assert (found["earmark_tracks_done"][1], found["earmark_rejects"][1]) == (31, 1)
    assert 0 < found["earmark_loss"][1] < 10
    assert 0 <= found["earmark_input_wait"][1] <= 1
    assert f'out="{out}"' in found["earmark_step"][0]
    assert 'worker="0"' in found["earmark_step"][0]
    assert f'out="{out / "features"}"' in found["earmark_tracks_done"][0]
