"""A function in a process of its own, whose death costs only that function.

    python -m featurize.execution.child_process

is that process. It reads one pickled (function, arguments) from its input and writes pickled messages to its
output: (`yielded`, value) for each value of a generator, and at last (`returned`, value) or (`raised`, error).
The input stays open as long as the parent lives; its end also ends the child. What a library prints, in Python
or in C, goes to the error output.

This is not `concurrent.futures.ProcessPoolExecutor`: that does not report which signal ended a process, cannot
kill a worker that hangs in native code (before Python 3.14), sends no values of a generator, and leaves a
worker and a resource tracker behind when its parent is killed. Its `spawn` also imports the parent's `__main__`
in the child: the command line, a benchmark or pytest.
"""

import collections
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, BinaryIO, Literal, NamedTuple

_LINES_KEPT = 20  # of the error output
_SECONDS_FOR_LAST_LINES = 1.0  # after the end; a process started by the child may hold its error output open


class Message(NamedTuple):
    """What a child process reports.

    Attributes:
        kind: `yielded` for one value of a generator; the last one is `returned`, `raised`, or `died` for a process
            that ended before its function did.
        value: the value, the error, or a Death.
    """

    kind: Literal["yielded", "returned", "raised", "died"]
    value: Any


class Death(NamedTuple):
    """How a process ended.

    Attributes:
        status: the exit status; negative for a signal.
        last_line: the last line of its error output, empty if there is none.
    """

    status: int
    last_line: str


class ChildProcess:
    """A process that runs one function; leaving its context kills it, in native code too."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        """Start it. The function is one of a module, and what it takes, yields and returns can be pickled."""
        task = pickle.dumps((function, arguments))
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-m", __name__], stdin=pipe, stdout=pipe, stderr=pipe)
        self._messages: queue.Queue[Message] = queue.Queue()
        self._last_lines: collections.deque[bytes] = collections.deque(maxlen=_LINES_KEPT)
        self._error_reader = threading.Thread(target=self._read_errors, daemon=True)
        self._error_reader.start()
        threading.Thread(target=self._exchange, args=(task,), daemon=True).start()

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def receive(self, timeout: float) -> Message:
        """Return the next message; TimeoutError if none comes within `timeout` seconds."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def kill(self) -> None:
        """End the process, and wait until it has ended."""
        self._process.kill()
        self._process.wait()

    def _exchange(self, task: bytes) -> None:
        """Send the task, pass messages on, and report the last one when the process has ended."""
        assert self._process.stdin
        assert self._process.stdout
        last: Message | None = None
        try:
            self._process.stdin.write(task)
            self._process.stdin.flush()
            while last is None:
                message = Message(*pickle.load(self._process.stdout))
                if message.kind == "yielded":
                    self._messages.put(message)
                else:
                    last = message
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            pass  # it has died
        except Exception as error:  # of a class that cannot be made again from its pickle
            last = Message("raised", error)
        self._process.stdout.close()
        status = self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # what was not sent is of no use any more
            self._process.stdin.close()
        self._messages.put(last or Message("died", Death(status, self._last_line())))

    def _read_errors(self) -> None:
        assert self._process.stderr
        with self._process.stderr as lines:
            self._last_lines.extend(lines)

    def _last_line(self) -> str:
        self._error_reader.join(_SECONDS_FOR_LAST_LINES)
        lines = [line for line in self._last_lines.copy() if line.strip()]
        return lines[-1].decode(errors="replace").strip() if lines else ""


def _serve() -> None:
    """Run the function that the input holds."""
    tasks, messages = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Neither libraries nor processes that they start may read the one or write to the other.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    function, arguments = pickle.load(tasks)
    threading.Thread(target=_end_with_parent, args=(tasks.fileno(),), daemon=True).start()
    try:
        result = function(*arguments)
        if isinstance(result, types.GeneratorType):
            for value in result:
                _write(messages, "yielded", value)
            result = None
    except Exception as error:
        _write(messages, "raised", error)
    else:
        _write(messages, "returned", result)


def _write(messages: BinaryIO, kind: str, value: object) -> None:
    messages.write(pickle.dumps((kind, value)))  # whole or not at all
    messages.flush()


def _end_with_parent(tasks: int) -> None:
    """Wait for the end of the input, which comes when the parent is gone."""
    while os.read(tasks, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    _serve()
