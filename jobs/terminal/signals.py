"""Ctrl-C and SIGTERM while a model is trained: noted, so that the loop can end where nothing is lost."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ASKS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - no error: it was asked for
    """A signal has ended the work, and what was done is kept."""

    def __init__(self, signum: int, kept: str) -> None:
        """Take the signal's number, and what is kept in words."""
        super().__init__(kept)
        self.signum = signum


@contextmanager
def noted_signals() -> Iterator[Callable[[], int | None]]:
    """Give a function that returns the signal that has come, None so far.

    A second one does at once what it did before: whoever sends it does not want to wait.
    """
    come: list[int] = []
    before = {signum: signal.getsignal(signum) for signum in _ASKS}

    def restore() -> None:
        for signum, handler in before.items():
            signal.signal(signum, handler)

    def note(signum: int, frame: FrameType | None) -> None:
        come.append(signum)
        restore()

    for signum in _ASKS:
        signal.signal(signum, note)
    try:
        yield lambda: come[0] if come else None
    finally:
        restore()
