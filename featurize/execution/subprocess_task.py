"""A pool of one process, which may die: for a few tracks, where Ray would take longer to start."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from featurize.execution.child_process import ChildProcess

Key = TypeVar("Key")
Argument = TypeVar("Argument")

_SECONDS_BETWEEN_LOOKS = 2.0


class SubprocessTask(Generic[Key]):
    """One function at a time in a process of its own; it offers what `RayTaskPool` offers."""

    def __init__(self) -> None:
        """Begin with none."""
        self._under_way: tuple[Key, ChildProcess] | None = None

    def __enter__(self) -> "SubprocessTask[Key]":
        return self

    def __exit__(self, *error: object) -> None:
        if self._under_way:
            self._under_way[1].kill()

    def __len__(self) -> int:
        return int(self.full)

    @property
    def full(self) -> bool:
        """Whether one is under way."""
        return self._under_way is not None

    def share(self, value: Argument) -> Argument:
        """Return an argument as it is."""
        return value

    def submit(self, key: Key, function: Callable[..., Any], *arguments: object) -> None:
        """Start a process; the function and what it takes and returns must be such as can be pickled."""
        assert not self.full
        self._under_way = key, ChildProcess(function, *arguments)

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Wait a while for the process to end; yield its key, and what the function returned or raised."""
        assert self._under_way
        key, child = self._under_way
        try:
            kind, value = child.receive(_SECONDS_BETWEEN_LOOKS)
        except TimeoutError:
            return
        self._under_way = None
        if kind == "died":
            value = RuntimeError(
                ": ".join(filter(None, (f"its process ended with status {value.status}", value.last_line)))
            )
        yield key, value

    def result(self) -> Any:
        """Wait for the function that is under way; return what it returned, or raise what it raised."""
        while True:
            for _, outcome in self.finished():
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome
