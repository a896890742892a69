"""Find the tracks that crash or hang a decoder, by loading them in a child process."""

import signal
from collections.abc import Iterator

from featurize.audio.load import load
from featurize.errors import FeaturizeError, Reject
from featurize.execution.child_process import ChildProcess
from featurize.planning.shard_plan import ShardPlan

_START_SECONDS = 60  # maximum time for a new process to begin its first track


def find_crashing_tracks(plan: ShardPlan, track_timeout: float) -> dict[str, Reject]:
    """Load the tracks of a plan one after another in a child process, and start a new one after each crash.

    Args:
        plan: Tracks and settings.
        track_timeout: Maximum time for one track, in seconds.

    Returns:
        A Reject by track ID for each track that crashed (`crashed the decoder`) or hung (`timed out`) the child.
    """
    crashing: dict[str, Reject] = {}
    begin = 0
    while begin < len(plan.tracks):
        index, reject = _first_crashing_track(plan, begin, track_timeout)
        if index is None or reject is None:
            break
        crashing[plan.tracks[index].id] = reject
        begin = index + 1
    return crashing


def _first_crashing_track(plan: ShardPlan, begin: int, track_timeout: float) -> tuple[int | None, Reject | None]:
    """Load tracks from index `begin` until one crashes or hangs the child; return it, or (None, None)."""
    index: int | None = None
    with ChildProcess(_load_all, plan, begin) as child:
        while True:
            try:
                kind, value = child.receive(_START_SECONDS + track_timeout if index is None else track_timeout)
            except TimeoutError:
                return index, Reject("decode", "timed out", f"still at work after {track_timeout:g} s")
            if kind != "yielded":
                break
            index = value
    if kind == "returned" or index is None:
        return None, None
    status = 1 if kind == "raised" else value.status
    ending = signal.Signals(-status).name if status < 0 else f"status {status}"
    return index, Reject("decode", "crashed the decoder", f"its process ended with {ending}")


def _load_all(plan: ShardPlan, begin: int) -> Iterator[int]:
    """Load tracks in order; yield the index of each before it is loaded."""
    for index in range(begin, len(plan.tracks)):
        yield index
        try:
            load(plan.locate(plan.tracks[index]), plan.settings)
        except (Reject, FeaturizeError):
            continue  # the worker will report it
