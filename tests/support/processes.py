"""Processes that a command has started, and whether one handles a signal."""

import signal
from pathlib import Path

import psutil

MARK = "EARMARK_TRIAL"


def processes(mark: str) -> list[str]:
    """Return the command lines of the processes that have a mark in their environment."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline", "status"]):
        environment = process.info["environ"] or {}
        if environment.get(MARK) == mark and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def handles(pid: int, signum: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal; the interpreter itself has none for SIGTERM."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) >> (signum - 1) & 1)
