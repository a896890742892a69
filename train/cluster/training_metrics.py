"""Metrics of a training worker on a Ray cluster, which its node exports to Prometheus."""

import time
from collections.abc import Callable

from ray.util.metrics import Gauge

_SECONDS_BETWEEN_REPORTS = 1.0  # Ray exports every ten seconds

_GAUGES = {
    "earmark_step": "Finished training steps",
    "earmark_loss": "Loss of the latest training step, in nats",
    "earmark_input_wait": "Share of the time of the latest training steps that they waited for their batches",
}


def report_to_ray(out: str, rank: int) -> Callable[[int, float, float], None]:
    """Return a training callback that sets the gauges of this worker, at most once a second.

    Args:
        out: Run folder without secrets; the tag `out`.
        rank: Number of the worker, from 0; the tag `worker`.
    """
    gauges = [Gauge(name, description, tag_keys=("out", "worker")) for name, description in _GAUGES.items()]
    for gauge in gauges:
        gauge.set_default_tags({"out": out, "worker": str(rank)})
    next_report = 0.0

    def report(step: int, loss: float, wait: float) -> None:
        nonlocal next_report
        if time.monotonic() < next_report:
            return
        next_report = time.monotonic() + _SECONDS_BETWEEN_REPORTS
        for gauge, value in zip(gauges, (step, loss, wait), strict=True):
            gauge.set(value)

    return report
