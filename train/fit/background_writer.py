"""Write files in a background thread, in order, while training continues."""

import collections
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

_WAITING = 2  # writes, each with its content in memory, before another one has to wait


class BackgroundWriter:
    """A thread that calls functions one after another. An error ends it: later functions are not called.

    Use it as a context manager, which waits for the thread on exit.
    """

    def __init__(self) -> None:
        """Create the writer; its thread starts with the first function."""
        self._pool = ThreadPoolExecutor(1, "writer")
        self._pending: collections.deque[Future[None]] = collections.deque()
        self._failure: BaseException | None = None

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def submit(self, write: Callable[[], None]) -> None:
        """Call a function later, and wait now if the thread is more than two functions behind.

        Raises:
            Exception: What an earlier function raised.
        """
        while len(self._pending) > _WAITING:
            self._pending.popleft().result()
        self.check()
        self._pending.append(self._pool.submit(self._call, write))

    def check(self) -> None:
        """Raise what an earlier function raised, if one did."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        if self._failure:
            raise self._failure

    def finish(self) -> None:
        """Wait until all functions have been called.

        Raises:
            Exception: What one of them raised.
        """
        while self._pending:
            self._pending.popleft().result()
        self.check()

    def _call(self, write: Callable[[], None]) -> None:
        if self._failure:
            return
        try:
            write()
        except BaseException as error:
            self._failure = error
            raise
