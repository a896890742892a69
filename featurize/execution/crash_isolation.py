"""Finds the tracks that crash or hang a decoder, by loading them in a process that may die of it.

    python -m featurize.execution.crash_isolation

is that process: it reads a pickled ShardPlan from its input, and says of each track that it begins it.
"""

import pickle
import queue
import signal
import subprocess
import sys
import threading
from typing import IO

from featurize.audio.load import load
from featurize.errors import FeaturizeError, Reject
from featurize.planning.shard_plan import ShardPlan

_START_SECONDS = 60  # that a new process may take until it begins its first track


def find_crashing_tracks(plan: ShardPlan, track_timeout: float) -> dict[str, Reject]:
    """Load the tracks of a plan one after another, each apart from this process.

    Args:
        plan: its tracks and settings.
        track_timeout: seconds that one track may take.

    Returns:
        a Reject, `crashed the decoder` or `timed out`, for each track that ended or stopped the other process.
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
    """Load tracks from `begin` on until one of them is the end of the other process."""
    command = [sys.executable, "-m", __name__, str(begin)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        begun = _lines(child.stdout)
        index: int | None = None
        try:
            pickle.dump(plan, child.stdin)
            child.stdin.close()
            while True:
                line = begun.get(timeout=_START_SECONDS + track_timeout if index is None else track_timeout)
                if not line:
                    break
                index = int(line)
        except queue.Empty:
            return index, Reject("decode", "timed out", f"still at work after {track_timeout:g} s")
        except BrokenPipeError:
            pass
        finally:
            child.kill()
        status = child.wait()
    if status == 0 or index is None or index == len(plan.tracks):
        return None, None
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    return index, Reject("decode", "crashed the decoder", f"its process ended with {how}")


def _lines(pipe: IO[bytes]) -> "queue.Queue[bytes]":
    """Return the lines of a pipe as they come, and an empty one at its end."""
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in pipe:
            lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    return lines


def _load_all(plan: ShardPlan, begin: int, begun: IO[str]) -> None:
    for index in range(begin, len(plan.tracks)):
        print(index, file=begun, flush=True)
        try:
            load(plan.root / plan.tracks[index].path, plan.settings)
        except (Reject, FeaturizeError):
            continue  # what is wrong with it is for the worker to say
    print(len(plan.tracks), file=begun, flush=True)


if __name__ == "__main__":
    _load_all(pickle.load(sys.stdin.buffer), int(sys.argv[1]), sys.stdout)
