"""Metrics of a job that processes tracks on a Ray cluster, which its nodes export to Prometheus.

The driver reports them, because it alone counts each track once: workers repeat shards of nodes that were lost.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar


class TrackCounts(Protocol):
    """Progress that is reported."""

    @property
    def done(self) -> int:
        """Tracks in finished shards."""

    @property
    def rejected_now(self) -> int:
        """Rejects in shards that this run finished."""


Progress = TypeVar("Progress", bound=TrackCounts)


def with_ray_metrics(on_progress: Callable[[Progress], None], out: str) -> Callable[[Progress], None]:
    """Return a function that calls another one, and sets the gauges `earmark_tracks_done` and `earmark_rejects`.

    Args:
        on_progress: Receives the same progress.
        out: Output folder without secrets; the tag `out` of both gauges.
    """
    import ray
    from ray.util.metrics import Gauge

    gauges: list[Gauge] = []

    def report(progress: Progress) -> None:
        on_progress(progress)
        if not ray.is_initialized():
            return
        if not gauges:
            for name, description in (
                ("earmark_tracks_done", "Tracks in finished shards, those of earlier runs included"),
                ("earmark_rejects", "Tracks that this run rejected"),
            ):
                gauges.append(Gauge(name, description, tag_keys=("out",)))
                gauges[-1].set_default_tags({"out": out})
        for gauge, value in zip(gauges, (progress.done, progress.rejected_now), strict=True):
            gauge.set(value)

    return report
