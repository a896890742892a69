"""A function in a process of its own, which may die of it: for a few tracks, where Ray would take longer to start.

    python -m featurize.execution.subprocess_task

is that process: it reads a pickled function and its arguments, and writes whether it returned and what.
"""

import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Argument = TypeVar("Argument")

_SECONDS_BETWEEN_LOOKS = 2.0


class SubprocessTask(Generic[Key]):
    """One function at a time in a process of its own; it offers what `RayTaskPool` offers."""

    def __init__(self) -> None:
        """Begin with none."""
        self._under_way: dict[int, tuple[Key, subprocess.Popen[bytes]]] = {}
        self._ended: queue.Queue[tuple[int, bytes, bytes]] = queue.Queue()

    def __enter__(self) -> "SubprocessTask[Key]":
        return self

    def __exit__(self, *error: object) -> None:
        for _, process in self._under_way.values():
            process.kill()

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def full(self) -> bool:
        """Whether one is under way."""
        return bool(self._under_way)

    def share(self, value: Argument) -> Argument:
        """Return an argument as it is."""
        return value

    def submit(self, key: Key, function: Callable[..., Any], *arguments: object) -> None:
        """Start a process; the function and what it takes and returns must be such as can be pickled."""
        command = [sys.executable, "-m", __name__]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self._under_way[process.pid] = key, process

        def wait() -> None:
            self._ended.put((process.pid, *process.communicate(pickle.dumps((function, arguments)))))

        threading.Thread(target=wait, daemon=True).start()

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Wait a while for a process to end; yield its key, and what the function returned or raised."""
        try:
            pid, written, told = self._ended.get(timeout=_SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            return
        key, process = self._under_way.pop(pid)
        if process.returncode:
            last = told.decode(errors="replace").strip().splitlines()[-1:]
            yield key, RuntimeError(": ".join([f"its process ended with status {process.returncode}", *last]))
        else:
            yield key, pickle.loads(written)

    def result(self) -> Any:
        """Wait for the function that is under way; return what it returned, or raise what it raised."""
        while True:
            for _, outcome in self.finished():
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome


def _serve() -> None:
    function, arguments = pickle.load(sys.stdin.buffer)
    answer, sys.stdout = sys.stdout.buffer, sys.stderr  # what a library prints is no answer
    try:
        outcome = function(*arguments)
    except Exception as error:
        outcome = error
    pickle.dump(outcome, answer)


if __name__ == "__main__":
    _serve()
