"""Which process made a temporary file or holds a lock, and whether that process is gone.

A temporary file is named after the process that writes it, so that a later run removes what a killed one left, and
nothing else: neither a file of another program, nor one that another process is still writing.
"""

import contextlib
import functools
import os
import re
import socket
import time
import uuid

_PREFIX, _SUFFIX = ".earmark-", ".tmp"
_NAME = re.compile(r"\.earmark-(?P<process>.+)-[0-9a-f]{12}\.tmp")
_PROCESS = re.compile(r"(?P<machine>.+)-(?P<pid>[1-9]\d{0,9})-(?P<started>\d{1,20})")
_UNKNOWN_START = 0
# Whether a process of another machine is gone cannot be seen; a file is written in less time than this.
_SECONDS_ELSEWHERE = 86400.0


def this_process() -> str:
    """Return an identifier of this process: its machine, its ID, and when it started."""
    pid = os.getpid()
    return f"{_machine()}-{pid}-{_started(pid) or _UNKNOWN_START}"


def is_gone(process: str) -> bool | None:
    """Return whether a process has ended; None if that cannot be seen from here.

    Args:
        process: An identifier from `this_process`, of any machine.
    """
    match = _PROCESS.fullmatch(process)
    if not match or match["machine"] != _machine():
        return None
    pid, started = int(match["pid"]), int(match["started"])
    if _UNKNOWN_START in (started, _started(os.getpid()) or _UNKNOWN_START):
        return not _exists(pid)
    return _started(pid) != started


def temporary_name() -> str:
    """Return a new name for a temporary file or folder of this process."""
    return f"{_PREFIX}{this_process()}-{uuid.uuid4().hex[:12]}{_SUFFIX}"


def is_abandoned(name: str, modified: float) -> bool:
    """Return whether a file has a name from `temporary_name` of a process that is gone.

    Args:
        name: Name of the file, without its folder.
        modified: When it was last written, in seconds since the epoch. It decides only for processes of other
            machines, and of other containers on this one.
    """
    match = _NAME.fullmatch(name)
    if not match or not _PROCESS.fullmatch(match["process"]):
        return False
    gone = is_gone(match["process"])
    return time.time() - modified > _SECONDS_ELSEWHERE if gone is None else gone


@functools.cache
def _machine() -> str:
    """Return the name of this machine; containers on it have other process IDs, and so other names."""
    host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64] or "localhost"
    with contextlib.suppress(OSError):
        return f"{host}-{os.stat('/proc/self/ns/pid').st_ino}"
    return host


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it has ended or /proc is missing."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
        return None if state in b"ZX" else int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


def started_at(pid: int) -> float | None:
    """Return when a process of this machine started, in seconds since the epoch; None if there is none.

    Where /proc is missing, a process that exists counts as started at 0.
    """
    if _started(os.getpid()) is None:
        return 0.0 if _exists(pid) else None
    ticks = _started(pid)
    if ticks is None:
        return None
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
