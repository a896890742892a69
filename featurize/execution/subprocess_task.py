"""A pool of one child process, for a few tracks: Ray takes longer to start."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from featurize.execution.child_process import ChildProcess

Key = TypeVar("Key")
Argument = TypeVar("Argument")

_WAIT_SECONDS = 2.0


class SubprocessTask(Generic[Key]):
    """Runs one function at a time in a child process, with the interface of `RayTaskPool`."""

    def __init__(self) -> None:
        """Create an empty pool."""
        self._running: tuple[Key, ChildProcess] | None = None

    def __enter__(self) -> "SubprocessTask[Key]":
        return self

    def __exit__(self, *error: object) -> None:
        if self._running:
            self._running[1].kill()

    def __len__(self) -> int:
        return int(self.full)

    @property
    def full(self) -> bool:
        """Whether a function is running."""
        return self._running is not None

    @property
    def idle(self) -> int:
        """0: a second copy would run on the same machine, and no faster."""
        return 0

    def cancel(self, key: Key) -> None:
        """Kill the running function if its key is this one."""
        if self._running and self._running[0] is key:
            self._running[1].kill()
            self._running = None

    def stop(self, seconds: float) -> None:
        """Send SIGTERM to the running function, and wait until it has ended, for some seconds at most."""
        if self._running:
            self._running[1].send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                self._running[1].receive(seconds)

    def share(self, value: Argument) -> Argument:
        """Return the argument; child processes share no memory."""
        return value

    def submit(self, key: Key, function: Callable[..., Any], *arguments: object) -> None:
        """Start a function; it, its arguments and its result must be picklable."""
        assert not self.full
        self._running = key, ChildProcess(function, *arguments)

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Wait at most two seconds for the function to end; yield its key with its result or error."""
        assert self._running
        key, child = self._running
        try:
            kind, value = child.receive(_WAIT_SECONDS)
        except TimeoutError:
            return
        self._running = None
        if kind == "died":
            value = RuntimeError(
                ": ".join(filter(None, (f"its process ended with status {value.status}", value.last_line)))
            )
        yield key, value

    def result(self) -> Any:
        """Wait for the running function; return its result or raise its error."""
        while True:
            for _, outcome in self.finished():
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome
