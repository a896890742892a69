"""Run a function in a separate process, so that a crash loses only that call.

The child imports nothing from the working directory, see `import_path`. It reads one pickled (function,
arguments, sends) from standard input and writes pickled messages to standard output: (`yielded`, value) for each
value of a generator or each one that the function sends, then (`returned`, value) or (`raised`, error). Standard
input stays open while the parent runs; the child exits when it is closed. Output of libraries, from Python or C,
goes to standard error. Ctrl-C in a terminal reaches the parent only, which decides what becomes of the child.

`concurrent.futures.ProcessPoolExecutor` is not used: it does not report which signal ended a process, cannot kill
a worker that hangs in native code (before Python 3.14), cannot send the values of a generator, and leaves a worker
and a resource tracker behind when its parent is killed. Its `spawn` method also imports the parent's `__main__`
(the command line, a benchmark or pytest) in the child.
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
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Literal, NamedTuple

from featurize.execution.import_path import INSTALLATION, SAFE_PATH

_LINES_KEPT = 20  # of standard error
# Time to read the last lines after the child has ended: a process that it started may keep standard error open.
_SECONDS_FOR_LAST_LINES = 1.0
# Not `-m`: if the parent was started in the folder of the installation, that is on no search path. It goes first
# only then, because modules of `site-packages` must not come before the standard library.
# `featurize` is imported from there, whatever else in PYTHONPATH has its name.
_START = """
import sys
known = sys.argv[1] in sys.path
sys.path.insert(0, sys.argv[1])
import featurize
if known:
    del sys.path[0]
from featurize.execution.child_process import serve
serve()
"""


class Message(NamedTuple):
    """A message from a child process.

    Attributes:
        kind: `yielded` for one value of a generator, or one that was sent. The last message is `returned`,
            `raised`, or `died` if the process ended before the function did.
        value: The value, the error, or a Death.
    """

    kind: Literal["yielded", "returned", "raised", "died"]
    value: Any


class Death(NamedTuple):
    """How a process ended.

    Attributes:
        status: Exit status; the negative signal number if a signal ended the process.
        last_line: Last non-blank line of standard error; empty if nothing was printed.
    """

    status: int
    last_line: str


class ChildProcess:
    """A process that runs one function; leaving the context kills it, even while it runs native code."""

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: object,
        sends: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process.

        Args:
            function: A module-level function or generator function.
            arguments: Its arguments. They, and the values that it yields and returns, must be picklable.
            sends: Whether the function's first argument is one more: a function of a value, for any thread, that
                sends the value to the parent.
            variables: Environment variables for the child.
        """
        task = pickle.dumps((function, arguments, sends))
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", "-c", _START, INSTALLATION]
        environment = {
            **os.environ,
            **SAFE_PATH,
            **(variables or {}),
        }  # for the processes that the child starts, too
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, process_group=0
        )
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
        """Return the next message.

        Args:
            timeout: Maximum time to wait, in seconds.

        Raises:
            TimeoutError: No message arrived in time.
        """
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def send_signal(self, signum: int) -> None:
        """Send a signal to the process; nothing happens if it has ended."""
        self._process.send_signal(signum)

    def kill(self) -> None:
        """Kill the process and wait until it has ended."""
        self._process.kill()
        self._process.wait()

    def _exchange(self, task: bytes) -> None:
        """Send the task, queue its messages, and queue the last one when the process has ended."""
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
            pass  # the process died
        except Exception as error:  # the error that the child sent cannot be unpickled
            last = Message("raised", error)
        self._process.stdout.close()
        status = self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # the rest of the task could not be sent
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


def serve() -> None:
    """Read a function from standard input, run it and write its messages to standard output."""
    tasks, messages = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Libraries, and processes that they start, must not read the task or write among the messages.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    function, arguments, sends = pickle.load(tasks)
    threading.Thread(target=_end_with_parent, args=(tasks.fileno(),), daemon=True).start()
    lock = threading.Lock()

    def send(value: object) -> None:
        with lock:
            _write(messages, "yielded", value)

    try:
        result = function(send, *arguments) if sends else function(*arguments)
        if isinstance(result, types.GeneratorType):
            for value in result:
                _write(messages, "yielded", value)
            result = None
    except Exception as error:
        _write(messages, "raised", error)
    else:
        _write(messages, "returned", result)


def _write(messages: BinaryIO, kind: str, value: object) -> None:
    messages.write(pickle.dumps((kind, value)))  # pickled first: a failure must not leave a partial message
    messages.flush()


def _end_with_parent(tasks: int) -> None:
    """Exit when standard input is closed, because the parent has ended."""
    while os.read(tasks, 1):
        pass
    os._exit(1)
