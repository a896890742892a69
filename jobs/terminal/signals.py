"""Ctrl-C and SIGTERM: one context that installs a handler, and the three ways in which commands use it."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from jobs.errors import Interrupted

Handler = Callable[[int, FrameType | None], None]

_STOP_REQUESTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled(handler: Handler, signums: Sequence[int] = _STOP_REQUESTS) -> Iterator[Callable[[], None]]:
    """Install a handler for some signals, and restore the earlier handlers on exit.

    Yields:
        A function that restores them sooner.
    """
    before = {signum: signal.signal(signum, handler) for signum in signums}

    def restore() -> None:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)

    try:
        yield restore
    finally:
        restore()


@contextmanager
def noted_signals() -> Iterator[Callable[[], int | None]]:
    """Record a signal, so that the training loop can stop where nothing is lost.

    A second signal acts as it would have acted before: its sender does not want to wait.

    Yields:
        A function that returns the number of the signal that has arrived, None so far.
    """
    arrived: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)
        restore()

    with handled(note) as restore:
        yield lambda: arrived[0] if arrived else None


@contextmanager
def raised_signals() -> Iterator[None]:
    """Raise `Interrupted` when a signal arrives."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum, "")

    with handled(interrupt):
        yield


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end a command as cleanly as Ctrl-C does, with status 143."""
    arrived: list[int] = []

    def terminate(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)
        sys.exit(128 + signum)

    with handled(terminate, [signal.SIGTERM]):
        try:
            yield
        except SystemExit as end:
            if arrived:  # Ray, if it was being waited for, replaces our status by one of its own
                sys.exit(128 + arrived[0])
            if end.code == signal.SIGTERM:  # raised by Ray's handler, which replaces ours while Ray starts
                terminate(signal.SIGTERM, None)
            raise
