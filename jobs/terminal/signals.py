"""Ctrl-C and SIGTERM: how a command receives them, and how its process ends.

A command says at once that it stops, because the sender of the signal may kill it before clean-up is finished, and
the clean-up has a limit. Libraries may swallow the exception that a handler raises (a destructor does, and so does
native code that calls back), so the process also ends where nobody obeys.
"""

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from jobs.errors import Interrupted

Handler = Callable[[int, FrameType | None], None]

_STOP_REQUESTS = (signal.SIGINT, signal.SIGTERM)
_CLEANUP_SECONDS = 10.0
_ERASE_LINE = b"\r\x1b[K"


@contextmanager
def handled(handler: Handler, signums: Sequence[int] = _STOP_REQUESTS) -> Iterator[Callable[[], None]]:
    """Install a handler for some signals, and restore the earlier handlers on exit.

    In a thread other than the main one, which receives no signals, nothing is installed.

    Yields:
        A function that restores them sooner.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {signum: signal.signal(signum, handler) for signum in signums if main}

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

    A second signal acts as it would have acted before: its sender does not want to wait. So does a signal that the
    body does not obey, because it arrives after the last step: a cross-validation would go on without it.

    Yields:
        A function that returns the number of the signal that has arrived, None so far.
    """
    arrived: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)
        restore()

    with handled(note) as restore:
        yield lambda: arrived[0] if arrived else None
    if arrived:
        signal.raise_signal(arrived[0])


@contextmanager
def raised_signals() -> Iterator[None]:
    """Raise `Interrupted` when a signal arrives."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum, "")

    with handled(interrupt):
        yield


@contextmanager
def stopped_by_signals(sentence: str) -> Iterator[Callable[[], int | None]]:
    """Write a sentence on standard error and raise SystemExit (128 + signal) when a signal arrives.

    At a second signal, or ten seconds later, the process ends without further clean-up.

    Args:
        sentence: What to write.

    Yields:
        A function that returns the number of the signal that has arrived, None so far.
    """
    arrived: list[int] = []
    # Output of native libraries is hidden by redirecting descriptor 2 at times; the sentence is shown even then.
    with contextlib.ExitStack() as stack:
        error_output = _duplicate(2)
        if error_output is not None:
            stack.callback(os.close, error_output)

        def stop(signum: int, frame: FrameType | None) -> None:
            if arrived:
                end_process(128 + arrived[0])
            arrived.append(signum)
            if error_output is not None:
                before = _ERASE_LINE if os.isatty(error_output) else b""
                with contextlib.suppress(OSError):
                    os.write(error_output, before + sentence.encode() + b"\n")
            # The interpreter prints an exception that a destructor swallows, this one as well.
            stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
            sys.unraisablehook = lambda unraisable: None
            threading.Thread(target=_end_later, args=(128 + signum,), daemon=True).start()
            raise SystemExit(128 + signum)

        stack.enter_context(handled(stop))
        yield lambda: arrived[0] if arrived else None
        if arrived:  # a destructor, or native code that calls back, swallowed the exception
            raise SystemExit(128 + arrived[0])


def end_with(command: Callable[[], object]) -> NoReturn:
    """Run a command, and end this process with its exit status; 128 + signal if one arrives during its imports."""
    with stopped_by_signals("Stopped.") as arrived:
        with contextlib.suppress(SystemExit):  # raised by a signal that arrives after the command
            status, signum = _run_to_its_end(command), arrived()
            end_process(status if signum is None else 128 + signum)
        end_process(128 + (arrived() or 0))


def _run_to_its_end(command: Callable[[], object]) -> int:
    """Run a command, and return its exit status."""
    try:
        command()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end_process(status: int) -> NoReturn:
    """End this process and those that it has started.

    The interpreter's own way out runs the destructors of native libraries while their threads still work; some end
    in SIGABRT or SIGSEGV after a command has done what it should.
    """
    for stream in (sys.stdout, sys.stderr):
        # A pipe that nobody reads, a closed stream, or one whose own flush this has interrupted.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    _kill_descendants()
    os._exit(status)


def _end_later(status: int) -> NoReturn:
    time.sleep(_CLEANUP_SECONDS)
    end_process(status)


def _kill_descendants() -> None:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there are none, as in most commands
        return
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # it is closed
        return None
